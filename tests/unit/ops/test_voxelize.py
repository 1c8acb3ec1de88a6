"""Hard voxelisation against a plain loop."""

import pytest
import torch

from crkd_core.ops.voxelize import VoxelGrid, voxelize, voxelize_batch

GRID = VoxelGrid((-2.0, -1.0, 0.0), (0.5, 0.25, 1.0), (8, 8, 2), max_points=3)


def plain_loop(points, grid, max_voxels):
    """Voxels as {cell: [points]} in order of first appearance."""
    voxels = {}
    for point in points:
        cell = tuple(int(c) for c in torch.floor((point[:3] - torch.tensor(grid.lower_m)) / torch.tensor(grid.size_m)))
        if any(c < 0 or c >= n for c, n in zip(cell, grid.shape, strict=True)):
            continue
        if cell not in voxels and len(voxels) == max_voxels:
            continue
        kept = voxels.setdefault(cell, [])
        if len(kept) < grid.max_points:
            kept.append(point)
    return voxels


@pytest.mark.parametrize("max_voxels", [5, 1000])
@pytest.mark.parametrize("count", [0, 1, 300])
def test_equals_a_plain_loop(max_voxels, count):
    torch.manual_seed(count)
    points = torch.rand(count, 6) * torch.tensor([5.0, 2.5, 3.0, 1, 1, 1]) - torch.tensor([2.5, 1.2, 0.5, 0, 0, 0])
    expected = plain_loop(points, GRID, max_voxels)
    voxels = voxelize(points, GRID, max_voxels, sample=2)
    assert voxels.coordinates.tolist() == [[2, *cell] for cell in expected]
    assert voxels.counts.tolist() == [len(kept) for kept in expected.values()]
    for features, filled, kept in zip(voxels.features, voxels.filled, expected.values(), strict=True):
        assert torch.equal(features[filled], torch.stack(kept))
        assert not features[~filled].any()


def test_edges_are_by_floor_and_half_open():
    points = torch.tensor(
        [[-2.0, -1.0, 0.0], [-2.01, -1.0, 0.0], [2.0, 0.0, 0.0], [1.99, 0.99, 1.99], [0.0, 0.0, -0.01]]
    )
    assert voxelize(points, GRID, 10).coordinates.tolist() == [[0, 0, 0, 0], [0, 7, 7, 1]]


def test_limits_count_for_each_sample_and_means_for_kept_points():
    points = torch.tensor([[0.1, 0.1, 0.1, v] for v in (1.0, 2.0, 6.0, 100.0)])
    voxels = voxelize_batch([points, points[:0], points[1:2]], GRID, 1)
    assert voxels.coordinates[:, 0].tolist() == [0, 2]
    assert voxels.mean()[:, 3].tolist() == [3.0, 2.0]


def test_half_precision_points_are_placed_in_float32():
    points = torch.tensor([[0.1, 0.1, 0.1]], dtype=torch.float16)
    assert voxelize(points, GRID, 1).features.dtype == torch.float32
