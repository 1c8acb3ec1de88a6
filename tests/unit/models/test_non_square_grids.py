"""A grid that is longer along one axis is a crop of a square one: swapped axes would show in every part."""

import dataclasses

import pytest
import torch

from crkd_core.config.data import GridConfig
from crkd_core.config.distill import MSFDConfig
from crkd_core.config.models import HeadConfig, LidarBranchConfig, NMSConfig, ViewTransformConfig
from crkd_core.data.points import centres_in_range, in_radar_range
from crkd_core.distillation.masks import foreground_mask
from crkd_core.distillation.reld import resample
from crkd_core.distillation.target_kinds import DenseMap, SparseCells
from crkd_core.distillation.targets import TeacherTargets
from crkd_core.geometry.boxes import Boxes3D
from crkd_core.geometry.grid import BEVGrid
from crkd_core.geometry.sensors import CameraRig
from crkd_core.models.box_coder import CHANNEL_COUNT, CHANNELS
from crkd_core.models.decode import decode_detections
from crkd_core.models.head_targets import build_head_targets
from crkd_core.models.lidar import LidarBranch
from crkd_core.models.outputs import HeadOutput, TaskOutput
from crkd_core.models.radar import scatter_pillars
from crkd_core.models.view_transform import ViewTransform
from crkd_core.ops.voxelize import VoxelGrid, voxelize_batch
from tests.support.described import TASKS

CELL_M = 0.6
SQUARE = BEVGrid((-9.6, 9.6), (-9.6, 9.6), (-5.0, 3.0), CELL_M)
# Longer along x, longer along y, and off the middle along both.
CROPS = {
    "wide": BEVGrid((-9.6, 9.6), (-4.8, 4.8), (-5.0, 3.0), CELL_M),
    "long": BEVGrid((-4.8, 4.8), (-9.6, 9.6), (-5.0, 3.0), CELL_M),
    "shifted": BEVGrid((-4.8, 9.6), (-9.6, 2.4), (-5.0, 3.0), CELL_M),
}


@pytest.fixture(params=CROPS)
def grid(request) -> BEVGrid:
    return CROPS[request.param]


def rows_and_columns(grid: BEVGrid) -> tuple[slice, slice]:
    """Where a grid's cells lie on the square one."""
    starts = [round((lower + 9.6) / CELL_M) for lower in grid.lower_m]
    return slice(starts[0], starts[0] + grid.shape[0]), slice(starts[1], starts[1] + grid.shape[1])


def crop(square_map: torch.Tensor, grid: BEVGrid) -> torch.Tensor:
    rows, columns = rows_and_columns(grid)
    return square_map[..., rows, columns]


def inner_boxes(grid: BEVGrid, count: int = 12) -> Boxes3D:
    """Objects well inside, so that no border cuts their peaks."""
    torch.manual_seed(3)
    size = torch.tensor([upper - lower for lower, upper in (grid.x_range_m, grid.y_range_m)])
    tensor = torch.rand(count, 9) * 0.8 + 0.4
    tensor[:, :2] = torch.tensor(grid.lower_m) + 3.0 + torch.rand(count, 2) * (size - 6.0)
    tensor[:, 6] *= 3
    return Boxes3D(tensor)


def test_metres_and_cells_agree_on_the_axes(grid):
    rows, columns = rows_and_columns(grid)
    centres = grid.centres()
    assert centres.shape == (*grid.shape, 2)
    torch.testing.assert_close(centres, SQUARE.centres()[rows, columns])
    cells, inside = grid.locate(centres.view(-1, 2))
    assert inside.all()
    assert torch.equal(grid.flatten(cells), torch.arange(grid.shape[0] * grid.shape[1]))
    beyond = torch.tensor([[grid.x_range_m[1] + 0.1, grid.y_range_m[0] + 0.1], [0.0, grid.y_range_m[1] + 0.1]])
    assert not grid.locate(beyond)[1].any()


def test_which_boxes_and_radar_points_lie_in_range(grid):
    config = GridConfig(x_range_m=grid.x_range_m, y_range_m=grid.y_range_m, z_range_m=grid.z_range_m, cell_m=CELL_M)
    assert config.build() == grid
    torch.manual_seed(0)
    places = (torch.rand(500, 3) - 0.5) * 24
    boxes = Boxes3D(torch.cat([places, torch.ones(500, 6)], dim=1))
    assert torch.equal(centres_in_range(boxes, config), grid.locate(places[:, :2])[1])
    x, y = places[:, 0], places[:, 1]
    wider = (x > grid.x_range_m[0] - 1) & (x < grid.x_range_m[1] + 1) & (y > grid.y_range_m[0] - 1)
    wider &= y < grid.y_range_m[1] + 1
    assert in_radar_range(places.numpy(), config).tolist() == wider.tolist()


@pytest.mark.parametrize("downsample", [1, 2])
def test_camera_features_are_pooled_into_the_same_cells(grid, downsample):
    config = ViewTransformConfig(channels=3, depth_range_m=(1.0, 9.0), downsample=downsample)
    torch.manual_seed(0)
    square = ViewTransform(4, config, SQUARE, (32, 64), (4, 8)).eval()
    part = ViewTransform(4, config, grid, (32, 64), (4, 8)).eval()
    part.load_state_dict(square.state_dict())
    square.downsample = part.downsample = None
    poses = [torch.eye(4), torch.eye(4)]
    poses[0][:3, :3] = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    poses[1][:3, :3] = torch.tensor([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
    for pose in poses:  # off the cells' edges, where the last bit would decide
        pose[:2, 3] = torch.tensor([0.137, 0.211])
    intrinsics = torch.tensor([[50.0, 0, 32], [0, 50, 16], [0, 0, 1]]).expand(1, 2, 3, 3)
    rig = CameraRig(intrinsics, torch.stack(poses)[None], torch.eye(4).expand(1, 2, 4, 4))
    features = torch.randn(1, 2, 4, 4, 8)
    turn = torch.eye(4)
    turn[:2, :2] = torch.tensor([[0.8, -0.6], [0.6, 0.8]])
    for augmentation in (torch.eye(4)[None], turn[None]):
        whole = square(features, rig, augmentation, None)
        rows, columns = (slice(s.start * downsample, s.stop * downsample) for s in rows_and_columns(grid))
        cut = part(features, rig, augmentation, None)
        assert cut.shape[2:] == part.pool_grid.shape
        torch.testing.assert_close(cut, whole[:, :, rows, columns])
        assert whole[:, :, rows, columns].any()


def test_lidar_points_reach_the_same_cells(grid):
    config = LidarBranchConfig(stem_channels=4, stage_channels=((4, 8), (8, 8), (8, 8), (8,)), out_channels=6)
    torch.manual_seed(0)
    square, part = LidarBranch(config, SQUARE).eval(), LidarBranch(config, grid).eval()
    part.load_state_dict(square.state_dict())
    # Far enough from the borders that no site next to one is active in either.
    lower, upper = (torch.tensor([edge[side] for edge in (grid.x_range_m, grid.y_range_m)]) for side in (0, 1))
    points = torch.rand(400, 5)
    points[:, :2] = lower + 2.4 + points[:, :2] * (upper - lower - 4.8)
    bev = part([points])
    assert bev.shape[2:] == grid.shape
    torch.testing.assert_close(bev, crop(square([points]), grid))
    assert bev.any()


def test_radar_pillars_reach_the_same_cells(grid):
    torch.manual_seed(0)
    points = torch.cat([(torch.rand(300, 2) - 0.5) * 24, torch.rand(300, 4)], dim=1)
    maps = []
    for part in (SQUARE, grid):
        voxels = VoxelGrid((*part.lower_m, -5.0), (CELL_M, CELL_M, 8.0), (*part.shape, 1), 10)
        pillars = voxelize_batch([points, points[:50]], voxels, 400)
        maps.append(scatter_pillars(pillars.features.sum(dim=1), pillars, part, 2))
    torch.testing.assert_close(maps[1], crop(maps[0], grid))
    assert maps[1].any()


def test_head_targets_and_detections_lie_in_the_same_cells(grid):
    boxes, labels = inner_boxes(grid), torch.arange(12) % 10
    config = HeadConfig()
    square = build_head_targets([boxes], [labels], SQUARE, config, TASKS)
    part = build_head_targets([boxes], [labels], grid, config, TASKS)
    tasks = []
    for whole, cut in zip(square.tasks, part.tasks, strict=True):
        torch.testing.assert_close(cut.heatmap, crop(whole.heatmap, grid))
        torch.testing.assert_close(cut.boxes, whole.boxes, atol=1e-4, rtol=1e-4)
        regression = torch.zeros(1, CHANNEL_COUNT, grid.shape[0] * grid.shape[1])
        regression[0][:, cut.cells[0][cut.valid[0]]] = cut.boxes[0][cut.valid[0]].T
        parts = regression.view(1, CHANNEL_COUNT, *grid.shape).split([*CHANNELS], dim=1)
        tasks.append(TaskOutput(torch.where(cut.heatmap == 1, 6.0, -6.0), *parts))
    # Nothing is suppressed: what is compared is where things are.
    keep = NMSConfig(rotated_iou=1.0, circle_classes={"car": 1e-6, "barrier": 1e-6})
    (detections,) = decode_detections(HeadOutput(tuple(tasks)), grid, keep, TASKS)
    distances = torch.cdist(boxes.centre[:, :2].float(), detections.boxes.centre[:, :2])
    assert float(distances.amin(dim=1).max()) < 1e-3


@pytest.mark.parametrize("mask", ["rotated", "plain", "released"])
def test_foreground_masks_cover_the_same_cells(grid, mask):
    boxes = inner_boxes(grid)
    config = MSFDConfig(mask=mask)
    whole = crop(foreground_mask(boxes, SQUARE, config), grid)
    assert torch.equal(foreground_mask(boxes, grid, config), whole)
    assert whole.any()


def test_relations_keep_the_axes_of_the_map():
    x_ramp = torch.arange(32.0)[None, None, :, None].expand(1, 1, 32, 16)
    (small,) = resample(x_ramp, (8,))
    assert small.shape == (1, 1, 8, 8)
    assert (small.diff(dim=2) > 3.9).all()
    assert not small.diff(dim=3).any()


@pytest.mark.parametrize("mirrored", [(True, False), (False, True), (True, True)])
@pytest.mark.parametrize("name", ["wide", "long"])
def test_cells_mirror_as_the_map_does(mirrored, name):
    shape = CROPS[name].shape
    torch.manual_seed(0)
    bev_map, chosen = torch.randn(2, 3, *shape), torch.rand(2, *shape) < 0.2
    axes = [2 + axis for axis in (0, 1) if mirrored[axis]]
    flipped = SparseCells.select(bev_map.flip(axes), chosen.flip([axis - 1 for axis in axes]))
    parts = {"map": DenseMap(bev_map[:, 0]), "cells": SparseCells.select(bev_map, chosen)}
    mirror = TeacherTargets(2, shape, parts).mirrored(mirrored)
    assert mirror.grid_shape == shape
    for field in dataclasses.fields(flipped):
        value = getattr(flipped, field.name)
        equal = torch.equal if isinstance(value, torch.Tensor) else type(value).__eq__
        assert equal(getattr(mirror.parts["cells"], field.name), value), field.name
    assert torch.equal(mirror.parts["map"].values, bev_map[:, 0].flip([axis - 1 for axis in axes]))
