"""Hard voxelisation: points into voxels of a limited number of points, first come first served."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class VoxelGrid:
    """Where voxels lie and how many are kept.

    Attributes:
        lower_m: lower x, y, z corner (m).
        size_m: voxel size along x, y, z (m).
        shape: number of voxels along x, y, z.
        max_points: points kept of a voxel.
    """

    lower_m: tuple[float, float, float]
    size_m: tuple[float, float, float]
    shape: tuple[int, int, int]
    max_points: int


@dataclass(frozen=True)
class Voxels:
    """M voxels of one or several samples, in order of their first point.

    Attributes:
        features: (M, max_points, F) points in their order, zero where a voxel has fewer.
        coordinates: (M, 4) sample, x, y, z index.
        counts: (M,) points kept, at least 1.
    """

    features: Tensor
    coordinates: Tensor
    counts: Tensor

    @property
    def filled(self) -> Tensor:
        """(M, max_points): which slots hold a point."""
        slots = torch.arange(self.features.shape[1], device=self.counts.device)
        return slots[None] < self.counts[:, None]

    def mean(self) -> Float[Tensor, "m f"]:
        """Mean of the points kept of each voxel."""
        return self.features.sum(dim=1) / self.counts[:, None].to(self.features)


def voxelize(points: Float[Tensor, "p f"], grid: VoxelGrid, max_voxels: int, sample: int = 0) -> Voxels:
    """Voxels of one sample's points, see :func:`voxelize_batch`.

    Args:
        sample: index of the sample in its batch, stored in the coordinates.
    """
    return voxelize_batch([*[points[:0]] * sample, points], grid, max_voxels)


def voxelize_batch(samples: Sequence[Float[Tensor, "_ f"]], grid: VoxelGrid, max_voxels: int) -> Voxels:
    """Voxels of every sample, one sample after the other, computed in float32 whatever autocast says.

    A point off the grid is dropped, by floor and not by truncation. Points beyond ``max_points`` of their voxel are
    dropped; once a sample has ``max_voxels`` voxels, points that would open another are dropped while those of voxels
    already open are still taken.

    Args:
        samples: coordinates (x, y, z first; metres) and features of each sample's points; never written to.
        grid: voxel size, extent and points a voxel.
        max_voxels: voxels kept of each sample.
    """
    points = torch.cat([*samples]).float()
    inside, coordinates = _locate(points, [len(sample) for sample in samples], grid)
    keys, order = torch.sort(flat_voxel_index(coordinates.T, grid.shape), stable=True)
    _, voxel_of_sorted, sizes = torch.unique_consecutive(keys, return_inverse=True, return_counts=True)
    starts = sizes.cumsum(0) - sizes
    first_points = order.index_select(0, starts)
    by_appearance = first_points.argsort()
    sample_of_voxel = coordinates[0].index_select(0, first_points.index_select(0, by_appearance))
    in_sample = torch.arange(len(starts), device=points.device) - torch.searchsorted(sample_of_voxel, sample_of_voxel)
    by_appearance = by_appearance[in_sample < max_voxels]
    rank = torch.full_like(starts, -1)
    rank[by_appearance] = torch.arange(len(by_appearance), device=points.device)

    voxel = rank.index_select(0, voxel_of_sorted)
    slot = torch.arange(len(order), device=points.device) - starts.index_select(0, voxel_of_sorted)
    kept = torch.nonzero((voxel >= 0) & (slot < grid.max_points)).flatten()
    slots = (voxel * grid.max_points + slot).index_select(0, kept)
    kept_points = points.index_select(0, inside.index_select(0, order.index_select(0, kept)))
    features = points.new_zeros((len(by_appearance) * grid.max_points, points.shape[1]))
    features = features.index_copy_(0, slots, kept_points).unflatten(0, (-1, grid.max_points))
    coordinates = coordinates.index_select(1, first_points.index_select(0, by_appearance)).T.long()
    return Voxels(features, coordinates, sizes.index_select(0, by_appearance).clamp(max=grid.max_points))


def _locate(
    points: Float[Tensor, "p f"], counts: Sequence[int], grid: VoxelGrid
) -> tuple[Int[Tensor, "inside"], Int[Tensor, "sample_x_y_z inside"]]:
    """Which points are on the grid, and their samples and cells; `counts` are the samples' numbers of points."""
    lower, size, shape = (points.new_tensor(part)[:, None] for part in (grid.lower_m, grid.size_m, grid.shape))
    # With the coordinates apart in memory what follows takes half as long.
    cells = torch.floor((points[:, :3].T.contiguous() - lower) / size)
    inside = torch.nonzero(((cells >= 0) & (cells < shape)).all(dim=0)).flatten()
    sample = torch.repeat_interleave(torch.tensor(counts, device=points.device), output_size=len(points))
    located = torch.cat([sample[None].to(cells), cells]).index_select(1, inside)
    return inside, located.to(index_type(len(counts) * math.prod(grid.shape)))


def flat_voxel_index(coordinates: Int[Tensor, "m 4"], shape: tuple[int, int, int]) -> Int[Tensor, "m"]:
    """Row-major index of (sample, x, y, z)."""
    sample, x, y, z = coordinates.unbind(dim=1)
    return ((sample * shape[0] + x) * shape[1] + y) * shape[2] + z


def index_type(count: int) -> torch.dtype:
    """The integers that number so many things: those of 32 bits are sorted and searched in half the time."""
    return torch.int32 if count <= torch.iinfo(torch.int32).max else torch.int64
