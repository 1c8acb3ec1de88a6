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

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from crkd_core.config.distill import Reading
from crkd_core.distillation.cells import SparseCells


class ChannelAdapter(nn.Conv2d):
    """1x1 convolution [B, C, X, Y] -> [B, C, X, Y] of a student's map in the teacher's order of channels (ours).

    Weights and biases begin at zero. Until they have moved the student has no gradient: the adapter first learns to
    read the student's features, then pulls at them.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, kernel_size=1)
        for parameter in self.parameters():
            nn.init.zeros_(parameter)


def msfd_cells(teacher_map: Float[Tensor, "b c x y"], mask: Bool[Tensor, "b x y"], reading: Reading) -> SparseCells:
    """The teacher's map on the cells that :func:`msfd_loss` compares."""
    if reading == "released":
        mask = mask & (teacher_map.detach() != 0).any(dim=1)
    return SparseCells.select(teacher_map, mask)


def msfd_loss(student_map: Float[Tensor, "b c x y"], cells: SparseCells, reading: Reading) -> Float[Tensor, ""]:
    """The term for one pair of maps; 0 where no cell is compared.

    Args:
        student_map: the student's map of the batch [B, C, X, Y], behind its adapter where there is one.
        cells: the teacher's map on the cells to compare, from :func:`msfd_cells`.
        reading: form of the loss.

    Raises:
        ConfigError: the maps differ in batch size, grid or channels.
    """
    difference = cells.gather(student_map) - cells.features.detach()
    if reading == "paper":
        nx, ny = cells.grid_shape
        return torch.linalg.vector_norm(difference, dim=1).sum() / (cells.batch_size * nx * ny)
    compared = max(len(cells.indices), 1)
    return 0.5 * difference.square().mean(dim=1).sum() / (compared * cells.batch_size)
