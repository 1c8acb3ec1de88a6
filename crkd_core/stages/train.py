"""Stage ``train-teacher``: the detector that the student will imitate."""

from dataclasses import dataclass
from pathlib import Path

import torch

from crkd_core.artifacts.command import Command
from crkd_core.artifacts.configuration import pin_configuration
from crkd_core.artifacts.workspace import Artifact, Workspace
from crkd_core.config.schema import Config
from crkd_core.data.dataset import SampleDataset
from crkd_core.data.objects import ObjectPasting
from crkd_core.datasets.prepared.source import (
    PreparedSource,
    check_objects,
    open_prepared,
    pin_machine,
    pin_split,
    split_settings,
    warn_of_misfit,
)
from crkd_core.models.detector import Detector
from crkd_core.progress import Progress
from crkd_core.training.initial_weights import find_backbone, find_start, load_backbone, load_start, pin_backbone
from crkd_core.training.run import RunSpec, TrainResult, run_training
from crkd_core.training.steps import DetectionStep

STAGE = "train-teacher"


@dataclass(frozen=True)
class TrainTeacherRequest:
    """What to train.

    Attributes:
        config: the resolved configuration; section ``teacher`` is built, ``train.teacher`` is its schedule.
        name: name of the run.
        init: name of the teacher run to start from; "none" for new weights.
        split: samples to train on; ``trainval`` for train and val together.
        prepared: name of the prepared data; None for the latest that have the split.
        backbone: name of imported weights of the image backbone, or "none"; None for what the configuration says.
        nuscenes: where the data set is now, if it moved since it was prepared.
        force: train anew although a run of that name exists; `resume`: continue a killed run.
        command: as it was given, for the manifest; None where there was none.
    """

    config: Config
    name: str = "teacher"
    init: str = "none"
    backbone: str | None = None
    prepared: str | None = None
    nuscenes: Path | None = None
    device: str = "auto"
    force: bool = False
    resume: bool = True
    split: str = "train"
    command: Command | None = None


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
    config, detector = request.config, request.config.teacher
    source = PreparedSource(request.split, progress=progress)
    prepared = open_prepared(
        workspace, request.prepared, request.nuscenes, config.data, detector.modalities, f"crkd {STAGE}", source
    )
    tokens, seed = prepared.tokens(request.split), config.train.seed
    check_objects(prepared, tokens, config.data)
    warn_of_misfit(prepared, config.data, detector.modalities, progress)
    paste = config.data.paste_teacher
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
    start = _find_start(request, workspace)
    needed_for = f"crkd {STAGE}"
    backbone = None
    if start is None:
        run = config.train.teacher
        backbone = find_backbone(workspace, run, detector, needed_for, progress, request.backbone)
    made_from = {"prepared": prepared.artifact, "start": start, "backbone": backbone}
    spec = RunSpec(
        stage=STAGE,
        name=request.name,
        role="teacher",
        command=_command(request, workspace, prepared.artifact, start, backbone),
        config=config,
        detector=detector,
        run=config.train.teacher,
        inputs={role: artifact.reference() for role, artifact in made_from.items() if artifact is not None},
        options=split_settings(prepared, request.split),
    )

    def build_step(model: Detector, device: torch.device) -> DetectionStep:
        if start is not None:
            load_start(model, start)
        elif backbone is not None:
            load_backbone(model, backbone)
        if pasting is not None:
            # Here, so that the loader processes share what is read once.
            progress.message(f"{len(pasting.objects)} objects of {min(paste.samples, len(tokens))} samples to paste")
        return DetectionStep(model, detector.head, config.data.grid.build())

    return run_training(spec, build_step, dataset, workspace, progress, request.device, request.force, request.resume)


def _find_start(request: TrainTeacherRequest, workspace: Workspace) -> Artifact | None:
    if request.init == "none":
        return None
    return find_start(workspace, STAGE, request.init, request.name, f"crkd {STAGE} --name {request.init}")


def _command(
    request: TrainTeacherRequest,
    workspace: Workspace,
    prepared: Artifact,
    start: Artifact | None,
    backbone: Artifact | None,
) -> Command:
    config = request.config
    command = pin_configuration(request.command, STAGE, request.name, config, workspace).setting("--name", request.name)
    command = command.setting("--init", start.name if start else "none").setting("--prepared", prepared.name)
    command = pin_machine(pin_split(command, request.split), request.nuscenes, request.device)
    return command.without("--backbone") if start else pin_backbone(command, config.teacher, backbone)
