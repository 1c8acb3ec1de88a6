"""Mask-scaling feature distillation (paper, section 3.3.2), on gated camera maps and on fused maps.

With the student's map S, the teacher's T, and the cells M of the grown ground-truth boxes (:mod:`.masks`):

- ``released``: ``L = 1 / (B |M|) sum over M of mean over channels 1/2 (S - T)^2``, where M are the mask cells of the
  whole batch in which T is not zero in every channel. The division by the batch size B, on top of the mean over the
  batch's cells, is the published code's and belongs to its weight.
- ``paper``: ``L = 1 / (B X Y) sum over M of |S - T|_2``, the norm over channels.

Ours, and off by default: S may pass a :class:`ChannelAdapter` first. The published student and teacher have image
backbones of the same ImageNet weights, so that their channels have much in common; those of two detectors trained from
random weights have not, and the student would have to give up what it has learnt for the teacher's order of channels.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from crkd_core.config.distill import MSFDConfig, Variant
from crkd_core.distillation.masks import foreground_mask
from crkd_core.distillation.target_kinds import SparseCells, Target
from crkd_core.distillation.targets import TeacherTargets
from crkd_core.distillation.term import LossTerm, Requirement, StudentChannels, from_student
from crkd_core.errors import ConfigError
from crkd_core.geometry.boxes import Boxes3D
from crkd_core.geometry.grid import BEVGrid
from crkd_core.models.outputs import DetectorOutput

_CELLS = {"msfd_camera": "msfd.camera", "msfd_fused": "msfd.fused"}


class ChannelAdapter(nn.Conv2d):
    """1x1 convolution [B, C, X, Y] -> [B, C, X, Y] of a student's map in the teacher's order of channels (ours).

    Weights and biases begin at zero. Until they have moved the student has no gradient: the adapter first learns to
    read the student's features, then pulls at them.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, kernel_size=1)
        for parameter in self.parameters():
            nn.init.zeros_(parameter)


class MSFD(LossTerm[MSFDConfig]):
    """The loss between gated camera maps (`msfd_camera`) and between fused maps (`msfd_fused`); see the module.

    Attributes:
        channel_adapters: by scalar; empty where the student's maps are compared as they are.
    """

    name = "msfd"
    kinds: ClassVar[Mapping[str, type[Target]]] = dict.fromkeys(_CELLS.values(), SparseCells)

    def __init__(self, section: MSFDConfig) -> None:
        super().__init__(section)
        self.channel_adapters = nn.ModuleDict()

    def weights(self) -> dict[str, float]:
        return {"msfd_camera": self.section.camera_weight, "msfd_fused": self.section.fused_weight}

    def stored_parts(self) -> tuple[str, ...]:
        return tuple(_CELLS[scalar] for scalar in self.scalars)

    def requires(self) -> Sequence[Requirement]:
        requirements = {
            "msfd_camera": Requirement(
                "camera",
                "msfd compares camera maps",
                "set distill.msfd.camera_weight to 0",
                equal_widths=True,
            ),
            "msfd_fused": Requirement(
                "fused", "msfd compares fused maps", "set distill.msfd.fused_weight to 0", equal_widths=True
            ),
        }
        return [requirements[scalar] for scalar in self.scalars]

    def build_adapters(self, channels: StudentChannels) -> None:
        widths = {"msfd_camera": channels.camera, "msfd_fused": channels.fused}
        for scalar in self.scalars if self.section.adapter else ():
            width = from_student(widths[scalar], scalar, "a camera map")
            self.channel_adapters[scalar] = ChannelAdapter(width)

    def targets(self, teacher: DetectorOutput, boxes: Sequence[Boxes3D], grid: BEVGrid) -> dict[str, Target]:
        maps = _compared_maps(teacher)
        mask = torch.stack(
            [foreground_mask(part.to(teacher.features.fused.device), grid, self.section) for part in boxes]
        )
        targets: dict[str, Target] = {}
        for scalar in self.scalars:
            bev_map = maps[scalar]
            if bev_map is None:
                raise ConfigError(
                    "msfd compares camera maps but the teacher has no camera; set distill.msfd.camera_weight to 0"
                )
            targets[_CELLS[scalar]] = msfd_cells(bev_map, mask, self.section.reading)
        return targets

    def compare(self, scalar: str, student: DetectorOutput, targets: TeacherTargets) -> Tensor:
        bev_map = from_student(_compared_maps(student)[scalar], scalar, "a camera map")
        cells = targets.part(_CELLS[scalar], SparseCells, scalar)
        if scalar in self.channel_adapters:
            bev_map = self.channel_adapters[scalar](bev_map.float())
        return msfd_loss(bev_map, cells, self.section.reading)

    def count(self, targets: TeacherTargets) -> Tensor:
        """Samples, then the cells that each scalar compares."""
        cells = [targets.part(_CELLS[scalar], SparseCells, scalar) for scalar in self.scalars]
        return torch.tensor([targets.batch_size, *(len(part.indices) for part in cells)])

    def compare_share(self, scalar: str, student: DetectorOutput, targets: TeacherTargets, counts: Tensor) -> Tensor:
        share = super().compare_share(scalar, student, targets, counts)
        if self.section.reading == "paper":
            return share
        compared = max(len(targets.part(_CELLS[scalar], SparseCells, scalar).indices), 1)
        of_step = counts[1 + self.scalars.index(scalar)].clamp(min=1)
        return share * (compared / of_step)


def _compared_maps(output: DetectorOutput) -> dict[str, Tensor | None]:
    return {"msfd_camera": output.features.gated_camera, "msfd_fused": output.features.fused}


def msfd_cells(teacher_map: Float[Tensor, "b c x y"], mask: Bool[Tensor, "b x y"], variant: Variant) -> SparseCells:
    """The teacher's map on the cells that :func:`msfd_loss` compares."""
    if variant == "released":
        mask = mask & (teacher_map.detach() != 0).any(dim=1)
    return SparseCells.select(teacher_map, mask)


def msfd_loss(student_map: Float[Tensor, "b c x y"], cells: SparseCells, variant: Variant) -> Float[Tensor, ""]:
    """The term for one pair of maps; 0 where no cell is compared.

    Args:
        student_map: the student's map of the batch [B, C, X, Y], behind its adapter where there is one.
        cells: the teacher's map on the cells to compare, from :func:`msfd_cells`.
        variant: form of the loss.

    Raises:
        ConfigError: the maps differ in batch size, grid or channels.
    """
    difference = cells.gather(student_map) - cells.features.detach()
    if variant == "paper":
        nx, ny = cells.grid_shape
        lengths: Tensor = torch.linalg.vector_norm(difference, dim=1)
        return lengths.sum().div(cells.batch_size * nx * ny)
    compared = max(len(cells.indices), 1)
    return difference.square().mean(dim=1).sum().mul(0.5).div(compared * cells.batch_size)
