"""Stage ``train-teacher``: the detector that the student will imitate."""

from dataclasses import dataclass, replace

import torch

from crkd_core.artifacts.command import Command
from crkd_core.artifacts.configuration import pin_configuration
from crkd_core.artifacts.workspace import Artifact, Workspace
from crkd_core.data.dataset import SampleDataset
from crkd_core.data.objects import ObjectPasting
from crkd_core.datasets.prepared.same_data_set import configured_for_data, require_same_data_set
from crkd_core.datasets.prepared.source import pin_machine, pin_split, split_settings
from crkd_core.models.detector import Detector
from crkd_core.progress import Progress, format_count
from crkd_core.training.initial_weights import InitialWeights, find_backbone, find_start
from crkd_core.training.prepared_samples import open_samples
from crkd_core.training.run import TrainResult, run_training
from crkd_core.training.steps import DetectionStep
from crkd_core.training.training_plan import TrainingPlan, TrainingRequest

STAGE = "train-teacher"


@dataclass(frozen=True, kw_only=True)
class TrainTeacherRequest(TrainingRequest):
    """What to train: section ``teacher`` of the configuration; ``train.teacher`` is its schedule.

    Attributes:
        name: name of the run.
        init: name of the teacher run to start from; "none" for new weights.
    """

    name: str = "teacher"
    init: str = "none"


def train_teacher(request: TrainTeacherRequest, workspace: Workspace, progress: Progress) -> TrainResult | None:
    """Train the teacher on the training split with the detection loss (paper, section 3.1).

    Returns None on every process but the first of a distributed run.

    Raises:
        MissingArtifactError: nothing is prepared, or there is no run to start from.
        StaleArtifactError: the run to start from was a different detector.
        UsageError: the run is to start from itself.
        ConfigError: the configuration does not fit the prepared data.
        DatasetError: there is no object to train on.
        TrainingError: the loss is no longer finite.
    """
    prepared, tokens = open_samples(request, request.config.teacher.modalities, f"crkd {STAGE}", workspace, progress)
    request = replace(request, config=configured_for_data(request.config, prepared))
    config, detector = request.config, request.config.teacher
    paste, seed = config.data.paste_teacher, config.train.seed
    pasting = ObjectPasting(prepared, tokens, config.data, seed) if paste.enabled else None
    dataset = SampleDataset(
        prepared,
        tokens,
        config.data,
        detector.modalities,
        bev=config.data.augment_teacher,
        seed=seed,
        pasting=pasting,
    )
    weights = _choose_weights(request, workspace, progress)
    if weights.start is not None:
        require_same_data_set(weights.start, prepared)
    plan = TrainingPlan(
        stage=STAGE,
        name=request.name,
        role="teacher",
        command=_command(request, workspace, prepared.artifact, weights),
        config=config,
        detector=detector,
        schedule=config.train.teacher,
        inputs={"prepared": prepared.artifact, **weights.inputs},
        options=split_settings(prepared, request.split),
        device=request.device,
        force=request.force,
        resume=request.resume,
    )

    def build_step(model: Detector, device: torch.device) -> DetectionStep:
        weights.load(model)
        if pasting is not None:
            # Here, so that the loader processes share what is read once.
            objects = format_count(len(pasting.objects), "object")
            progress.message(f"{objects} of {format_count(min(paste.samples, len(tokens)), 'sample')} to paste")
        return DetectionStep(model, detector.head, config.data.grid.build(), config.dataset.head_tasks)

    return run_training(plan, dataset, build_step, workspace, progress)


def _choose_weights(request: TrainTeacherRequest, workspace: Workspace, progress: Progress) -> InitialWeights:
    command, config = f"crkd {STAGE}", request.config
    if request.init != "none":
        make = f"{command} --name {request.init}"
        return InitialWeights(start=find_start(workspace, STAGE, request.init, request.name, make))
    schedule, detector = config.train.teacher, config.teacher
    return InitialWeights(backbone=find_backbone(workspace, schedule, detector, command, progress, request.backbone))


def _command(
    request: TrainTeacherRequest, workspace: Workspace, prepared: Artifact, weights: InitialWeights
) -> Command:
    command = pin_configuration(request.command, STAGE, request.name, request.config, workspace)
    command = command.setting("--name", request.name).setting("--init", weights.init)
    command = pin_split(command.setting("--prepared", prepared.name), request.split)
    command = pin_machine(command, request.nuscenes, request.device)
    return weights.pin_backbone(command, request.config.teacher)
