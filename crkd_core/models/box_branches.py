"""Box codes at a few cells, without the box maps: all that the losses of training read of them.

Of every hundred cells of a box map the losses read one or two. The others matter through the batch norms alone, whose
mean and variance are over all cells. A convolution being linear in the 3 x 3 patches p of its input, its output ``w p``
has the mean ``w m`` and the variance ``w C w'``, where m and C are mean and covariance of the patches. So one small
matrix C of the shared map gives the batch norms of all branches of all tasks, and the branches are computed only around
the cells that are read.

Codes, gradients and running statistics are those of whole maps (:class:`.head.TaskHead`) up to rounding.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from crkd_core.models.box_coder import CHANNELS, BoxCode
from crkd_core.models.outputs import TaskOutput, gather_cells

_KERNEL = 3
_MARGIN = 2
"""Cells around a map that the kernels of two layers reach."""


class _PatchMoments(torch.autograd.Function):
    """Keeps the map alone for the backward pass; its patches, nine times as many numbers, are made again."""

    @staticmethod
    def forward(ctx: Any, bev_map: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        patches, offset = _patches(bev_map)
        mean = patches.mean(dim=(0, 2))
        covariance = torch.bmm(patches, patches.mT).sum(dim=0) / _count(patches) - torch.outer(mean, mean)
        ctx.save_for_backward(bev_map, mean)
        return mean + offset, covariance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_mean: Tensor, to_covariance: Tensor) -> Tensor:
        bev_map, mean = ctx.saved_tensors
        patches, _ = _patches(bev_map)
        slope = (to_covariance + to_covariance.T) / _count(patches)
        constant = to_mean / _count(patches) - slope @ mean
        to_patches = torch.baddbmm(constant[:, None], slope.expand(len(patches), -1, -1), patches)
        padded = tuple(side + 2 for side in bev_map.shape[2:])
        return functional.fold(to_patches, padded, _KERNEL)[:, :, 1:-1, 1:-1]


def _patches(bev_map: Float[Tensor, "b c x y"]) -> tuple[Float[Tensor, "b k cells"], Float[Tensor, "k"]]:
    """The patch around every cell, less an offset: near their mean, squares keep more digits."""
    centre = bev_map.mean(dim=(0, 2, 3))
    near_zero = functional.pad(bev_map, (1, 1, 1, 1)) - centre[:, None, None]
    return functional.unfold(near_zero, _KERNEL), centre.repeat_interleave(_KERNEL**2)


def _count(patches: Tensor) -> int:
    return patches.shape[0] * patches.shape[2]


def patch_moments(bev_map: Float[Tensor, "b c x y"]) -> tuple[Float[Tensor, "k"], Float[Tensor, "k k"]]:
    """Mean and covariance (divided by their number) of the 3 x 3 patches of all cells, zero beyond the grid.

    Numbers of a patch are in the order of a convolution's weights: channel, x, y.
    """
    mean, covariance = _PatchMoments.apply(bev_map)  # type: ignore[no-untyped-call]
    return mean, covariance


def patch_moments_reference(bev_map: Float[Tensor, "b c x y"]) -> tuple[Float[Tensor, "k"], Float[Tensor, "k k"]]:
    """The definition of :func:`patch_moments`."""
    patches = functional.unfold(bev_map, _KERNEL, padding=1).movedim(1, 0).flatten(1)
    return patches.mean(dim=1), torch.cov(patches, correction=0)


@dataclass(frozen=True)
class SharedMap:
    """The map that all branches read, also as rows.

    Attributes:
        bev_map: itself.
        rows: features of every cell, those of a margin around the grid (zero) included.
    """

    bev_map: Float[Tensor, "b c x y"]
    rows: Float[Tensor, "cells c"]

    @staticmethod
    def build(bev_map: Float[Tensor, "b c x y"]) -> "SharedMap":
        padded = functional.pad(bev_map, [_MARGIN] * 4)
        return SharedMap(bev_map, padded.permute(0, 2, 3, 1).flatten(0, 2))

    @property
    def cell_count(self) -> int:
        """Cells of all samples, without the margin."""
        return self.bev_map[:, 0].numel()

    def row_of(self, cells: Int[Tensor, "p"]) -> Int[Tensor, "p"]:
        """Rows of cells given as ``b * X * Y + x * Y + y``."""
        nx, ny = self.bev_map.shape[2:]
        sample, x, y = cells // (nx * ny), cells // ny % nx, cells % ny
        return (sample * (nx + 2 * _MARGIN) + x + _MARGIN) * (ny + 2 * _MARGIN) + y + _MARGIN

    def around(self, rows: Int[Tensor, "p"]) -> Int[Tensor, "p 9"]:
        """Rows of the cells of a kernel around others, in the order of a convolution's weights."""
        steps = torch.arange(-1, 2, device=rows.device)
        return rows[:, None] + (steps[:, None] * (self.bev_map.shape[3] + 2 * _MARGIN) + steps).flatten()

    def on_grid(self, rows: Int[Tensor, "p"]) -> Bool[Tensor, "p"]:
        """Which of them are not in the margin."""
        nx, ny = self.bev_map.shape[2:]
        width = ny + 2 * _MARGIN
        x, y = rows // width % (nx + 2 * _MARGIN) - _MARGIN, rows % width - _MARGIN
        return (x >= 0) & (x < nx) & (y >= 0) & (y < ny)


@dataclass(frozen=True)
class BoxBranches:
    """The box branches of one task side by side, with the batch norms of one batch.

    Attributes:
        shared: the map that they read.
        first, shift: weights of the first convolutions, times the scale of their batch norms, and what is added.
        last, bias: those of the last convolutions; each code's reach the hidden channels of its own branch alone.
    """

    shared: SharedMap
    first: Float[Tensor, "hidden k"]
    shift: Float[Tensor, "hidden"]
    last: Float[Tensor, "codes hidden*9"]
    bias: Float[Tensor, "codes"]

    def codes_at(self, cells: Int[Tensor, "p"]) -> Float[Tensor, "p codes"]:
        """Codes at cells; hidden layers are computed once in each of the cells around them."""
        if len(cells) * _KERNEL**2 > self.shared.cell_count:
            return gather_cells(self.maps, cells)
        shared = self.shared
        hidden_rows, slot = torch.unique(shared.around(shared.row_of(cells)), return_inverse=True)  # u, p 9
        patches = functional.embedding(shared.around(hidden_rows), shared.rows)  # u 9 c
        hidden = functional.linear(patches.mT.flatten(1), self.first, self.shift).relu_()
        hidden = hidden * shared.on_grid(hidden_rows)[:, None]  # u hidden
        return functional.linear(functional.embedding(slot, hidden).mT.flatten(1), self.last, self.bias)

    @cached_property
    def maps(self) -> Float[Tensor, "b codes x y"]:
        """Codes at all cells."""
        first, last = (weight.unflatten(1, (-1, _KERNEL, _KERNEL)) for weight in (self.first, self.last))
        hidden = functional.conv2d(self.shared.bev_map, first, self.shift, padding=1).relu_()
        return functional.conv2d(hidden, last, self.bias, padding=1)


class TaskOutputAtCells(TaskOutput):
    """A task's output in training: box codes are computed at the cells where they are read.

    Whole box maps are made, at a higher price, when somebody asks for one.
    """

    branches: BoxBranches

    def __init__(self, heatmap_logits: Float[Tensor, "b k x y"], branches: BoxBranches) -> None:
        object.__setattr__(self, "heatmap_logits", heatmap_logits)
        object.__setattr__(self, "branches", branches)

    def codes_at(self, cells: Int[Tensor, "p"]) -> Float[Tensor, "p channels"]:
        with torch.autocast(cells.device.type, enabled=False):
            return self.branches.codes_at(cells)

    def __getattr__(self, name: str) -> Tensor:
        if name not in vars(CHANNELS):
            raise AttributeError(name)
        with torch.autocast(self.heatmap_logits.device.type, enabled=False):
            parts = BoxCode(*self.branches.maps.split([*CHANNELS], dim=1))
        return cast(Tensor, getattr(parts, name))


@torch.compiler.disable  # type: ignore[untyped-decorator]
def normalise_branches(shared: Float[Tensor, "b c x y"], tasks: Sequence[Sequence[nn.Sequential]]) -> list[BoxBranches]:
    """The box branches of every task with the norms of a batch, which they take into their running statistics.

    Computed in float32, also under autocast.

    Args:
        shared: the map that they read.
        tasks: the branches of each task, each a convolution, its batch norm, a ReLU and a last convolution.
    """
    with torch.autocast(shared.device.type, enabled=False):
        shared = shared.float()
        firsts, norms = zip(*((branch[0], branch[1]) for task in tasks for branch in task), strict=True)
        first = torch.cat([conv.weight.flatten(1) for conv in firsts])
        patch_mean, patch_covariance = patch_moments(shared)
        mean = first @ patch_mean
        variance = ((first @ patch_covariance) * first).sum(dim=1).clamp(min=0)
        _track(norms, mean.detach(), variance.detach(), shared[:, 0].numel())
        scale = torch.cat([norm.weight for norm in norms]) * torch.rsqrt(variance + norms[0].eps)
        shift = torch.cat([norm.bias for norm in norms]) - mean * scale
        sizes = [sum(cast(nn.Conv2d, branch[0]).out_channels for branch in task) for task in tasks]
        rows = SharedMap.build(shared)
        normed = zip((first * scale[:, None]).split(sizes), shift.split(sizes), strict=True)
        return [BoxBranches(rows, *norm, *last) for norm, last in zip(normed, map(_last_layer, tasks), strict=True)]


def _last_layer(branches: Sequence[nn.Sequential]) -> tuple[Tensor, Tensor]:
    convs = [cast(nn.Conv2d, branch[3]) for branch in branches]
    weight = torch.block_diag(*(conv.weight.flatten(1) for conv in convs))
    return weight, torch.cat([cast(Tensor, conv.bias) for conv in convs])


@torch.no_grad()
def _track(norms: Sequence[nn.BatchNorm2d], mean: Tensor, variance: Tensor, cells: int) -> None:
    sizes = [norm.num_features for norm in norms]
    unbiased = variance * (cells / max(cells - 1, 1))
    for norm, of_mean, of_variance in zip(norms, mean.split(sizes), unbiased.split(sizes), strict=True):
        for running, value in ((norm.running_mean, of_mean), (norm.running_var, of_variance)):
            cast(Tensor, running).lerp_(value, cast(float, norm.momentum))
        cast(Tensor, norm.num_batches_tracked).add_(1)
