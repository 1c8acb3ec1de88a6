"""The gradients of one optimiser step: of one batch, or added up over several, on one process or many."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from crkd_core.data.samples import Batch
from crkd_core.models.autocast import autocast
from crkd_core.training.distributed import ProcessGroup
from crkd_core.training.steps import BatchTargets, LossCounts


class CountedStep(Protocol):
    """A step whose loss terms can be those of a part of a larger batch, see :class:`.steps.DetectionStep`."""

    def targets(self, batch: Batch, progress: float) -> BatchTargets: ...

    def count(self, targets: BatchTargets) -> LossCounts: ...


def in_steps(batches: Iterable[Batch], accumulate: int) -> Iterator[list[Batch]]:
    """The batches of each optimiser step, `accumulate` of them; what is left at the end is too few for a step."""
    remaining = iter(batches)
    while len(of_step := list(islice(remaining, accumulate))) == accumulate:
        yield of_step


class BatchShares:
    """The loss terms of every batch of a step, such that they add up to those of one batch of all samples.

    With a single batch a step, and losses normalised by each process's own objects, it is the step as it is. Otherwise
    the targets of all batches come first, and what the losses divide by is added up, over the processes too where
    `over_ranks` says so. Gradients then equal those of the one large batch up to rounding, as far as a sample's output
    does not depend on the others': batch norms in training do, see ``train.sync_batch_norm``.

    Args:
        step: maps a batch to named loss terms, `parallel`: the same, exchanging gradients between processes.
        dtype: to compute in; None: float32.
    """

    def __init__(
        self, step: nn.Module, parallel: nn.Module, processes: ProcessGroup, dtype: torch.dtype | None, over_ranks: bool
    ) -> None:
        self._step = step
        self._parallel = parallel
        self._processes = processes
        self._dtype = dtype
        self._over_ranks = over_ranks and processes.size > 1

    def terms(self, batches: Sequence[Batch], progress: float) -> Iterator[tuple[Batch, dict[str, Tensor]]]:
        """Each batch on the device, with its named loss terms; their backward pass comes before the next is asked for.

        Args:
            progress: the share of the run that lies behind (0 to below 1).
        """
        moved = [batch.to(self._processes.device) for batch in batches]
        if len(moved) == 1 and not self._over_ranks:
            yield moved[0], self._forward(moved[0], progress)
            return
        targets, counts = self._count(moved, progress)
        # Processes average their gradients, of which the sum is wanted.
        factor = self._processes.size if self._over_ranks else 1
        for number, (batch, of_batch) in enumerate(zip(moved, targets, strict=True), start=1):
            with self._exchanged(number == len(moved)):
                terms = self._forward(batch, progress, of_batch, counts)
                yield batch, {name: factor * term for name, term in terms.items()}

    def _forward(self, *arguments: object) -> dict[str, Tensor]:
        with autocast(self._dtype, self._processes.device):
            terms: dict[str, Tensor] = self._parallel(*arguments)
        return terms

    def _count(self, batches: Sequence[Batch], progress: float) -> tuple[list[BatchTargets], LossCounts]:
        step: CountedStep = self._step  # type: ignore[assignment]
        with autocast(self._dtype, self._processes.device):
            targets = [step.targets(batch, progress) for batch in batches]
        counts = LossCounts.total([step.count(of_batch) for of_batch in targets])
        return targets, counts.summed(self._processes.sum) if self._over_ranks else counts

    def _exchanged(self, is_last: bool) -> AbstractContextManager:
        """Around forward and backward pass of a batch: processes exchange gradients once a step, with its last."""
        if is_last or not isinstance(self._parallel, DistributedDataParallel):
            return nullcontext()
        return self._parallel.no_sync()
