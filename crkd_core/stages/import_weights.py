"""Stage ``import-weights``: published checkpoints become models of this workspace, as if they were trained here."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from crkd_core.artifacts.atomic import write_text
from crkd_core.artifacts.command import Command
from crkd_core.artifacts.location import absolute
from crkd_core.artifacts.manifest import record_file
from crkd_core.artifacts.run_config import CONFIG_NAME
from crkd_core.artifacts.shards import write_tensors
from crkd_core.artifacts.workspace import Artifact, Workspace
from crkd_core.artifacts.writer import ArtifactRequest
from crkd_core.config.loading import dump_config
from crkd_core.config.models import DetectorConfig
from crkd_core.config.schema import Config
from crkd_core.progress import Progress
from crkd_core.stages.train_teacher import STAGE as TEACHER_STAGE
from crkd_core.training.initial_weights import BACKBONE_NAME, STAGE, backbone_settings
from crkd_core.training.student import DISTILLED, PLAIN, without_calibration
from crkd_core.training.student import STAGE as STUDENT_STAGE
from crkd_core.training.trained import WEIGHTS_NAME
from crkd_core.weights.configuring import ImportCommand, choose_config, warn_of_changes
from crkd_core.weights.importing import PublishedCheckpoint, open_checkpoint
from crkd_core.weights.matching import BUFFERS
from crkd_core.weights.recognise import Role
from crkd_core.weights.shared import WeightsFile, find_weights


@dataclass(frozen=True)
class ImportRequest:
    """What to import.

    Attributes:
        file: a checkpoint written by torch.save (tensors and plain values only) or safetensors, or the name of a model
            that comes with the package.
        role: what it becomes: the teacher, the plain student, the distilled student, or the image backbone that
            training starts from. A published distiller holds a distilled student and a teacher.
        config: the resolved configuration; its section of that role must describe the file's model. None for that
            which the file brings (a shipped model, or one with a manifest), else that of the workspace's latest model
            or, where there is none or its image backbone is of another kind, the preset of the published model.
        name: name of the run; None for ``teacher``, ``plain``, ``crkd`` or, for a backbone, the file's own.
        force: replace what is there.
        averaged: take the averaged weights (EMA) that the file keeps beside the plain ones.
        overrides: ``section.field=value`` changes of the configuration, where `config` is None.
        command: as it was given, for the manifest; None where there was none.
    """

    file: Path
    role: Role
    config: Config | None = None
    name: str | None = None
    force: bool = False
    averaged: bool = False
    overrides: tuple[str, ...] = ()
    command: Command | None = None


@dataclass(frozen=True)
class ImportResult:
    """Imported weights.

    Attributes:
        artifact: where they are now.
        model: what the file was recognised as, such as ``student_r50`` or ``torchvision_resnet``.
        tensors: number of tensors written; `parameters`: numbers in those that training changes by gradients.
    """

    artifact: Artifact
    model: str
    tensors: int
    parameters: int


def import_weights(request: ImportRequest, workspace: Workspace, progress: Progress) -> ImportResult:
    """Import a published checkpoint; nothing of it is executed, and every tensor must fit the configuration.

    Raises:
        UsageError: the file cannot be read safely, is of no known model, or of another role than asked for.
        ConfigError: its tensors or its grid do not fit the configuration.
        StaleArtifactError: other weights of that name are there.
        DamagedArtifactError: weights or manifest of a shared model are not what was written.
    """
    source = find_weights(request.file)
    checkpoint = open_checkpoint(source, request.role, request.averaged, progress)
    stage, name = _destination(request)
    asked = ImportCommand(STAGE, name, request.command, request.config, request.overrides)
    config, command = choose_config(asked, checkpoint, workspace, progress)
    if request.role == "backbone":
        weights, backbone = checkpoint.as_backbone(config, progress)
        settings: dict[str, Any] = {"backbone": backbone_settings(backbone)}
        trained: dict[str, Any] = {}
    else:
        detector = _detector(request.role, config)
        weights = checkpoint.as_detector(detector, config, progress)
        warn_of_changes(checkpoint, config, progress)
        settings = {
            "role": "teacher" if request.role == "teacher" else "student",
            "detector": detector.model_dump(mode="json"),
            "data": config.data.model_dump(mode="json"),
        }
        trained = {"taught": request.role == "distilled", **checkpoint.length}
    imported = _imported(request, checkpoint)
    command = _command(request, source, name, command)
    output = ArtifactRequest(stage, name, command, {**settings, "imported": imported}, force=request.force)
    parameters = sum(tensor.numel() for key, tensor in weights.items() if not key.endswith(BUFFERS))
    with workspace.write(output) as writer:
        writer.warn(progress)
        artifact = writer.finished
        if artifact is None:
            if request.role == "backbone":
                write_tensors(writer.path / BACKBONE_NAME, weights)
            else:
                write_tensors(writer.path / WEIGHTS_NAME, weights)
                write_text(writer.path / CONFIG_NAME, dump_config(config))
            facts = {"model": checkpoint.recognised.model, "tensors": len(weights), "parameters": parameters}
            artifact = writer.finish(facts | trained)
    return ImportResult(artifact, checkpoint.recognised.model, len(weights), parameters)


def _detector(role: Role, config: Config) -> DetectorConfig:
    if role == "teacher":
        return config.teacher
    return config.student if role == "distilled" else without_calibration(config.student)


def _destination(request: ImportRequest) -> tuple[str, str]:
    """Stage and name of the artifact."""
    stage, default_name = {
        "teacher": (TEACHER_STAGE, "teacher"),
        "student": (STUDENT_STAGE, PLAIN),
        "distilled": (STUDENT_STAGE, DISTILLED),
        "backbone": (STAGE, request.file.stem),
    }[request.role]
    return stage, request.name or default_name


def _imported(request: ImportRequest, checkpoint: PublishedCheckpoint) -> dict[str, Any]:
    """What identifies the file's weights."""
    checksum = record_file(checkpoint.source.path).sha256
    imported = {"model": checkpoint.recognised.model, "role": request.role, "sha256": checksum}
    return imported | ({"averaged": True} if request.averaged else {})


def _command(request: ImportRequest, source: WeightsFile, name: str, command: Command) -> Command:
    file = source.label if source.is_shipped else str(absolute(request.file))
    command = replace(command, arguments=(file,)).setting("--as", request.role).setting("--name", name)
    return command.setting("--ema") if request.averaged else command
