"""Running a training plan: the artifact's folder, and the loop around a training step."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from crkd_core.artifacts.workspace import Artifact, Workspace
from crkd_core.artifacts.writer import ArtifactWriter
from crkd_core.config.train import WeightsKind
from crkd_core.cores import note_loaders
from crkd_core.data.dataset import SampleDataset
from crkd_core.evaluation.nuscenes.metrics import Metrics
from crkd_core.models.autocast import use_channels_last
from crkd_core.models.compiling import check_compiler, compile_dense_parts
from crkd_core.models.detector import Detector, build_detector
from crkd_core.progress import Progress, SilentProgress
from crkd_core.training.batches import EpochBatches
from crkd_core.training.checkpoint import CHECKPOINT_NAME
from crkd_core.training.distributed import ProcessGroup, process_group, shared_writer
from crkd_core.training.gradients import shared_layers
from crkd_core.training.kept_weights import KeptWeights
from crkd_core.training.loop import Trainer
from crkd_core.training.recomputation import recompute
from crkd_core.training.synchronised_norm import synchronise_norms
from crkd_core.training.trained import write_trained
from crkd_core.training.training_plan import TrainingPlan
from crkd_core.training.validation import Validation, open_validation

_DETECTOR = "detector."

StepBuilder = Callable[[Detector, torch.device], nn.Module]
"""Gives a fresh detector its first weights and builds the training step around it, for a device."""


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


def run_training(
    plan: TrainingPlan, dataset: SampleDataset, build_step: StepBuilder, workspace: Workspace, progress: Progress
) -> TrainResult | None:
    """Train one detector from the beginning or its last checkpoint to a finished artifact.

    Returns None on every process but the first of a distributed run.

    Raises:
        TrainingError: the loss is no longer finite.
        StaleArtifactError: another run of that name is in the way.
        ConfigError: it is to be compiled, and there is no compiler that works.
    """
    began = time.monotonic()
    with process_group(plan.device) as processes:
        if plan.config.train.compile:
            check_compiler(processes.device)
        # Before anything is written: what cannot be built would leave an unfinished run in the way.
        torch.manual_seed(plan.config.train.seed)
        detector = build_detector(plan.detector, plan.config.data)
        shown = progress if processes.is_first else SilentProgress()
        validation = open_validation(plan, dataset, processes, shown)
        with shared_writer(workspace, processes, plan.output(processes)) as (writer, folder):
            if writer is not None:
                writer.warn(progress)
            if folder is None:
                return _reused(writer, began)
            batches = EpochBatches(dataset, plan, processes)
            trainer, losses = _train(plan, detector, build_step, batches, validation, folder, processes, shown)
            if writer is None:
                return None
            weights = _weights(trainer.kept)
            write_trained(folder, weights.pop(plan.schedule.final_weights), plan.config, weights)
            epochs, steps = plan.schedule.epochs, trainer.total_steps
            facts = {"epochs": epochs, "steps": steps, "final": losses, **_facts(plan, trainer)}
            artifact = writer.finish(facts, scratch=(CHECKPOINT_NAME,))
            return TrainResult(artifact, epochs, steps, losses, time.monotonic() - began, reused=False)


def _weights(kept: KeptWeights) -> dict[WeightsKind, dict[str, Tensor]]:
    """The detector's weights of every kind, without what only its training step has."""
    return {
        kind: {name.removeprefix(_DETECTOR): tensor for name, tensor in state.items() if name.startswith(_DETECTOR)}
        for kind, state in kept.by_kind().items()
    }


def _facts(plan: TrainingPlan, trainer: Trainer) -> dict[str, Any]:
    """What is worth knowing of a finished run beside its length and losses, where there is something to know."""
    facts: dict[str, Any] = {"split": plan.options["split"]} if "split" in plan.options else {}
    if trainer.kept.best_epoch is not None:
        facts["best"] = {"by": plan.config.train.validate_metric, **asdict(trainer.kept.best_epoch)}
    if len(trainer.divisions) > 1:
        facts["divisions"] = [asdict(division) for division in trainer.divisions]
    return facts


def _train(
    plan: TrainingPlan,
    detector: Detector,
    build_step: StepBuilder,
    batches: EpochBatches,
    validation: Validation | None,
    folder: Path,
    processes: ProcessGroup,
    progress: Progress,
) -> tuple[Trainer, dict[str, float]]:
    """Train `detector` in place; returns what did it, and the mean of each loss term over the last epoch."""
    train = plan.config.train
    note_loaders(train.workers, progress)
    batches.warn_of_repeats(progress)
    watched = shared_layers(detector) if train.log_gradients else {}
    step = build_step(detector, processes.device)
    if train.sync_batch_norm:
        synchronise_norms(step, processes)
    if train.compile:
        compile_dense_parts(detector)
    recompute(detector, train.recompute)
    use_channels_last(step)

    def score() -> Metrics | None:
        return validation.score(detector, progress) if validation is not None else None

    trainer = Trainer(
        step,
        plan,
        batches,
        folder,
        processes,
        watched,
        score if validation is not None else None,
    )
    if trainer.first_step:
        progress.message(f"continuing {plan.name} at step {trainer.first_step} of {trainer.total_steps}")
        if len(trainer.divisions) > 1:
            before, now = trainer.divisions[-2:]
            progress.warning(
                f"a step's {now.samples} samples are now {now}, before {before}: every step keeps its samples, the "
                "weights will differ as those of runs on other processes do (see train.normalise_over_ranks)"
            )
    return trainer, trainer.fit(progress)


def _reused(writer: ArtifactWriter | None, began: float) -> TrainResult | None:
    if writer is None or writer.finished is None:
        return None
    facts = writer.finished.manifest.facts
    return TrainResult(
        writer.finished, facts["epochs"], facts["steps"], facts["final"], time.monotonic() - began, reused=True
    )
