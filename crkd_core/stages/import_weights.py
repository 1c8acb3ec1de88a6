"""Stage ``import-weights``: published checkpoints become models of this workspace, as if they were trained here."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from crkd_core.artifacts.atomic import write_text
from crkd_core.artifacts.command import Command
from crkd_core.artifacts.location import absolute
from crkd_core.artifacts.manifest import record_file
from crkd_core.artifacts.shards import write_tensors
from crkd_core.artifacts.workspace import Artifact, Workspace
from crkd_core.config.loading import dump_config
from crkd_core.config.models import ResNetConfig, SwinConfig, TimmConfig
from crkd_core.config.schema import Config
from crkd_core.errors import ConfigError, UsageError
from crkd_core.progress import Progress
from crkd_core.stages.configuration import pin_configuration
from crkd_core.stages.distill import DISTILLED, PLAIN, without_calibration
from crkd_core.stages.distill import STAGE as DISTILL_STAGE
from crkd_core.stages.pretrained import BACKBONE_NAME, STAGE, backbone_settings
from crkd_core.stages.train import STAGE as TEACHER_STAGE
from crkd_core.training.run_config import CONFIG_NAME
from crkd_core.training.trained import WEIGHTS_NAME
from crkd_core.weights.backbones import import_backbone
from crkd_core.weights.matching import BUFFERS, StateDict
from crkd_core.weights.published import import_detector, split_distiller
from crkd_core.weights.reading import CheckpointFile, read_checkpoint_file
from crkd_core.weights.recognise import Recognised, Role, recognise

_PRESETS = {"resnet": "paper-r50", "swin": "paper-swint"}


@dataclass(frozen=True)
class ImportRequest:
    """What to import.

    Attributes:
        file: a checkpoint written by torch.save (tensors and plain values only) or safetensors.
        role: what it becomes: the teacher, the plain student, the distilled student, or the image backbone that
            training starts from. A published distiller holds a distilled student and a teacher.
        config: the resolved configuration; its section of that role must describe the file's model.
        name: name of the run; None for ``teacher``, ``plain``, ``crkd`` or, for a backbone, the file's own.
        force: replace what is there.
        command: as it was given, for the manifest; None where there was none.
    """

    file: Path
    role: Role
    config: Config
    name: str | None = None
    force: bool = False
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


@dataclass(frozen=True)
class _Target:
    """Where imported weights go and what their manifest says of them."""

    stage: str
    name: str
    settings: dict[str, Any]
    facts: dict[str, Any]


def import_weights(request: ImportRequest, workspace: Workspace, progress: Progress) -> ImportResult:
    """Import a published checkpoint; nothing of it is executed, and every tensor must fit the configuration.

    Raises:
        UsageError: the file cannot be read safely, is of no known model, or of another role than asked for.
        ConfigError: its tensors or its grid do not fit the configuration.
        StaleArtifactError: other weights of that name are there.
    """
    file = read_checkpoint_file(request.file)
    found = recognise(file.state)
    _check_role(request, found)
    progress.message(f"{request.file.name} is a {found.model} of {len(file.state)} tensors")
    if request.role == "backbone":
        weights, target = _backbone(request, file, found)
    else:
        weights, target = _detector(request, file, found, progress)
    parameters = sum(tensor.numel() for key, tensor in weights.items() if not key.endswith(BUFFERS))
    source = {"model": found.model, "role": request.role, "sha256": record_file(request.file).sha256}
    settings = {**target.settings, "imported": source}
    with workspace.write(
        target.stage,
        target.name,
        command=_command(request, target.name, workspace),
        settings=settings,
        force=request.force,
        warn=progress.warning,
    ) as writer:
        artifact = writer.finished
        if artifact is None:
            write_tensors(writer.path / _file_name(request), weights)
            if request.role != "backbone":
                write_text(writer.path / CONFIG_NAME, dump_config(request.config))
            facts = {"model": found.model, "tensors": len(weights), "parameters": parameters, **target.facts}
            artifact = writer.finish(facts)
    return ImportResult(artifact, found.model, len(weights), parameters)


def _command(request: ImportRequest, name: str, workspace: Workspace) -> Command:
    command = pin_configuration(request.command, STAGE, name, request.config, workspace)
    command = replace(command, arguments=(str(absolute(request.file)),))
    return command.setting("--as", request.role).setting("--name", name)


def _file_name(request: ImportRequest) -> str:
    return BACKBONE_NAME if request.role == "backbone" else WEIGHTS_NAME


def _check_role(request: ImportRequest, found: Recognised) -> None:
    possible = {found.role, "teacher"} if found.role == "distilled" else {found.role}
    if request.role not in possible:
        raise UsageError(
            f"{request.file} cannot be imported --as {request.role}: it is a {found.model}; use --as "
            f"{' or --as '.join(sorted(possible))}"
        )


def _detector(
    request: ImportRequest, file: CheckpointFile, found: Recognised, progress: Progress
) -> tuple[StateDict, _Target]:
    config, state = request.config, file.state
    if found.role == "distilled":
        parts = split_distiller(state)
        state = parts.teacher if request.role == "teacher" else parts.student
        if request.role == "teacher":
            progress.warning(
                "the teacher inside a published distiller is not the trained one: its image backbone was reset to "
                "ImageNet weights, and its batch norms moved on; import the teacher's own checkpoint if there is one"
            )
    detector = {
        "teacher": config.teacher,
        "student": without_calibration(config.student),
        "distilled": config.student,
    }[request.role]
    _of_that_kind(request, found, detector.camera.backbone)
    with _naming_the_preset(request, found):
        weights = import_detector(state, detector, config.data)
    settings = {
        "role": "teacher" if request.role == "teacher" else "student",
        "detector": detector.model_dump(mode="json"),
        "data": config.data.model_dump(mode="json"),
    }
    known = {"epochs": file.epochs, "steps": file.steps}
    facts = {"taught": request.role == "distilled", **{key: value for key, value in known.items() if value is not None}}
    if request.role == "teacher":
        return weights, _Target(TEACHER_STAGE, request.name or "teacher", settings, facts)
    name = request.name or (DISTILLED if request.role == "distilled" else PLAIN)
    return weights, _Target(DISTILL_STAGE, name, settings, facts)


def _backbone(request: ImportRequest, file: CheckpointFile, found: Recognised) -> tuple[StateDict, _Target]:
    backbones = [request.config.student.camera.backbone, request.config.teacher.camera.backbone]
    configured = next((backbone for backbone in backbones if backbone.kind == found.backbone), backbones[0])
    config = _of_that_kind(request, found, configured)
    with _naming_the_preset(request, found):
        weights = import_backbone(file.state, config)
    return weights, _Target(STAGE, request.name or request.file.stem, {"backbone": backbone_settings(config)}, {})


@contextmanager
def _naming_the_preset(request: ImportRequest, found: Recognised) -> Iterator[None]:
    try:
        yield
    except ConfigError as error:
        preset = _PRESETS[found.backbone]
        raise ConfigError(f"{request.file}: {error}. Published weights fit --preset {preset}") from None


def _of_that_kind(
    request: ImportRequest, found: Recognised, configured: ResNetConfig | SwinConfig | TimmConfig
) -> ResNetConfig | SwinConfig:
    if isinstance(configured, TimmConfig) or configured.kind != found.backbone:
        raise ConfigError(
            f"{request.file} has a {found.backbone} image backbone and the configuration a {configured.kind}; use "
            f"--preset {_PRESETS[found.backbone]}, or set camera.backbone.kind={found.backbone}"
        )
    return configured
