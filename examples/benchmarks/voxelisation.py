"""Voxelisation: radar pillars and LiDAR voxels in torch against a plain Python loop, at the sizes of a preset.

The points lie on surfaces as a spinning LiDAR sees them, on the ground and on walls; both ways give the same voxels,
which is checked. Times are medians over repeats.

    python examples/benchmarks/voxelisation.py [--preset paper-r50] [--lidar-points 250000] [--radar-points 4000]
"""

import argparse
import math

import torch
from measuring import median_seconds, show
from torch import Tensor

from crkd_core.config.loading import load_config
from crkd_core.geometry.sensors import LIDAR_FEATURES, RADAR_FEATURES
from crkd_core.models.lidar import LidarBranch
from crkd_core.models.radar import RadarBranch
from crkd_core.ops.voxelize import VoxelGrid, Voxels, voxelize

BEAMS, LIDAR_HEIGHT_M = 32, 1.84


def surface_points(count: int, features: int) -> Tensor:
    """Points in the LiDAR frame: beams that look down meet the ground, the others a wall around the car."""
    generator = torch.Generator().manual_seed(0)
    elevation = torch.linspace(math.radians(-30.7), math.radians(10.7), BEAMS)[torch.arange(count) % BEAMS]
    azimuth = torch.rand(count, generator=generator) * 2 * math.pi
    wall_m = 25 + 15 * torch.sin(3 * azimuth)
    ground_m = LIDAR_HEIGHT_M / torch.tan(-elevation).clamp(min=1e-3)
    distance = torch.minimum(wall_m, ground_m) + 0.02 * torch.randn(count, generator=generator)
    points = torch.rand(count, features, generator=generator)
    points[:, 0], points[:, 1] = distance * azimuth.cos(), distance * azimuth.sin()
    points[:, 2] = distance * elevation.tan()
    return points


def voxelize_in_a_loop(points: Tensor, grid: VoxelGrid, max_voxels: int) -> Voxels:
    """The definition, point by point: first come first served, in voxels of limited size and number."""
    cells = torch.floor((points[:, :3] - torch.tensor(grid.lower_m)) / torch.tensor(grid.size_m)).long().tolist()
    rows: dict[tuple[int, ...], int] = {}
    members: list[list[int]] = []
    for index, cell in enumerate(map(tuple, cells)):
        if not all(0 <= value < size for value, size in zip(cell, grid.shape, strict=True)):
            continue
        if cell not in rows:
            if len(members) == max_voxels:
                continue
            rows[cell] = len(members)
            members.append([])
        inside = members[rows[cell]]
        if len(inside) < grid.max_points:
            inside.append(index)
    features = torch.zeros(len(members), grid.max_points, points.shape[1])
    for row, inside in enumerate(members):
        features[row, : len(inside)] = points[inside]
    coordinates = torch.tensor([(0, *cell) for cell in rows], dtype=torch.long).view(-1, 4)
    return Voxels(features, coordinates, torch.tensor([len(inside) for inside in members]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="paper-r50", help="configuration whose sizes are taken")
    parser.add_argument("--lidar-points", type=int, default=250_000, help="about ten sweeps")
    parser.add_argument("--radar-points", type=int, default=4_000, help="about six sweeps of five radars")
    parser.add_argument("--repeats", type=int, default=5, help="timed calls, after one that is not counted")
    options = parser.parse_args()
    config = load_config(options.preset)
    grid = config.data.grid.build()
    lidar, radar = config.teacher.lidar, config.student.radar
    cases = {
        "LiDAR voxels": (
            LidarBranch(lidar, grid).voxel_grid,
            lidar.max_voxels_test,
            options.lidar_points,
            LIDAR_FEATURES,
        ),
        "radar pillars": (
            RadarBranch(radar, grid).voxel_grid,
            radar.max_pillars_test,
            options.radar_points,
            RADAR_FEATURES,
        ),
    }
    rows = []
    for name, (voxel_grid, limit, count, features) in cases.items():
        points = surface_points(count, features)
        batched, loop = voxelize(points, voxel_grid, limit), voxelize_in_a_loop(points, voxel_grid, limit)
        for part in ("features", "coordinates", "counts"):
            torch.testing.assert_close(getattr(batched, part), getattr(loop, part), rtol=0, atol=0)
        fast = median_seconds(lambda: voxelize(points, voxel_grid, limit), options.repeats)  # noqa: B023
        slow = median_seconds(lambda: voxelize_in_a_loop(points, voxel_grid, limit), options.repeats)  # noqa: B023
        rows.append([name, f"{count}", f"{len(batched.counts)}", f"{fast:.4f}", f"{slow:.4f}", f"{slow / fast:.1f}x"])
    columns = ["", "points", "voxels", "torch (s)", "loop (s)", "ratio"]
    show(f"Voxelisation of one sample, {options.preset}, {torch.get_num_threads()} threads", columns, rows)


if __name__ == "__main__":
    main()
