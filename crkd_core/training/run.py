"""What the two training stages share: the run's folder, its data and the loop around a training step."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from crkd_core.artifacts.command import Command
from crkd_core.artifacts.manifest import InputRef
from crkd_core.artifacts.workspace import Artifact, ArtifactWriter, Workspace
from crkd_core.config.models import DetectorConfig
from crkd_core.config.schema import Config
from crkd_core.config.train import RunConfig
from crkd_core.cores import note_loaders
from crkd_core.data.dataset import SampleDataset
from crkd_core.data.loader import LoaderOptions, load_batches
from crkd_core.data.samples import Batch
from crkd_core.data.sampling import TrainingSampler
from crkd_core.models.compiling import check_compiler, compile_dense_parts
from crkd_core.models.detector import Detector, build_detector
from crkd_core.progress import Progress, SilentProgress
from crkd_core.training.checkpoint import CHECKPOINT_NAME
from crkd_core.training.distributed import ProcessGroup, process_group
from crkd_core.training.gradients import shared_layers
from crkd_core.training.loop import Trainer, TrainingPlan
from crkd_core.training.trained import write_trained

# Settings that change how a run computes, not what: they may differ when it is continued.
_INCIDENTAL = {
    "compile",
    "log_gradients",
    "workers",
    "loader_timeout_s",
    "checkpoint_every_epochs",
    "checkpoint_every_minutes",
}


@dataclass(frozen=True)
class TrainResult:
    """A finished training run.

    Attributes:
        artifact: the trained model.
        epochs, steps: length of the run.
        losses: mean of each loss term over the last epoch.
        seconds: wall time of this call.
        reused: an equal run was finished already.
    """

    artifact: Artifact
    epochs: int
    steps: int
    losses: dict[str, float]
    seconds: float
    reused: bool


@dataclass(frozen=True)
class RunSpec:
    """One training run before it starts.

    Attributes:
        stage, name: where the trained model will live.
        role: "teacher" or "student".
        command: what remakes it.
        detector: the detector to train; `run` its schedule.
        inputs: artifacts it is made from.
        options: further settings that determine the result.
    """

    stage: str
    name: str
    role: str
    command: Command
    config: Config
    detector: DetectorConfig
    run: RunConfig
    inputs: dict[str, InputRef]
    options: dict[str, Any]

    def settings(self, processes: int) -> dict[str, Any]:
        """What of all this determines the weights."""
        train = self.config.train.model_dump(mode="json", exclude={"teacher", "student", "distill"} | _INCIDENTAL)
        return {
            "role": self.role,
            "detector": self.detector.model_dump(mode="json"),
            "data": self.config.data.model_dump(mode="json"),
            "run": self.run.model_dump(mode="json"),
            "train": train,
            "processes": processes,
            **self.options,
        }


# Builds the training step around a fresh detector, on a device.
StepBuilder = Callable[[Detector, torch.device], nn.Module]


@contextmanager
def shared_writer(
    workspace: Workspace, processes: ProcessGroup, stage: str, name: str, **how: Any
) -> Iterator[tuple[ArtifactWriter | None, Path | None]]:
    """The first process opens the artifact; all get its folder, or None where an equal one is finished."""
    if not processes.is_first:
        folder = processes.broadcast(None)
        yield None, Path(str(folder)) if folder else None
        return
    with workspace.write(stage, name, **how) as writer:
        processes.broadcast(None if writer.finished else str(writer.path))
        yield writer, None if writer.finished else writer.path


def pin_processes(command: Command, processes: ProcessGroup) -> Command:
    """The command of a run, such that it has as many processes also where another launcher started them."""
    is_local = os.environ.get("LOCAL_WORLD_SIZE") == str(processes.size)
    if processes.size == 1 or command.has("--gpus") or command.has("--processes") or not is_local:
        return command
    return command.setting("--gpus" if processes.device.type == "cuda" else "--processes", processes.size)


def run_training(
    spec: RunSpec,
    build_step: StepBuilder,
    dataset: SampleDataset,
    workspace: Workspace,
    progress: Progress,
    device: str,
    force: bool,
    resume: bool,
    views: int | None = None,
) -> TrainResult | None:
    """Train one detector from the beginning or its last checkpoint to a finished artifact.

    Returns None on every process but the first of a distributed run.

    Raises:
        TrainingError: the loss is no longer finite.
        StaleArtifactError: another run of that name is in the way.
        ConfigError: it is to be compiled, and there is no compiler that works.
    """
    began = time.monotonic()
    with process_group(device) as processes:
        if spec.config.train.compile:
            check_compiler(processes.device)
        # Before anything is written: what cannot be built would leave an unfinished run in the way.
        torch.manual_seed(spec.config.train.seed)
        detector = build_detector(spec.detector, spec.config.data)
        how = {
            "command": pin_processes(spec.command, processes),
            "settings": spec.settings(processes.size),
            "inputs": spec.inputs,
            "force": force,
            "resume": resume,
            "irreplaceable": (CHECKPOINT_NAME,),
        }
        with shared_writer(workspace, processes, spec.stage, spec.name, **how) as (writer, folder):
            if writer is not None:
                writer.warn(progress)
            if folder is None:
                return _reused(writer, began)
            if not processes.is_first:
                progress = SilentProgress()
            note_loaders(spec.config.train.workers, progress)
            batches = EpochBatches(dataset, spec.config, spec.run, processes, views)
            plan = TrainingPlan(
                description=f"{spec.stage} {spec.name}",
                folder=folder,
                batches=batches,
                steps_per_epoch=batches.steps_per_epoch,
                run=spec.run,
                train=spec.config.train,
                processes=processes,
                shared=shared_layers(detector) if spec.config.train.log_gradients else {},
            )
            step = build_step(detector, processes.device)
            if spec.config.train.compile:
                compile_dense_parts(detector)
            trainer = Trainer(step, plan)
            if trainer.first_step:
                progress.message(f"continuing {spec.name} at step {trainer.first_step} of {plan.total_steps}")
            losses = trainer.fit(progress)
            if writer is None:
                return None
            write_trained(folder, detector, spec.config)
            facts = {"epochs": spec.run.epochs, "steps": plan.total_steps, "final": losses}
            facts |= {"split": spec.options["split"]} if "split" in spec.options else {}
            artifact = writer.finish(facts, scratch=(CHECKPOINT_NAME,))
            return TrainResult(artifact, spec.run.epochs, plan.total_steps, losses, time.monotonic() - began, False)


def _reused(writer: ArtifactWriter | None, began: float) -> TrainResult | None:
    if writer is None or writer.finished is None:
        return None
    facts = writer.finished.manifest.facts
    return TrainResult(
        writer.finished, facts["epochs"], facts["steps"], facts["final"], time.monotonic() - began, reused=True
    )


class EpochBatches:
    """The batches of any epoch for one process, from any position on, always the same."""

    def __init__(
        self, dataset: SampleDataset, config: Config, run: RunConfig, processes: ProcessGroup, views: int | None
    ) -> None:
        self._dataset = dataset
        self._config = config
        self._run = run
        self._processes = processes
        self._views = views

    @property
    def steps_per_epoch(self) -> int:
        """Batches an epoch and process."""
        return len(self._sampler(0, 0))

    def _sampler(self, epoch: int, start: int) -> TrainingSampler:
        return TrainingSampler(
            self._dataset,
            batch_size=self._run.batch_size,
            epoch=epoch,
            rank=self._processes.rank,
            world_size=self._processes.size,
            seed=self._config.train.seed,
            views=self._views,
            start=start,
            class_balanced=self._config.data.class_balanced,
            fraction=self._config.data.train_fraction,
        )

    def __call__(self, epoch: int, start: int) -> Iterator[Batch]:
        batches = self._sampler(epoch, start)
        options = LoaderOptions(self._config.train.workers, self._config.train.loader_timeout_s)
        return load_batches(self._dataset, batches, options, self._processes.device)
