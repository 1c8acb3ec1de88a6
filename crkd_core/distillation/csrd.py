"""Cross-stage radar distillation (paper, section 3.3.1): the teacher's *output* teaches the radar's *feature*.

``L = mean over samples and cells |A - Y|`` with the radar activation A and the teacher's scene-level objectness Y, of
its K heatmaps in T head tasks:

- ``released``: ``Y = mean over tasks of sigmoid(mean over the task's classes of the logits)``;
- ``paper``: ``Y = mean over all classes of sigmoid(logit)``.

Almost all cells are empty, and what minimises a mean absolute difference is a median: nothing, wherever an object is
less likely than not. ``object_weight`` w lets cells count by their target, ``L = mean (1 + w Y / mean Y) |A - Y|``;
with w = 1 objects weigh as much as all cells together. It is ours, and 0 by default.

The paper compares this target with the teacher's LiDAR *feature* (``target: lidar_feature``) and does not say how many
channels become one. Here ``Y = tanh(mean over channels of |G|)`` with the gated LiDAR map G: like the heatmap it is one
number a cell from 0 (nothing there) to 1, and depends on that cell alone.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from crkd_core.config.distill import CSRDConfig, Variant
from crkd_core.distillation.probability import PROBABILITY_MARGIN, clipped_sigmoid
from crkd_core.distillation.target_kinds import DenseMap, Target
from crkd_core.distillation.targets import TeacherTargets
from crkd_core.distillation.term import LossTerm, Requirement, from_student
from crkd_core.errors import ConfigError
from crkd_core.geometry.boxes import Boxes3D
from crkd_core.geometry.grid import BEVGrid
from crkd_core.models.detector import Detector
from crkd_core.models.outputs import DetectorOutput, HeadOutput

_OBJECTNESS = "csrd.objectness"


class CSRD(LossTerm[CSRDConfig]):
    """The loss between the radar activation and what the teacher says is there; see the module."""

    name = "csrd"
    kinds: ClassVar[Mapping[str, type[Target]]] = {_OBJECTNESS: DenseMap}

    def weights(self) -> dict[str, float]:
        return {"csrd": self.section.weight}

    def requires(self) -> Sequence[Requirement]:
        radar = Requirement(
            "radar_activation",
            "csrd teaches the radar activation",
            "set these, or take csrd out of distill.losses",
            teacher=False,
        )
        lidar = Requirement("lidar", "distill.csrd.target=lidar_feature", "use the target heatmap", student=False)
        return (radar, lidar) if self.section.target == "lidar_feature" else (radar,)

    def prepare_student(self, detector: Detector, distilled: bool) -> None:
        """Set the slope of its radar activation, which only this loss trains."""
        radar = detector.radar
        if radar is not None and radar.activation is not None:
            radar.leak_activation(self.section.negative_slope)
            radar.activation.requires_grad_(distilled)

    def targets(self, teacher: DetectorOutput, boxes: Sequence[Boxes3D], grid: BEVGrid) -> dict[str, Target]:
        return {_OBJECTNESS: DenseMap(csrd_target(teacher, self.section))}

    def compare(self, scalar: str, student: DetectorOutput, targets: TeacherTargets) -> Tensor:
        activation = from_student(student.features.radar_activation, scalar, "a radar activation")
        objectness = targets.part(_OBJECTNESS, DenseMap, scalar).values
        return csrd_loss(activation, objectness, self.section.object_weight)


def csrd_target(teacher: DetectorOutput, config: CSRDConfig) -> Float[Tensor, "b x y"]:
    """What the radar activation shall become, in float32 and without the teacher's gradient.

    Raises:
        ConfigError: the LiDAR feature is asked for and the teacher has no LiDAR map.
    """
    if config.target == "heatmap":
        return objectness(teacher.head, config.reading)
    if teacher.features.gated_points is None:
        raise ConfigError("distill.csrd.target=lidar_feature needs a teacher with LiDAR; use the target heatmap")
    return teacher.features.gated_points.detach().float().abs().mean(dim=1).tanh()


def objectness(head: HeadOutput, variant: Variant = "released") -> Float[Tensor, "b x y"]:
    """How much each cell looks like the centre of any object, in [1e-4, 1 - 1e-4]."""
    logits = [task.heatmap_logits.detach().float() for task in head.tasks]
    if variant == "paper":
        return clipped_sigmoid(torch.cat(logits, dim=1)).mean(dim=1)
    return torch.stack([clipped_sigmoid(task.mean(dim=1)) for task in logits]).mean(dim=0)


def csrd_loss(
    radar_activation: Float[Tensor, "b 1 x y"], target: Float[Tensor, "b x y"], object_weight: float = 0.0
) -> Float[Tensor, ""]:
    """Mean absolute difference over all samples and cells.

    Args:
        radar_activation: the student's, not bounded above.
        target: the teacher's, see :func:`csrd_target`.
        object_weight: how much more cells count by their target; 0: as published.
    """
    target = target.detach().float()
    differences = (radar_activation[:, 0].float() - target).abs()
    if object_weight:
        mean = target.mean(dim=(1, 2), keepdim=True).clamp(min=PROBABILITY_MARGIN)
        differences = differences * (1 + object_weight * target / mean)
    return differences.mean()
