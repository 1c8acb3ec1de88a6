"""The distillation objective: the loss terms of the four losses, weighted.

``L_kd = 100 csrd + 10 msfd_camera + 10 msfd_fused + 0.25 reld + respd`` with the published weights; the trainer adds
the detection loss.
"""

from collections.abc import Callable
from typing import TypeVar

from torch import Tensor, nn

from crkd_core.config.distill import DistillConfig
from crkd_core.config.models import DetectorConfig
from crkd_core.distillation.cells import SparseCells
from crkd_core.distillation.csrd import csrd_loss
from crkd_core.distillation.msfd import ChannelAdapter, msfd_loss
from crkd_core.distillation.precision import full_precision
from crkd_core.distillation.reld import RelationAdapter, reld_loss, resample
from crkd_core.distillation.requirements import check_terms
from crkd_core.distillation.respd import respd_loss
from crkd_core.distillation.targets import TeacherTargets, needed_terms
from crkd_core.errors import ConfigError
from crkd_core.geometry.grid import BEVGrid
from crkd_core.models.outputs import DetectorOutput

_T = TypeVar("_T")


class DistillationObjective(nn.Module):
    """Weighted loss terms between a student's output and teacher targets; build it with :func:`build_objective`.

    Holds the adapters of RelD and MSFD, which are trained with the student and not part of it.

    Attributes:
        terms: names of the terms with a weight above zero, in the order of the results.
        adapters: RelD's, one per scale.
        channel_adapters: MSFD's, by term.
    """

    def __init__(
        self, config: DistillConfig, grid: BEVGrid, fused_channels: int, camera_channels: int | None = None
    ) -> None:
        super().__init__()
        self.config = config
        self.grid_shape = grid.shape
        self.terms = needed_terms(config)
        adapters = config.reld.scales if "reld" in self.terms and config.reld.adapter else ()
        self.adapters = nn.ModuleList(RelationAdapter(fused_channels) for _ in adapters)
        self.channel_adapters = nn.ModuleDict()
        widths = {"msfd_camera": camera_channels, "msfd_fused": fused_channels}
        for term, channels in widths.items():
            if config.msfd.adapter and term in self.terms:
                self.channel_adapters[term] = ChannelAdapter(_from_student(channels, term, "a camera map"))

    def forward(self, student: DetectorOutput, targets: TeacherTargets) -> dict[str, Tensor]:
        """The weighted terms by name; their sum is the distillation loss.

        Always computed in float32, also under autocast and from half-precision maps. Gradients reach the student and
        the adapters only.

        Raises:
            ConfigError: a term's map is missing in the student's output or in the targets, or their shapes differ.
        """
        fused = student.features.fused
        found, expected = (fused.shape[0], *fused.shape[2:]), (targets.batch_size, *targets.grid_shape)
        if found != expected or targets.grid_shape != self.grid_shape:
            raise ConfigError(
                f"student and teacher targets must be of one batch on the objective's grid of {self.grid_shape} cells, "
                f"found {found} (samples, x, y) in the student and {expected} in the targets; extract the targets with "
                "the student's data section"
            )
        losses: dict[str, Callable[[DetectorOutput, TeacherTargets], Tensor]] = {
            "csrd": self._csrd,
            "msfd_camera": self._msfd_camera,
            "msfd_fused": self._msfd_fused,
            "reld": self._reld,
            "respd": self._respd,
        }
        with full_precision(fused.device):
            return {term: losses[term](student, targets) for term in self.terms}

    def _csrd(self, student: DetectorOutput, targets: TeacherTargets) -> Tensor:
        activation = _from_student(student.features.radar_activation, "csrd", "a radar activation")
        objectness, csrd = _from_targets(targets.objectness, "csrd"), self.config.csrd
        return csrd.weight * csrd_loss(activation, objectness, csrd.object_weight)

    def _msfd_camera(self, student: DetectorOutput, targets: TeacherTargets) -> Tensor:
        camera = _from_student(student.features.gated_camera, "msfd_camera", "a camera map")
        cells = _from_targets(targets.camera, "msfd_camera")
        return self.config.msfd.camera_weight * self._msfd("msfd_camera", camera, cells)

    def _msfd_fused(self, student: DetectorOutput, targets: TeacherTargets) -> Tensor:
        cells = _from_targets(targets.fused, "msfd_fused")
        return self.config.msfd.fused_weight * self._msfd("msfd_fused", student.features.fused, cells)

    def _msfd(self, term: str, bev_map: Tensor, cells: SparseCells) -> Tensor:
        if term in self.channel_adapters:
            bev_map = self.channel_adapters[term](bev_map.float())
        return msfd_loss(bev_map, cells, self.config.msfd.reading)

    def _reld(self, student: DetectorOutput, targets: TeacherTargets) -> Tensor:
        maps = resample(student.features.fused, self.config.reld.scales)
        if self.config.reld.adapter:
            maps = tuple(adapter(part) for adapter, part in zip(self.adapters, maps, strict=True))
        relation = _from_targets(targets.relation, "reld")
        return self.config.reld.weight * reld_loss(maps, relation, self.config.reld)

    def _respd(self, student: DetectorOutput, targets: TeacherTargets) -> Tensor:
        response = _from_targets(targets.response, "respd")
        return self.config.respd.weight * respd_loss(student.head, response, self.config.respd)


def build_objective(
    config: DistillConfig,
    grid: BEVGrid,
    fused_channels: int,
    student: DetectorConfig | None = None,
    teacher: DetectorConfig | None = None,
) -> DistillationObjective:
    """The objective of a configuration.

    No term is dropped silently: a loss in `config.losses` with a weight above zero either can be computed or is refused
    here (given the detectors' configurations, see :func:`check_terms`) or in the first step.

    Args:
        config: losses and weights.
        grid: the student's BEV grid.
        fused_channels: channels of the student's fused map, for the adapters.
        student, teacher: their configurations, to check the terms against their sensors; MSFD's camera adapter needs
            the student's.

    Raises:
        ConfigError: a term cannot be computed from the sensors of student and teacher.
    """
    check_terms(config, grid, student, teacher)
    camera_channels = None
    if student is not None and "camera" in student.modalities:
        camera_channels = student.camera.view_transform.channels
    return DistillationObjective(config, grid, fused_channels, camera_channels)


def _from_student(value: _T | None, term: str, what: str) -> _T:
    if value is None:
        raise ConfigError(
            f"the loss term {term} needs {what}, which this student does not have; add the branch to the student or "
            "set the term's weight to 0"
        )
    return value


def _from_targets(value: _T | None, term: str) -> _T:
    if value is None:
        raise ConfigError(
            f"the teacher targets hold nothing for the loss term {term}, because they were made without it; "
            "extract them again with this term in distill.losses and a weight above 0"
        )
    return value
