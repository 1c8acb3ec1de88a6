"""Relation distillation (paper, section 3.3.3): keep the scene's geometric relations in the student's fused map.

``L = sum over scales s of mean |C_s(T) - C_s(adapter_s(S))|`` with the affinity ``C_s(F) = F^T F`` between all pairs of
cells of a map resampled to s x s cells. The affinity is the plain dot product (released) or that of the normalised
features (paper's cosine similarity). The released code divides by the batch size once more.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from crkd_core.config.distill import RelDConfig
from crkd_core.distillation.precision import full_precision
from crkd_core.distillation.target_kinds import ScaledMaps, Target
from crkd_core.distillation.targets import TeacherTargets
from crkd_core.distillation.term import LossTerm, StudentChannels
from crkd_core.errors import ConfigError
from crkd_core.geometry.boxes import Boxes3D
from crkd_core.geometry.grid import BEVGrid
from crkd_core.models.outputs import DetectorOutput

# Shorter feature vectors are treated as this long, so that cells without any feature have a bounded gradient.
_SHORTEST = 1e-3


class RelationAdapter(nn.Sequential):
    """3x3 convolution, ReLU, 1x1 convolution: lets the student express relations in features of its own."""

    def __init__(self, channels: int) -> None:
        super().__init__(
            nn.Conv2d(channels, channels, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, kernel_size=1),
        )


class RelD(LossTerm[RelDConfig]):
    """The loss between relations of the cells of fused maps; see the module.

    Attributes:
        adapters: one per scale; empty where the student's maps are compared as they are.
    """

    name = "reld"
    kinds: ClassVar[Mapping[str, type[Target]]] = {"reld": ScaledMaps}
    flat_settings = True

    def __init__(self, section: RelDConfig) -> None:
        super().__init__(section)
        self.adapters = nn.ModuleList()

    def weights(self) -> dict[str, float]:
        return {"reld": self.section.weight}

    def build_adapters(self, channels: StudentChannels) -> None:
        if self.section.adapter:
            self.adapters.extend(RelationAdapter(channels.fused) for _ in self.section.scales)

    def targets(self, teacher: DetectorOutput, boxes: Sequence[Boxes3D], grid: BEVGrid) -> dict[str, Target]:
        return {"reld": ScaledMaps(resample(teacher.features.fused.detach(), self.section.scales))}

    def compare(self, scalar: str, student: DetectorOutput, targets: TeacherTargets) -> Tensor:
        maps = resample(student.features.fused, self.section.scales)
        if self.section.adapter:
            maps = tuple(adapter(scaled) for adapter, scaled in zip(self.adapters, maps, strict=True))
        return reld_loss(maps, targets.part("reld", ScaledMaps, scalar).maps, self.section)

    def compare_share(self, scalar: str, student: DetectorOutput, targets: TeacherTargets, counts: Tensor) -> Tensor:
        share = super().compare_share(scalar, student, targets, counts)
        # Once more, for the division by the batch size after the mean over it.
        return share * (targets.batch_size / counts[0]) if self.section.reading == "released" else share


def resample(bev_map: Float[Tensor, "b c x y"], scales: tuple[int, ...]) -> tuple[Tensor, ...]:
    """The map in float32, resampled (bilinearly, at cell centres) to ``s x s`` cells for each scale s."""
    return tuple(
        F.interpolate(bev_map.float(), size=(scale, scale), mode="bilinear", align_corners=False) for scale in scales
    )


def affinity(bev_map: Float[Tensor, "b c x y"], cosine: bool) -> Float[Tensor, "b n n"]:
    """Inner products of the features of all pairs of cells, n = x * y, in float32."""
    features = bev_map.float().flatten(2)
    if cosine:
        features = F.normalize(features, dim=1, eps=_SHORTEST)
    with full_precision(bev_map.device):
        return features.transpose(1, 2) @ features


def reld_loss(
    student_maps: tuple[Tensor, ...], teacher_maps: tuple[Tensor, ...], config: RelDConfig
) -> Float[Tensor, ""]:
    """Mean absolute difference of the affinities, summed over scales.

    Args:
        student_maps: resampled and, where there are adapters, adapted maps [B, C, s, s], one per scale.
        teacher_maps: the teacher's resampled maps, one per scale; their channels may differ from the student's.
        config: affinity and reading.

    Raises:
        ConfigError: batch size or scales of the two differ.
    """
    student_sizes, teacher_sizes = ([(m.shape[0], *m.shape[2:]) for m in maps] for maps in (student_maps, teacher_maps))
    if student_sizes != teacher_sizes:
        raise ConfigError(
            f"relations are compared between maps of one batch and equal scales, found (batch, x, y) {student_sizes} "
            f"in the student and {teacher_sizes} in the teacher targets; extract them with these distill.reld.scales"
        )
    cosine = config.affinity == "cosine"
    terms = [
        (affinity(student, cosine) - affinity(teacher.detach(), cosine)).abs().mean()
        for student, teacher in zip(student_maps, teacher_maps, strict=True)
    ]
    total = torch.stack(terms).sum()
    return total / student_maps[0].shape[0] if config.reading == "released" else total
