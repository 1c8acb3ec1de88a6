"""Weights that a run keeps beside those that it trains: their moving average, and those of its best epoch."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from crkd_core.config.train import WeightsKind

_AVERAGE, _BEST = "average/", "best/"


@dataclass(frozen=True)
class ScoredEpoch:
    """A validated epoch.

    Attributes:
        epoch: counted from 1; `step`: optimiser steps that were done.
        mean_ap, nds: scores, 0 to 1.
    """

    epoch: int
    step: int
    mean_ap: float
    nds: float


def average_decay(step: int, decay: float) -> float:
    """The share of the old average that is left after a step (counted from 0): ``(1 + step) / (10 + step)`` at first.

    Source: TensorFlow's ExponentialMovingAverage with ``num_updates``.
    """
    return min(decay, (1 + step) / (10 + step))


class KeptWeights:
    """The moving average of a module's state, and its state at the best validated epoch.

    The average is over parameters and floating-point buffers (the statistics of batch norms); integers are copied.

    Args:
        decay: of the average, see :func:`average_decay`; 0: none is kept.
        metric: the score by which an epoch is the best.

    Attributes:
        best_epoch: None before the first validated epoch.
    """

    def __init__(self, module: nn.Module, decay: float, metric: str) -> None:
        self._module = module
        self._decay = decay
        self._metric = metric
        self._average = _copied(module.state_dict()) if decay else {}
        self._best: dict[str, Tensor] = {}
        self.best_epoch: ScoredEpoch | None = None

    def average(self, step: int) -> None:
        """Take the weights after a step (counted from 0) into the average."""
        state = self._module.state_dict() if self._average else {}
        floats = [name for name, tensor in state.items() if tensor.is_floating_point()]
        if floats:
            update = get_ema_multi_avg_fn(average_decay(step, self._decay))
            update([self._average[name] for name in floats], [state[name] for name in floats], None)
        for name in state.keys() - set(floats):
            self._average[name].copy_(state[name])

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The module with its average, where there is one, for the length of the block."""
        if not self._average:
            yield
            return
        trained = _copied(self._module.state_dict())
        self._module.load_state_dict(self._average)
        try:
            yield
        finally:
            self._module.load_state_dict(trained)

    def compare(self, scored: ScoredEpoch) -> None:
        """Keep the module's present state where no earlier epoch was as good."""
        if self.best_epoch is None or getattr(scored, self._metric) > getattr(self.best_epoch, self._metric):
            self.best_epoch = scored
            self._best = {name: tensor.detach().cpu().clone() for name, tensor in self._module.state_dict().items()}

    def by_kind(self) -> dict[WeightsKind, dict[str, Tensor]]:
        """The state of every kind that there is."""
        kinds: dict[WeightsKind, dict[str, Tensor]] = {
            "last": self._module.state_dict(),
            "ema": self._average,
            "best": self._best,
        }
        return {kind: state for kind, state in kinds.items() if state}

    def tensors(self) -> dict[str, Tensor]:
        """As a checkpoint holds them beside the module's own."""
        average = {_AVERAGE + name: tensor for name, tensor in self._average.items()}
        return average | {_BEST + name: tensor for name, tensor in self._best.items()}

    def facts(self) -> dict[str, Any] | None:
        """What a checkpoint holds beside them."""
        return asdict(self.best_epoch) if self.best_epoch is not None else None

    def restore(self, tensors: Mapping[str, Tensor], facts: dict[str, Any] | None) -> None:
        """Continue with what a checkpoint holds.

        Raises:
            KeyError, TypeError, RuntimeError: it holds something else.
        """
        for name, tensor in self._average.items():
            tensor.copy_(tensors[_AVERAGE + name])
        self.best_epoch = None if facts is None else ScoredEpoch(**facts)
        if self.best_epoch is not None:
            self._best = {name: tensors[_BEST + name] for name in self._module.state_dict()}


def _copied(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in state.items()}
