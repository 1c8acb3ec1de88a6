"""How the samples of a step are divided among processes and batches, and which runs may be continued on others."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from crkd_core.progress import format_count


@dataclass(frozen=True)
class Division:
    """How the samples of a run's steps are divided, from one step on.

    Any division of equally many samples a step gives the same samples in every step. Other than that the results agree
    to rounding where nothing depends on which samples are together: losses are divided by the objects of each process's
    own batches (unless ``train.normalise_over_ranks``), batch norms see one batch of one process (unless
    ``train.sync_batch_norm``; accumulated batches in any case), and dropout has other random numbers.

    Attributes:
        from_step: first step that is divided so.
        batch_size, accumulate: samples a batch, and batches a step of each process.
    """

    from_step: int
    processes: int
    batch_size: int
    accumulate: int = 1

    @property
    def samples(self) -> int:
        """Samples a step."""
        return self.processes * self.batch_size * self.accumulate

    @property
    def per_process(self) -> int:
        """Samples a step and process."""
        return self.batch_size * self.accumulate

    def is_like(self, other: "Division") -> bool:
        """Whether both divide alike, from whichever step on."""
        return self._numbers == other._numbers

    @property
    def _numbers(self) -> tuple[int, int, int]:
        return self.processes, self.batch_size, self.accumulate

    def __str__(self) -> str:
        batches = f"{self.accumulate} x {self.batch_size}" if self.accumulate > 1 else str(self.batch_size)
        return f"{format_count(self.processes, 'process', 'processes')} x {batches}"

    @staticmethod
    def of_settings(settings: Mapping[str, Any]) -> "Division":
        """That of a training run's recorded settings.

        Raises:
            KeyError, TypeError: they are not a training run's.
        """
        run = settings["run"]
        return Division(0, settings["processes"], run["batch_size"], run.get("accumulate", 1))


def differs_in_division(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether recorded settings of two training runs are equal but for how the samples of a step are divided."""
    return _undivided(old) == _undivided(new) and old != new


def _undivided(settings: Mapping[str, Any]) -> Any:
    run = {name: value for name, value in settings["run"].items() if name not in ("batch_size", "accumulate")}
    others = {name: value for name, value in settings.items() if name not in ("processes", "run")}
    return json.loads(json.dumps({"run": run, **others}))


def division_advice(old: Division, new: Division, section: str) -> str:
    """What to do where a run cannot be continued because a step would have another number of samples.

    Args:
        section: of the configuration, which has batch_size and accumulate.
    """
    problem = (
        f"the stopped run takes {old.samples} samples a step ({old}), this one {new.samples} ({new}); continue it "
    )
    if old.samples % (new.processes * new.batch_size) == 0:
        return f"{problem}with --set {section}.accumulate={old.samples // (new.processes * new.batch_size)}"
    if old.samples % new.processes == 0:
        batch_size = old.samples // new.processes
        return f"{problem}with --set {section}.batch_size={batch_size} --set {section}.accumulate=1"
    return f"{problem}on a number of processes that divides {old.samples}"
