"""One training run: what was asked for, and what was decided before it starts."""

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from crkd_core.artifacts.command import Command
from crkd_core.artifacts.workspace import Artifact
from crkd_core.artifacts.writer import ArtifactRequest
from crkd_core.config.models import DetectorConfig
from crkd_core.config.schema import Config
from crkd_core.config.split_names import TRAIN
from crkd_core.config.train import RunConfig
from crkd_core.training.checkpoint import CHECKPOINT_NAME
from crkd_core.training.distributed import ProcessGroup, pin_processes
from crkd_core.training.division import Division, differs_in_division, division_advice

_RUNS = ("teacher", "student", "distill")
# Settings that change how a run computes, not what: they may differ when it is continued.
_INCIDENTAL = {
    "compile",
    "recompute",
    "log_gradients",
    "workers",
    "loader_timeout_s",
    "checkpoint_every_epochs",
    "checkpoint_every_minutes",
}


@dataclass(frozen=True)
class TrainingRequest:
    """What is asked for, whichever detector is trained.

    Attributes:
        config: the resolved configuration.
        split: samples to train on; ``trainval`` for train and val together.
        prepared: name of the prepared data; None for the latest that have the split.
        nuscenes: where the data set is now, if it moved since it was prepared.
        backbone: name of imported weights of the image backbone, or "none"; None for what the configuration says.
        device: "auto", "cpu", "cuda" or "cuda:N".
        force: train anew although a run of that name exists; `resume`: continue a killed run.
        command: as it was given, for the manifest; None where there was none.
    """

    config: Config
    _: KW_ONLY
    split: str = TRAIN
    prepared: str | None = None
    nuscenes: Path | None = None
    backbone: str | None = None
    device: str = "auto"
    force: bool = False
    resume: bool = True
    command: Command | None = None


@dataclass(frozen=True)
class TrainingPlan:
    """One training run, decided in full: the only thing that is passed on from here to the last step.

    Attributes:
        stage, name: where the trained model will live.
        command: what remakes it.
        config: the resolved configuration; of it, `detector` is trained on `schedule`.
        inputs: artifacts it is made from, by role.
        options: further settings that determine the result.
        views: number of stored views of each sample; None where views are drawn freely.
        device, force, resume: as in :class:`TrainingRequest`.
    """

    stage: str
    name: str
    role: Literal["teacher", "student"]
    command: Command
    config: Config
    detector: DetectorConfig
    schedule: RunConfig
    inputs: Mapping[str, Artifact] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    views: int | None = None
    device: str = "auto"
    force: bool = False
    resume: bool = True

    @property
    def label(self) -> str:
        """What the progress bar says."""
        return f"{self.stage} {self.name}"

    def output(self, processes: ProcessGroup) -> ArtifactRequest:
        """The trained model as an artifact to be made."""
        return ArtifactRequest(
            self.stage,
            self.name,
            command=pin_processes(self.command, processes),
            settings=self.settings(processes.size),
            inputs={role: artifact.reference() for role, artifact in self.inputs.items()},
            force=self.force,
            resume=self.resume,
            irreplaceable=frozenset({CHECKPOINT_NAME}),
            misfit=partial(self._misfit, processes=processes.size),
        )

    @property
    def schedule_key(self) -> str:
        """The section of the configuration that `schedule` is."""
        train = self.config.train
        return next((f"train.{name}" for name in _RUNS if getattr(train, name) is self.schedule), "train")

    def division(self, processes: int) -> Division:
        """How the samples of its steps are divided on so many processes."""
        return Division(0, processes, self.schedule.batch_size, self.schedule.accumulate)

    def _misfit(self, stopped: Mapping[str, Any], processes: int) -> str | None:
        """See :attr:`.ArtifactRequest.misfit`: it may be continued with another division of equally many samples."""
        try:
            if not differs_in_division(stopped, self.settings(processes)):
                return None
            old, new = Division.of_settings(stopped), self.division(processes)
        except (KeyError, TypeError, AttributeError):
            return None
        return "" if old.samples == new.samples else division_advice(old, new, self.schedule_key)

    def settings(self, processes: int) -> dict[str, Any]:
        """What of all this determines the weights."""
        train = self.config.train.model_dump(mode="json", exclude={*_RUNS} | _INCIDENTAL)
        return {
            "role": self.role,
            "detector": self.detector.model_dump(mode="json"),
            "data": self.config.data.model_dump(mode="json"),
            "run": self.schedule.model_dump(mode="json"),
            "train": train,
            "processes": processes,
            **self.options,
        }
