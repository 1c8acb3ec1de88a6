"""Stage ``distill``: the camera-radar student, with any subset of the four losses or none."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from crkd_core.artifacts.command import Command
from crkd_core.artifacts.configuration import pin_configuration
from crkd_core.artifacts.workspace import Artifact, Workspace
from crkd_core.config.distill import LOSS_NAMES
from crkd_core.config.models import DetectorConfig
from crkd_core.config.schema import Config
from crkd_core.config.train import RunConfig
from crkd_core.data.dataset import SampleDataset
from crkd_core.datasets.prepared.source import (
    PreparedSource,
    check_objects,
    open_prepared,
    pin_machine,
    pin_split,
    split_settings,
    warn_of_misfit,
)
from crkd_core.distillation.losses import prepare_student
from crkd_core.distillation.objective import build_objective
from crkd_core.distillation.requirements import check_terms
from crkd_core.errors import UsageError
from crkd_core.models.detector import Detector
from crkd_core.progress import Progress
from crkd_core.stages.extract import warn_of_poor_teacher
from crkd_core.teacher_cache.teacher_input import TeacherInput
from crkd_core.training.initial_weights import find_backbone, find_start, load_backbone, load_start, pin_backbone
from crkd_core.training.run import RunSpec, TrainResult, run_training
from crkd_core.training.steps import DetectionStep, DistillationStep

STAGE = "distill"
PLAIN, CONTROL, DISTILLED = "plain", "control", "crkd"


@dataclass(frozen=True)
class DistillRequest:
    """How to train the student.

    Attributes:
        losses: terms of the objective; () is no distillation; None is what the configuration says.
        teacher: take the teacher targets from the cache, or run the teacher in every step.
        targets: name of the teacher targets; None for the latest.
        live_teacher: name of the teacher that is run in every step; None for the latest.
        init: name of the student run to start from; "none" for random weights; "auto" for the plain student where
            there is one (and random weights for the plain student itself).
        backbone: name of imported weights of the image backbone, or "none"; None for what the configuration says.
        name: name of the run; None for ``plain`` (no losses, random weights), ``control`` (no losses, from another
            run), ``crkd`` (all losses) or ``crkd-<losses>``.
        split: samples to train on; ``trainval`` for train and val together.
        command: as it was given, for the manifest; None where there was none.
    """

    config: Config
    losses: tuple[str, ...] | None = None
    teacher: Literal["cache", "online"] = "cache"
    targets: str | None = None
    live_teacher: str | None = None
    init: str = "auto"
    backbone: str | None = None
    name: str | None = None
    prepared: str | None = None
    nuscenes: Path | None = None
    device: str = "auto"
    force: bool = False
    resume: bool = True
    split: str = "train"
    command: Command | None = None


def distill(request: DistillRequest, workspace: Workspace, progress: Progress) -> TrainResult | None:
    """Train the student: L = L_det + 100 L_csrd + 10 L_msfd(camera) + 10 L_msfd(fused) + 0.25 L_reld + L_respd.

    Without losses it is the plain student (baseline), or, from the plain student's weights, the equal-epoch control.
    In cache mode no LiDAR file is opened. Returns None on every process but the first of a distributed run.

    Raises:
        MissingArtifactError: prepared data, teacher targets or the run to start from are missing.
        StaleArtifactError: the targets were made with another teacher, grid or loss settings.
        UsageError: a loss does not exist, or the run is to start from itself.
        DatasetError: there is no object to train on.
        ConfigError: a loss needs a sensor that student or teacher does not have, or maps of another width.
    """
    student = _plan_student(request, workspace, progress)
    config, losses = student.config, student.losses
    teacher = _teacher_input(request, config, workspace) if losses else None
    modalities = student.detector.modalities if teacher is None else teacher.with_own(student.detector.modalities)
    made_from = teacher.artifact.manifest.inputs.get("prepared") if teacher is not None else None
    source = PreparedSource(request.split, made_from, progress)
    prepared = open_prepared(
        workspace, request.prepared, request.nuscenes, config.data, modalities, f"crkd {STAGE}", source
    )
    tokens = prepared.tokens(request.split)
    check_objects(prepared, tokens, config.data)
    warn_of_misfit(prepared, config.data, modalities, progress)
    if teacher is not None:
        teacher.check_fits(prepared, tokens, request.split)
        check_terms(config.distill, config.data.grid.build(), student.detector, teacher.detector_config)
        warn_of_poor_teacher(teacher.artifact, progress)
    if losses and student.start is None:
        progress.warning(
            "the workspace has no plain student to start from, so the student starts from random weights; "
            f"the published recipe trains one first: {workspace.command(f'crkd {STAGE} --losses none')}"
        )
    dataset = SampleDataset(
        prepared,
        tokens,
        config.data,
        modalities,
        bev=config.data.augment_student,
        seed=config.train.seed,
        targets=teacher.shards if teacher is not None else None,
        mirror_targets=teacher is not None and teacher.flips,
    )
    inputs = {"prepared": prepared.artifact, "start": student.start, "backbone": student.backbone}
    if teacher is not None:
        inputs[teacher.input_role] = teacher.artifact
    spec = RunSpec(
        stage=STAGE,
        name=student.name,
        role="student",
        command=_command(request, workspace, student, prepared.artifact, teacher),
        config=config,
        detector=student.detector,
        run=student.run,
        inputs={role: artifact.reference() for role, artifact in inputs.items() if artifact is not None},
        options={
            **split_settings(prepared, request.split),
            "distill": config.distill.model_dump(mode="json") if losses else None,
            "teacher": request.teacher if losses else None,
        },
    )
    progress.message(
        f"{student.name}: {' + '.join(losses) or 'no distillation'}, from "
        f"{student.start.label if student.start else 'new weights'}, {spec.run.epochs} epochs, {len(dataset)} samples"
    )
    return run_training(
        spec,
        lambda model, device: student.build_step(model, teacher, device),
        dataset,
        workspace,
        progress,
        request.device,
        request.force,
        request.resume,
        views=teacher.views if teacher is not None else None,
    )


@dataclass(frozen=True)
class _Student:
    """What is trained, from where, and for how long.

    Attributes:
        start: the student run whose weights it begins with; None for new weights.
        backbone: imported weights of its image backbone, where it begins with new weights.
    """

    name: str
    config: Config
    losses: tuple[str, ...]
    detector: DetectorConfig
    run: RunConfig
    start: Artifact | None
    backbone: Artifact | None

    def build_step(self, model: Detector, teacher: TeacherInput | None, device: torch.device) -> nn.Module:
        """Give a fresh detector its first weights, and build the training step around it."""
        config, grid = self.config, self.config.data.grid.build()
        if self.start is not None:
            load_start(model, self.start, may_be_new=("radar.calibration.", "radar.activation."))
        elif self.backbone is not None:
            load_backbone(model, self.backbone)
        prepare_student(model, config.distill)
        if teacher is None:
            return DetectionStep(model, self.detector.head, grid)
        objective = build_objective(config.distill, grid, model.fused_channels, self.detector, teacher.detector_config)
        source, until = teacher.source(device), config.distill.until
        return DistillationStep(model, self.detector.head, grid, objective, source, until)


def _plan_student(request: DistillRequest, workspace: Workspace, progress: Progress) -> _Student:
    losses = _checked_losses(request)
    config = _resolved(request.config, losses)
    start = _find_start(request, losses, workspace)
    plain = not losses and start is None
    detector = without_calibration(config.student) if plain else config.student
    run = config.train.student if plain else config.train.distill
    backbone = None
    if start is None:
        backbone = find_backbone(workspace, run, detector, f"crkd {STAGE}", progress, request.backbone)
    name = request.name or _default_name(losses, started=start is not None)
    return _Student(name, config, losses, detector, run, start, backbone)


def without_calibration(student: DetectorConfig) -> DetectorConfig:
    """The plain student: the radar calibration comes with distillation."""
    return student.model_copy(update={"radar": student.radar.model_copy(update={"calibration": False})})


def _checked_losses(request: DistillRequest) -> tuple[str, ...]:
    losses = request.config.distill.losses if request.losses is None else request.losses
    unknown = [loss for loss in losses if loss not in LOSS_NAMES]
    if unknown:
        raise UsageError(f"there is no loss called {unknown[0]!r}; expected none, or some of {', '.join(LOSS_NAMES)}.")
    return tuple(loss for loss in LOSS_NAMES if loss in losses)


def _resolved(config: Config, losses: tuple[str, ...]) -> Config:
    distill = config.distill.model_copy(update={"losses": losses})
    data = config.data
    if "radar_columns" in distill.released_quirks:
        data = data.model_copy(update={"released_radar_augmentation": True})
    return config.model_copy(update={"distill": distill, "data": data})


def _find_start(request: DistillRequest, losses: tuple[str, ...], workspace: Workspace) -> Artifact | None:
    if request.init == "none" or (request.init == "auto" and not losses):
        return None
    init = PLAIN if request.init == "auto" else request.init
    if request.init == "auto" and PLAIN not in workspace.names(STAGE):
        return None
    name = request.name or _default_name(losses, started=True)
    return find_start(workspace, STAGE, init, name, f"crkd {STAGE} --losses none --name {init}")


def _default_name(losses: tuple[str, ...], started: bool) -> str:
    if not losses:
        return CONTROL if started else PLAIN
    return DISTILLED if losses == LOSS_NAMES else "-".join((DISTILLED, *losses))


def _teacher_input(request: DistillRequest, config: Config, workspace: Workspace) -> TeacherInput:
    chosen = request.live_teacher if request.teacher == "online" else request.targets
    return TeacherInput(request.teacher, chosen, config, workspace, request.split, request.command)


def _command(
    request: DistillRequest, workspace: Workspace, student: "_Student", prepared: Artifact, teacher: TeacherInput | None
) -> Command:
    command = pin_configuration(request.command, STAGE, student.name, request.config, workspace)
    command = command.without("--teacher", "--targets").setting("--losses", ",".join(student.losses) or "none")
    command = command.setting("--name", student.name).setting("--init", student.start.name if student.start else "none")
    if teacher is not None and teacher.online:
        command = command.setting("--teacher", f"online:{teacher.artifact.name}")
    elif teacher is not None:
        command = command.setting("--targets", teacher.artifact.name)
    command = pin_split(command, request.split)
    command = pin_machine(command.setting("--prepared", prepared.name), request.nuscenes, request.device)
    if student.start is not None:
        return command.without("--backbone")
    return pin_backbone(command, student.detector, student.backbone)
