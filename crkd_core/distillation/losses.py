"""The losses of the house, in the order in which they are named, and what is built from all of them.

With the published weights ``L_kd = 100 csrd + 10 msfd_camera + 10 msfd_fused + 0.25 reld + respd``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from crkd_core.config.distill import DistillConfig
from crkd_core.distillation.csrd import CSRD
from crkd_core.distillation.msfd import MSFD
from crkd_core.distillation.reld import RelD
from crkd_core.distillation.respd import RespD
from crkd_core.distillation.storage import StoredTensors
from crkd_core.distillation.target_kinds import Target
from crkd_core.distillation.targets import TeacherTargets
from crkd_core.distillation.term import LossTerm, targets_of_terms
from crkd_core.geometry.boxes import Boxes3D
from crkd_core.geometry.grid import BEVGrid
from crkd_core.models.detector import Detector
from crkd_core.models.outputs import DetectorOutput

LOSSES: tuple[type[LossTerm[Any]], ...] = (CSRD, MSFD, RelD, RespD)


def stored_kinds(losses: Sequence[type[LossTerm[Any]]] = LOSSES) -> dict[str, type[Target]]:
    """What stored teacher targets of these losses consist of: kind by name."""
    return {name: kind for loss in losses for name, kind in loss.kinds.items()}


def build_terms(config: DistillConfig) -> tuple[LossTerm[Any], ...]:
    """The losses of a configuration that have a scalar with a weight above zero."""
    terms = (loss.of(config) for loss in LOSSES if loss.name in config.losses)
    return tuple(term for term in terms if term.scalars)


def build_targets(
    output: DetectorOutput, boxes: Sequence[Boxes3D], grid: BEVGrid, config: DistillConfig
) -> TeacherTargets:
    """Everything that the losses of a configuration need of a teacher, see :func:`.term.targets_of_terms`."""
    return targets_of_terms(build_terms(config), output, boxes, grid)


def decode_targets(tensors: Mapping[str, Tensor]) -> TeacherTargets:
    """Stored targets of a sample, see :meth:`.targets.TeacherTargets.decode`."""
    return TeacherTargets.decode(tensors, stored_kinds())


def lacking_parts(tensors: Mapping[str, Tensor], config: DistillConfig) -> tuple[str, ...]:
    """Names of what the losses of a configuration need and stored targets of a sample do not hold."""
    stored = StoredTensors(tensors)
    return tuple(name for term in build_terms(config) for name in term.stored_parts() if not stored.has(name))


def target_settings(config: DistillConfig) -> dict[str, Any]:
    """Which settings of its losses decide a configuration's teacher targets, as a manifest holds them."""
    of_losses = {loss.name: loss.of(config).target_settings() for loss in LOSSES}
    return {key: value for loss in config.losses for key, value in of_losses[loss].items()}


def prepare_student(detector: Detector, config: DistillConfig) -> None:
    """Change a student as the losses need it before it is trained, those that it is not trained with too."""
    for loss in LOSSES:
        loss.of(config).prepare_student(detector, distilled=loss.name in config.losses)
