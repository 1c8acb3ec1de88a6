"""Hard voxelisation: points into voxels of a limited number of points, first come first served."""

import math
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
    """Voxels of one sample's points (x, y, z first; metres), computed in float32 whatever autocast says.

    A point off the grid is dropped, by floor and not by truncation. Points beyond ``max_points`` of their voxel are
    dropped; once there are ``max_voxels`` voxels, points that would open another are dropped while those of voxels
    already open are still taken.

    Args:
        points: coordinates and features; never written to.
        grid: voxel size, extent and points a voxel.
        max_voxels: voxels kept.
        sample: index of the sample in its batch, stored in the coordinates.
    """
    points = points.float()
    lower, size = points.new_tensor(grid.lower_m), points.new_tensor(grid.size_m)
    cells = torch.floor((points[:, :3] - lower) / size).long()
    shape = torch.tensor(grid.shape, device=points.device)
    inside = torch.nonzero(((cells >= 0) & (cells < shape)).all(dim=1)).flatten()
    points, cells = points.index_select(0, inside), cells.index_select(0, inside)

    key = (cells[:, 0] * grid.shape[1] + cells[:, 1]) * grid.shape[2] + cells[:, 2]
    keys, order = torch.sort(key.to(index_type(math.prod(grid.shape))), stable=True)
    _, voxel_of_sorted, sizes = torch.unique_consecutive(keys, return_inverse=True, return_counts=True)
    starts = sizes.cumsum(0) - sizes
    by_appearance = order[starts].argsort()
    rank = torch.empty_like(by_appearance)
    rank[by_appearance] = torch.arange(len(by_appearance), device=points.device)

    voxel = rank[voxel_of_sorted]
    slot = torch.arange(len(order), device=points.device) - starts[voxel_of_sorted]
    kept = torch.nonzero((voxel < max_voxels) & (slot < grid.max_points)).flatten()
    first_points = by_appearance[:max_voxels]
    slots = (voxel * grid.max_points + slot).index_select(0, kept)
    features = points.new_zeros((len(first_points) * grid.max_points, points.shape[1]))
    features = features.index_copy_(0, slots, points.index_select(0, order.index_select(0, kept)))
    features = features.view(len(first_points), grid.max_points, points.shape[1])
    coordinates = torch.nn.functional.pad(cells[order[starts[first_points]]], (1, 0), value=sample)
    return Voxels(features, coordinates, sizes[first_points].clamp(max=grid.max_points))


def voxelize_batch(samples: list[Tensor], grid: VoxelGrid, max_voxels: int) -> Voxels:
    """Voxels of every sample, one sample after the other; ``max_voxels`` counts for each sample."""
    parts = [voxelize(points, grid, max_voxels, sample) for sample, points in enumerate(samples)]
    return Voxels(
        torch.cat([part.features for part in parts]),
        torch.cat([part.coordinates for part in parts]),
        torch.cat([part.counts for part in parts]),
    )


def flat_voxel_index(coordinates: Int[Tensor, "m 4"], shape: tuple[int, int, int]) -> Int[Tensor, "m"]:
    """Row-major index of (sample, x, y, z)."""
    sample, x, y, z = coordinates.unbind(dim=1)
    return ((sample * shape[0] + x) * shape[1] + y) * shape[2] + z


def index_type(count: int) -> torch.dtype:
    """The integers that number so many things: those of 32 bits are sorted and searched in half the time."""
    return torch.int32 if count <= torch.iinfo(torch.int32).max else torch.int64
