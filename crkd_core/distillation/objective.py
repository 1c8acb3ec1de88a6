"""The distillation objective: the weighted scalars of all losses (:mod:`.losses`); the trainer adds detection."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from crkd_core.config.distill import DistillConfig
from crkd_core.config.models import DetectorConfig
from crkd_core.distillation.losses import build_terms
from crkd_core.distillation.precision import full_precision
from crkd_core.distillation.requirements import check_terms
from crkd_core.distillation.targets import TeacherTargets
from crkd_core.distillation.term import LossTerm, StudentChannels
from crkd_core.errors import ConfigError
from crkd_core.geometry.grid import BEVGrid
from crkd_core.models.outputs import DetectorOutput


class DistillationObjective(nn.Module):
    """The losses between a student's output and teacher targets; :func:`build_objective` makes that of a configuration.

    Its parameters are those of the losses' adapters, under the losses' own names for them.

    Attributes:
        scalars: names of the results, in their order.
    """

    def __init__(self, terms: Sequence[LossTerm[Any]], grid: BEVGrid) -> None:
        super().__init__()
        self.grid_shape = grid.shape
        self.scalars = tuple(scalar for term in terms for scalar in term.scalars)
        # Not a ModuleList: checkpoints name adapters without their loss. Their optimiser state has the last loss first.
        self._terms = tuple(terms)
        for term in reversed(self._terms):
            for name, adapters in term.named_children():
                if hasattr(self, name):
                    raise ValueError(f"two losses call their adapters {name}; checkpoints need different names")
                self.add_module(name, adapters)

    def count(self, targets: TeacherTargets) -> tuple[Tensor, ...]:
        """What the losses divide by, loss by loss; numbers of several batches add up."""
        return tuple(term.count(targets) for term in self._terms)

    def forward(
        self, student: DetectorOutput, targets: TeacherTargets, counts: Sequence[Tensor] | None = None
    ) -> dict[str, Tensor]:
        """The weighted scalars by name; their sum is the distillation loss.

        Always computed in float32, also under autocast and from half-precision maps. Gradients reach the student and
        the adapters only.

        Args:
            counts: sums of :meth:`count` over all batches of the step, whose results then add up to those of one batch
                of all their samples; None where this is its only one.

        Raises:
            ConfigError: a map is missing in the student's output or in the targets, or their shapes differ.
        """
        fused = student.features.fused
        shape, expected = (fused.shape[0], *fused.shape[2:]), (targets.batch_size, *targets.grid_shape)
        if shape != expected or targets.grid_shape != self.grid_shape:
            raise ConfigError(
                f"student and teacher targets must be of one batch on the objective's grid of {self.grid_shape} cells, "
                f"found {shape} (samples, x, y) in the student and {expected} in the targets; extract the targets with "
                "the student's data section"
            )
        losses: dict[str, Tensor] = {}
        of_terms: Sequence[Tensor | None] = counts or [None] * len(self._terms)
        with full_precision(fused.device):
            for term, of_step in zip(self._terms, of_terms, strict=True):
                losses |= term(student, targets, of_step)
        return losses


def build_objective(
    config: DistillConfig,
    grid: BEVGrid,
    fused_channels: int,
    student: DetectorConfig | None = None,
    teacher: DetectorConfig | None = None,
) -> DistillationObjective:
    """The objective of a configuration.

    No loss is dropped silently: one in `config.losses` with a weight above zero either can be computed or is refused
    here (given the detectors' configurations, see :func:`check_terms`) or in the first step.

    Args:
        config: losses and weights.
        grid: the student's BEV grid.
        fused_channels: channels of the student's fused map, for the adapters.
        student, teacher: their configurations, to check the losses against their sensors; adapters of camera
            maps need the student's.

    Raises:
        ConfigError: a loss cannot be computed from the sensors of student and teacher.
    """
    check_terms(config, grid, student, teacher)
    has_camera = student is not None and "camera" in student.modalities
    channels = StudentChannels(
        fused=fused_channels, camera=student.camera.view_transform.channels if student and has_camera else None
    )
    terms = build_terms(config)
    # Last first, as ever: with one seed, the adapters' first weights stay what they were.
    for term in reversed(terms):
        term.build_adapters(channels)
    return DistillationObjective(terms, grid)
