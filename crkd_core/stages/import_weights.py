"""Stage ``import-weights``: published checkpoints become models of this workspace, as if they were trained here."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from crkd_core.artifacts.atomic import write_text
from crkd_core.artifacts.command import Command
from crkd_core.artifacts.configuration import latest_model, pin_configuration, resolve_config
from crkd_core.artifacts.location import absolute
from crkd_core.artifacts.manifest import record_file
from crkd_core.artifacts.run_config import CONFIG_NAME
from crkd_core.artifacts.shards import write_tensors
from crkd_core.artifacts.workspace import Artifact, Workspace
from crkd_core.artifacts.writer import ArtifactRequest
from crkd_core.config.loading import dump_config, load_config, with_overrides
from crkd_core.config.models import BackboneConfig, ResNetConfig, SwinConfig, TimmConfig
from crkd_core.config.schema import Config
from crkd_core.errors import ConfigError, UsageError
from crkd_core.progress import Progress
from crkd_core.stages.distill import STAGE as DISTILL_STAGE
from crkd_core.stages.train_teacher import STAGE as TEACHER_STAGE
from crkd_core.training.initial_weights import BACKBONE_NAME, STAGE, backbone_settings
from crkd_core.training.student import DISTILLED, PLAIN, without_calibration
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
        config: the resolved configuration; its section of that role must describe the file's model. None for that of
            the workspace's latest model or, where there is none or its image backbone is of another kind, the preset
            of the published model.
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
    file = read_checkpoint_file(request.file, request.averaged)
    recognised = _recognise(request, file)
    _check_role(request, recognised)
    progress.message(f"{request.file.name} is recognised as {recognised.model}, {len(file.state)} tensors")
    state, left_out = recognised.take(file.state)
    for note in (*file.notes, left_out):
        if note:
            progress.message(note)
    config = request.config or _fitting_config(request, recognised, workspace, progress)
    if request.role == "backbone":
        weights, target = _backbone(request, config, state, recognised, progress)
    else:
        weights, target = _detector(request, config, replace(file, state=state), recognised, progress)
    parameters = sum(tensor.numel() for key, tensor in weights.items() if not key.endswith(BUFFERS))
    source: dict[str, Any] = {
        "model": recognised.model,
        "role": request.role,
        "sha256": record_file(request.file).sha256,
        **({"averaged": True} if request.averaged else {}),
    }
    settings = {**target.settings, "imported": source}
    with workspace.write(
        ArtifactRequest(
            target.stage,
            target.name,
            command=_command(request, config, target.name, workspace),
            settings=settings,
            force=request.force,
        )
    ) as writer:
        writer.warn(progress)
        artifact = writer.finished
        if artifact is None:
            write_tensors(writer.path / _file_name(request), weights)
            if request.role != "backbone":
                write_text(writer.path / CONFIG_NAME, dump_config(config))
            sizes = {"tensors": len(weights), "parameters": parameters}
            artifact = writer.finish({"model": recognised.model, **sizes, **target.facts})
    return ImportResult(artifact, recognised.model, len(weights), parameters)


def _recognise(request: ImportRequest, file: CheckpointFile) -> Recognised:
    try:
        recognised = recognise(file.state, request.role)
    except UsageError as error:
        raise UsageError(f"{request.file}: {error}") from None
    if recognised.role == "backbone" and recognised.backbone == "resnet" and file.caffe_style:
        raise UsageError(
            f"{request.file} has a ResNet of Caffe's style: its weights fit by name and mean something else (another "
            "convolution has the stride, images are BGR); use torchvision's"
        )
    return recognised


def _fitting_config(request: ImportRequest, recognised: Recognised, workspace: Workspace, progress: Progress) -> Config:
    """The workspace's configuration, or the preset of the published model if that has the file's kind of backbone."""
    if latest_model(workspace) is not None:
        config = resolve_config(workspace)
        if recognised.backbone in [backbone.kind for backbone in _image_backbones(request.role, config)]:
            return with_overrides(config, request.overrides)
    preset = _PRESETS[recognised.backbone]
    progress.message(f"the file decides the configuration: --preset {preset}")
    return load_config(preset, None, request.overrides)


def _image_backbones(role: Role, config: Config) -> list[BackboneConfig]:
    if role == "backbone":
        return [config.student.camera.backbone, config.teacher.camera.backbone]
    return [(config.teacher if role == "teacher" else config.student).camera.backbone]


def _command(request: ImportRequest, config: Config, name: str, workspace: Workspace) -> Command:
    command = pin_configuration(request.command, STAGE, name, config, workspace)
    command = replace(command, arguments=(str(absolute(request.file)),))
    command = command.setting("--as", request.role).setting("--name", name)
    return command.setting("--ema") if request.averaged else command


def _file_name(request: ImportRequest) -> str:
    return BACKBONE_NAME if request.role == "backbone" else WEIGHTS_NAME


def _check_role(request: ImportRequest, recognised: Recognised) -> None:
    possible = {recognised.role, "teacher"} if recognised.is_distiller else {recognised.role}
    if request.role not in possible:
        raise UsageError(
            f"{request.file} cannot be imported --as {request.role}: it is a {recognised.model}; use --as "
            f"{' or --as '.join(sorted(possible))}"
        )


def _detector(
    request: ImportRequest, config: Config, file: CheckpointFile, recognised: Recognised, progress: Progress
) -> tuple[StateDict, _Target]:
    state = file.state
    if recognised.is_distiller:
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
    _of_that_kind(request, recognised, detector.camera.backbone)
    with _naming_the_file(request, config, recognised):
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


def _backbone(
    request: ImportRequest, config: Config, state: StateDict, recognised: Recognised, progress: Progress
) -> tuple[StateDict, _Target]:
    backbones = _image_backbones("backbone", config)
    configured = next((backbone for backbone in backbones if backbone.kind == recognised.backbone), backbones[0])
    backbone = _of_that_kind(request, recognised, configured)
    with _naming_the_file(request, config, recognised):
        imported = import_backbone(state, backbone, recognised.naming)
    for note in imported.notes:
        progress.message(note)
    settings = {"backbone": backbone_settings(backbone)}
    return imported.weights, _Target(STAGE, request.name or request.file.stem, settings, {})


@contextmanager
def _naming_the_file(request: ImportRequest, config: Config, recognised: Recognised) -> Iterator[None]:
    try:
        yield
    except ConfigError as error:
        preset = _PRESETS[recognised.backbone]
        remedy = "" if config == load_config(preset) else f". Published weights fit --preset {preset}"
        raise ConfigError(f"{request.file}: {error}{remedy}") from None
    except UsageError as error:
        raise UsageError(f"{request.file}: {error}") from None


def _of_that_kind(
    request: ImportRequest, recognised: Recognised, configured: BackboneConfig
) -> ResNetConfig | SwinConfig:
    if isinstance(configured, TimmConfig) or configured.kind != recognised.backbone:
        raise ConfigError(
            f"{request.file} has a {recognised.backbone} image backbone and the configuration a {configured.kind}; use "
            f"--preset {_PRESETS[recognised.backbone]}, or set camera.backbone.kind={recognised.backbone}"
        )
    return configured
