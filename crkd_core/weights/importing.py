"""A published checkpoint file, recognised and checked for what it is to become."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from crkd_core.config.loading import load_config
from crkd_core.config.models import BackboneConfig, DetectorConfig, ResNetConfig, SwinConfig, TimmConfig
from crkd_core.config.schema import Config
from crkd_core.errors import ConfigError, UsageError
from crkd_core.progress import Progress, format_count
from crkd_core.weights.backbones import import_backbone
from crkd_core.weights.checkpoint_files import CheckpointFile, read_checkpoint_file
from crkd_core.weights.matching import StateDict
from crkd_core.weights.published import import_detector, split_distiller
from crkd_core.weights.recognise import Recognised, Role, recognise
from crkd_core.weights.shared import WeightsFile

_PRESETS = {"resnet": "paper-r50", "swin": "paper-swint"}
_BRINGS_ITS_OWN = "it brings its own configuration: leave out --preset, --config and --set"


@dataclass(frozen=True)
class PublishedCheckpoint:
    """A checkpoint that can become what it was opened for.

    Attributes:
        source: the file.
        role: what it is to become.
        file: its tensors, under names without the prefix that they have in the file.
    """

    source: WeightsFile
    role: Role
    recognised: Recognised
    file: CheckpointFile

    @property
    def preset(self) -> str:
        """The preset of the published model that has its kind of image backbone."""
        return _PRESETS[self.recognised.backbone]

    @property
    def length(self) -> dict[str, int]:
        """Epochs and steps that the model was trained for, where the file says so."""
        said = self.source.manifest or self.file
        known = {"epochs": said.epochs, "steps": said.steps}
        return {name: number for name, number in known.items() if number is not None}

    def has_backbone_of(self, config: Config) -> bool:
        """Whether a configuration has its kind of image backbone in the role it is to play."""
        return self.recognised.backbone in [backbone.kind for backbone in self._configured(config)]

    def as_detector(self, detector: DetectorConfig, config: Config, progress: Progress) -> StateDict:
        """The state dict of a detector of ours.

        Args:
            config: which `detector` is a part of.

        Raises:
            ConfigError: a tensor or the grid does not fit.
            UsageError: the tensors cannot be those of a detector.
        """
        state = self.file.state
        if self.recognised.is_distiller:
            parts = split_distiller(state)
            state = parts.teacher if self.role == "teacher" else parts.student
            if self.role == "teacher":
                progress.warning(
                    "the teacher inside a published distiller is not the trained one: its image backbone was reset "
                    "to ImageNet weights, and its batch norms moved on; import the teacher's own checkpoint if there "
                    "is one"
                )
        self._check_kind(detector.camera.backbone)
        with self._naming_the_file(config):
            return import_detector(state, detector, config.data, config.dataset)

    def as_backbone(self, config: Config, progress: Progress) -> tuple[StateDict, ResNetConfig | SwinConfig]:
        """The state dict of an image backbone of ours, and its configuration.

        Raises:
            ConfigError: the configuration has no such image backbone, or a tensor does not fit.
        """
        configured = self._configured(config)
        fitting = [backbone for backbone in configured if backbone.kind == self.recognised.backbone]
        backbone = self._check_kind((fitting or configured)[0])
        with self._naming_the_file(config):
            imported = import_backbone(self.file.state, backbone, self.recognised.naming)
        for note in imported.notes:
            progress.message(note)
        return imported.weights, backbone

    def _configured(self, config: Config) -> list[BackboneConfig]:
        if self.role == "backbone":
            return [config.student.camera.backbone, config.teacher.camera.backbone]
        return [(config.teacher if self.role == "teacher" else config.student).camera.backbone]

    def _check_kind(self, configured: BackboneConfig) -> ResNetConfig | SwinConfig:
        kind = self.recognised.backbone
        if isinstance(configured, TimmConfig) or configured.kind != kind:
            remedy = f"use --preset {self.preset}, or set camera.backbone.kind={kind}"
            raise ConfigError(
                f"{self.source.label} has a {kind} image backbone and the configuration a {configured.kind}; "
                f"{remedy if self.source.manifest is None else _BRINGS_ITS_OWN}"
            )
        return configured

    @contextmanager
    def _naming_the_file(self, config: Config) -> Iterator[None]:
        try:
            yield
        except ConfigError as error:
            fits = "" if config == load_config(self.preset) else f". Published weights fit --preset {self.preset}"
            remedy = fits if self.source.manifest is None else f"; {_BRINGS_ITS_OWN}"
            raise ConfigError(f"{self.source.label}: {error}{remedy}") from None
        except UsageError as error:
            raise UsageError(f"{self.source.label}: {error}") from None


def open_checkpoint(source: WeightsFile, role: Role, averaged: bool, progress: Progress) -> PublishedCheckpoint:
    """Read a checkpoint file; nothing of it is executed.

    Args:
        averaged: take the averaged weights (EMA) that the file keeps beside the plain ones.

    Raises:
        UsageError: it cannot be read safely, is of no known model, or cannot become what is asked for.
    """
    file = read_checkpoint_file(source.path, averaged)
    recognised = _recognise(source.label, role, file)
    progress.message(
        f"{source.path.name} is recognised as {recognised.model}, {format_count(len(file.state), 'tensor')}"
    )
    state, left_out = recognised.take(file.state)
    for note in (*file.notes, left_out):
        if note:
            progress.message(note)
    return PublishedCheckpoint(source, role, recognised, replace(file, state=state))


def _recognise(label: str, role: Role, file: CheckpointFile) -> Recognised:
    try:
        recognised = recognise(file.state, role)
    except UsageError as error:
        raise UsageError(f"{label}: {error}") from None
    if recognised.role == "backbone" and recognised.backbone == "resnet" and file.caffe_style:
        raise UsageError(
            f"{label} has a ResNet of Caffe's style: its weights fit by name and mean something else (another "
            "convolution has the stride, images are BGR); use torchvision's"
        )
    possible = {recognised.role, "teacher"} if recognised.is_distiller else {recognised.role}
    if role not in possible:
        raise UsageError(
            f"{label} cannot be imported --as {role}: it is a {recognised.model}; use --as "
            f"{' or --as '.join(sorted(possible))}"
        )
    return recognised
