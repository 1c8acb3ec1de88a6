"""Stage ``distill``: the camera-radar student, with any subset of the four losses or none."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from crkd_core.artifacts.command import Command
from crkd_core.artifacts.configuration import pin_configuration
from crkd_core.artifacts.workspace import Artifact, Workspace
from crkd_core.config.schema import Config
from crkd_core.data.dataset import SampleDataset
from crkd_core.datasets.prepared.same_data_set import configured_for_data, require_same_data_set
from crkd_core.datasets.prepared.source import pin_machine, pin_split, split_settings
from crkd_core.distillation.objective import build_objective
from crkd_core.distillation.requirements import check_terms
from crkd_core.models.detector import Detector
from crkd_core.progress import Progress, format_count
from crkd_core.teacher_cache.teacher_input import TeacherChoice, TeacherInput, find_teacher
from crkd_core.teacher_cache.teacher_score import warn_of_poor_teacher
from crkd_core.training.prepared_samples import open_samples
from crkd_core.training.run import TrainResult, run_training
from crkd_core.training.steps import DetectionStep, DistillationStep
from crkd_core.training.student import STAGE, Student, StudentRequest, choose_student
from crkd_core.training.training_plan import TrainingPlan


@dataclass(frozen=True)
class DistillRequest(StudentRequest):
    """Which student to train, and where its teacher targets come from.

    Attributes:
        teacher: take the teacher targets from the cache, or run the teacher in every step.
        targets: name of the teacher targets; None for the latest.
        live_teacher: name of the teacher that is run in every step; None for the latest.
    """

    teacher: Literal["cache", "online"] = "cache"
    targets: str | None = None
    live_teacher: str | None = None


def distill(request: DistillRequest, workspace: Workspace, progress: Progress) -> TrainResult | None:
    """Train the student on the detection loss and the weighted losses, L = L_det + L_kd (paper, section 3.3).

    Without losses it is the plain student (baseline), or, from the plain student's weights, the equal-epoch control.
    In cache mode no LiDAR file is opened. Returns None on every process but the first of a distributed run.

    Raises:
        MissingArtifactError: prepared data, teacher targets or the run to start from are missing.
        StaleArtifactError: the targets were made with another teacher, grid or loss settings.
        UsageError: a loss does not exist, or the run is to start from itself.
        DatasetError: there is no object to train on.
        ConfigError: a loss needs a sensor that student or teacher does not have, or maps of another width.
    """
    student = choose_student(request, workspace, progress)
    losses, start = student.losses, student.weights.start
    teacher = _find_teacher(request, student.config, workspace) if losses else None
    modalities = student.detector.modalities if teacher is None else teacher.with_own(student.detector.modalities)
    made_from = teacher.artifact.manifest.inputs.get("prepared") if teacher is not None else None
    prepared, tokens = open_samples(request, modalities, f"crkd {STAGE}", workspace, progress, made_from)
    student = student.configured(configured_for_data(student.config, prepared))
    config = student.config
    if start is not None:
        require_same_data_set(start, prepared)
    if teacher is not None:
        teacher.check_fits(prepared, tokens, request.split)
        check_terms(config.distill, config.data.grid.build(), student.detector, teacher.detector_config)
        warn_of_poor_teacher(teacher.artifact, progress)
    if losses and start is None:
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
    inputs = {"prepared": prepared.artifact, **student.weights.inputs}
    plan = TrainingPlan(
        stage=STAGE,
        name=student.name,
        role="student",
        command=_command(request, workspace, student, prepared.artifact, teacher),
        config=config,
        detector=student.detector,
        schedule=student.schedule,
        inputs=inputs if teacher is None else {**inputs, teacher.input_role: teacher.artifact},
        options={
            **split_settings(prepared, request.split),
            "distill": config.distill.model_dump(mode="json") if losses else None,
            "teacher": request.teacher if losses else None,
        },
        views=teacher.views if teacher is not None else None,
        device=request.device,
        force=request.force,
        resume=request.resume,
    )
    progress.message(
        f"{student.name}: {' + '.join(losses) or 'no distillation'}, from {start.label if start else 'new weights'}, "
        f"{format_count(plan.schedule.epochs, 'epoch')}, {format_count(len(dataset), 'sample')}"
    )

    def build_step(model: Detector, device: torch.device) -> nn.Module:
        student.prepare(model)
        head, grid, tasks = student.detector.head, config.data.grid.build(), config.dataset.head_tasks
        if teacher is None:
            return DetectionStep(model, head, grid, tasks)
        widths, distill = model.fused_channels, config.distill
        objective = build_objective(distill, grid, widths, student.detector, teacher.detector_config)
        return DistillationStep(model, head, grid, tasks, objective, teacher.source(device), distill.until)

    return run_training(plan, dataset, build_step, workspace, progress)


def _find_teacher(request: DistillRequest, config: Config, workspace: Workspace) -> TeacherInput:
    name = request.live_teacher if request.teacher == "online" else request.targets
    return find_teacher(TeacherChoice(request.teacher, name, request.split, request.command), config, workspace)


def _command(
    request: DistillRequest, workspace: Workspace, student: Student, prepared: Artifact, teacher: TeacherInput | None
) -> Command:
    command = pin_configuration(request.command, STAGE, student.name, request.config, workspace)
    command = command.without("--teacher", "--targets").setting("--losses", ",".join(student.losses) or "none")
    command = command.setting("--name", student.name).setting("--init", student.weights.init)
    command = command if teacher is None else teacher.pin(command)
    command = pin_split(command, request.split).setting("--prepared", prepared.name)
    command = pin_machine(command, request.nuscenes, request.device)
    return student.weights.pin_backbone(command, student.detector)
