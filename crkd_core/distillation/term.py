"""What a loss is: its name, its scalars, what it takes of student and teacher, and what is kept of the teacher.

A loss of the house has a section in ``config/distill.py``, a file here with its :class:`LossTerm`, and a line in
:data:`.losses.LOSSES`. Objective, cache, mirroring, verification, ablation, command line and laws take it up from
there; ``examples/add_a_loss.py`` walks through one.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, TypeVar

import torch
from torch import Tensor, nn

from crkd_core.config.distill import DistillConfig, LossSection
from crkd_core.distillation.target_kinds import Target
from crkd_core.distillation.targets import TeacherTargets
from crkd_core.errors import ConfigError
from crkd_core.geometry.boxes import Boxes3D
from crkd_core.geometry.grid import BEVGrid
from crkd_core.models.detector import Detector
from crkd_core.models.outputs import DetectorOutput

AnySection = TypeVar("AnySection", bound=LossSection)
_Value = TypeVar("_Value")
DetectorMap = Literal["camera", "lidar", "fused", "radar_activation"]
"""A map that not every detector has: the camera's or LiDAR's BEV map, the fused map, the radar activation."""


@dataclass(frozen=True)
class Requirement:
    """A map that a loss takes from both detectors or from one of them.

    Attributes:
        bev_map: which.
        subject: what takes it, the beginning of the sentence that refuses a detector without it.
        remedy: how to do without it, the end of that sentence.
        student, teacher: which of them must have it.
        equal_widths: both maps must have the same number of channels.
    """

    bev_map: DetectorMap
    subject: str
    remedy: str
    student: bool = True
    teacher: bool = True
    equal_widths: bool = False


@dataclass(frozen=True)
class StudentChannels:
    """Channels of the student's maps, for adapters; None for a branch that it does not have."""

    fused: int
    camera: int | None = None


class LossTerm(nn.Module, ABC, Generic[AnySection]):
    """One loss: which of its scalars count, what is kept of the teacher for them, and their values.

    Adapters, trained with the student and not part of it, are submodules; the objective lists their weights under the
    same names.

    Attributes:
        name: of its section in the configuration, and in ``distill.losses``.
        kinds: what is kept of the teacher: kind by the name under which it is stored.
        flat_settings: a manifest holds the fields that decide the targets as ``NAME_FIELD`` instead of
            ``NAME: {FIELD: ...}``.
        section: its settings, with the quirks that concern it.
    """

    name: ClassVar[str]
    kinds: ClassVar[Mapping[str, type[Target]]]
    flat_settings: ClassVar[bool] = False

    def __init__(self, section: AnySection) -> None:
        super().__init__()
        self.section = section

    @classmethod
    def of(cls, config: DistillConfig) -> "LossTerm[Any]":
        """The loss as a configuration has it."""
        return cls(config.section(cls.name))  # type: ignore[arg-type]

    @abstractmethod
    def weights(self) -> dict[str, float]:
        """Weights of its scalars, by their names, in the order of the results."""

    @property
    def scalars(self) -> tuple[str, ...]:
        """Names of the scalars that count: those with a weight above zero."""
        return tuple(name for name, weight in self.weights().items() if weight > 0)

    def stored_parts(self) -> tuple[str, ...]:
        """Names of what the scalars that count need of a teacher: those of `kinds` that :meth:`targets` gives."""
        return tuple(self.kinds)

    def requires(self) -> Sequence[Requirement]:
        """What the scalars that count need of the detectors, the maps that every detector has apart."""
        return ()

    def target_settings(self) -> dict[str, Any]:
        """What decides the targets, as a manifest holds it: computed from the marks of the section's fields."""
        settings = self.section.target_settings()
        if self.flat_settings:
            return {f"{self.name}_{field}": value for field, value in settings.items()}
        return {self.name: settings}

    def prepare_student(self, detector: Detector, distilled: bool) -> None:
        """Change a student before it is trained.

        Args:
            distilled: this loss is among those that it is trained with.
        """
        return

    def build_adapters(self, channels: StudentChannels) -> None:
        """Make the adapters that the section asks for, with new weights.

        Raises:
            ConfigError: the student does not have the map of an adapter.
        """
        return

    @abstractmethod
    def targets(self, teacher: DetectorOutput, boxes: Sequence[Boxes3D], grid: BEVGrid) -> dict[str, Target]:
        """What the scalars that count need of a teacher, by the names of `kinds`; float32, without its gradient.

        Args:
            teacher: its output of B samples.
            boxes: ground truth of each sample, in the model frame after the augmentation that the teacher saw.
            grid: the BEV grid of the maps.

        Raises:
            ConfigError: the teacher does not have a map.
        """

    @abstractmethod
    def compare(self, scalar: str, student: DetectorOutput, targets: TeacherTargets) -> Tensor:
        """One scalar, without its weight.

        Raises:
            ConfigError: its map is missing in the student's output or in the targets, or their shapes differ.
        """

    def count(self, targets: TeacherTargets) -> Tensor:
        """Numbers of a batch that its scalars are divided by, one after the other; those of several batches add up.

        Here the number of samples, which is enough for means over samples.
        """
        return torch.tensor([targets.batch_size])

    def compare_share(self, scalar: str, student: DetectorOutput, targets: TeacherTargets, counts: Tensor) -> Tensor:
        """What a batch contributes to a scalar, without its weight, of all batches of a step together.

        The contributions of the batches add up to :meth:`compare` of one batch of all their samples.

        Args:
            counts: the sum of :meth:`count` over the step's batches.
        """
        return self.compare(scalar, student, targets) * (targets.batch_size / counts[0])

    def forward(
        self, student: DetectorOutput, targets: TeacherTargets, counts: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The weighted scalars by name. Call it within :func:`.precision.full_precision`.

        Args:
            counts: of all batches of the step, see :meth:`compare_share`; None where this is its only one.
        """
        values = {
            scalar: self.compare(scalar, student, targets)
            if counts is None
            else self.compare_share(scalar, student, targets, counts)
            for scalar in self.scalars
        }
        weights = self.weights()
        return {scalar: weights[scalar] * value for scalar, value in values.items()}


@torch.no_grad()
def targets_of_terms(
    terms: Sequence[LossTerm[Any]], output: DetectorOutput, boxes: Sequence[Boxes3D], grid: BEVGrid
) -> TeacherTargets:
    """Targets from the output of a teacher that has just seen the batch, see :meth:`LossTerm.targets`.

    Raises:
        ConfigError: the maps do not fit the grid or the number of box sets, or the teacher lacks one.
    """
    fused = output.features.fused
    expected, shape = (len(boxes), *grid.shape), (fused.shape[0], *fused.shape[2:])
    if shape != expected:
        raise ConfigError(
            f"the teacher's fused map must fit the boxes and the grid: expected {expected} (samples, x, y), found "
            f"{shape}; run the teacher on the batch that the boxes belong to, on the grid of the data section"
        )
    parts: dict[str, Target] = {}
    for term in terms:
        parts |= term.targets(output, boxes, grid)
    return TeacherTargets(len(boxes), grid.shape, parts)


def from_student(value: _Value | None, scalar: str, what: str) -> _Value:
    """A map that the student has.

    Args:
        scalar: what needs it; `what` it is called.

    Raises:
        ConfigError: it has none.
    """
    if value is None:
        raise ConfigError(
            f"the loss term {scalar} needs {what}, which this student does not have; add the branch to the student or "
            "set the term's weight to 0"
        )
    return value
