"""Mirrored targets are those of the mirrored scene."""

import dataclasses

import numpy as np
import pytest
import torch

from crkd_core.config.distill import DistillConfig, RelDConfig
from crkd_core.config.models import HeadConfig
from crkd_core.data.augmentation import stored_view
from crkd_core.distillation.losses import build_targets
from crkd_core.distillation.target_kinds import BoxResponse, SparseCells, TaskResponse
from crkd_core.distillation.targets import TeacherTargets
from crkd_core.geometry.boxes import Boxes3D
from crkd_core.models.head_targets import build_head_targets
from crkd_core.models.outputs import TaskOutput
from tests.support.described import TASKS

CONFIG = DistillConfig(reld=RelDConfig(scales=(8, 4)))
MIRRORINGS = [(True, False), (False, True), (True, True)]


def _assert_equal(actual, expected_targets, **tolerance):
    for one, other in zip(actual.split(), expected_targets.split(), strict=True):
        expected = other.encode("fp32")
        for name, tensor in one.encode("fp32").items():
            torch.testing.assert_close(tensor, expected[name], **tolerance, msg=name)


def _matrix(mirrored):
    return torch.from_numpy(np.diag([*(-1.0 if flipped else 1.0 for flipped in mirrored), 1.0, 1.0]))


def _mirror_boxes(boxes, mirrored):
    return Boxes3D(boxes.tensor).augmented(_matrix(mirrored)).wrapped()


def _mirror_output(output, mirrored):
    """The maps of a symmetric teacher on the mirrored scene."""

    def flip(value):
        if isinstance(value, torch.Tensor):
            return value.flip([2 + axis for axis in (0, 1) if mirrored[axis]])
        if isinstance(value, tuple):
            return tuple(flip(item) for item in value)
        changes = {f.name: flip(getattr(value, f.name)) for f in dataclasses.fields(value)}
        if isinstance(value, TaskOutput):
            sign = torch.tensor([-1.0 if flipped else 1.0 for flipped in mirrored]).view(1, 2, 1, 1)
            changes["offset"] = 0.5 + (changes["offset"] - 0.5) * sign
            changes["rotation"] = changes["rotation"] * sign
            changes["velocity"] = changes["velocity"] * sign
        return dataclasses.replace(value, **changes)

    return flip(output)


@pytest.mark.parametrize("mirrored", MIRRORINGS)
def test_mirrored_targets_are_those_of_the_mirrored_maps_and_boxes(random_output, random_boxes, small_grid, mirrored):
    output, boxes = random_output(1), random_boxes(2)
    actual = build_targets(output, boxes, small_grid, CONFIG).mirrored(mirrored)
    expected = build_targets(
        _mirror_output(output, mirrored), [_mirror_boxes(part, mirrored) for part in boxes], small_grid, CONFIG
    )
    _assert_equal(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mirrored", MIRRORINGS)
def test_mirroring_twice_changes_nothing(random_output, random_boxes, small_grid, mirrored):
    targets = build_targets(random_output(1), random_boxes(2), small_grid, CONFIG)
    once = targets.mirrored(mirrored)
    assert not torch.equal(once.parts["csrd.objectness"].values, targets.parts["csrd.objectness"].values)
    _assert_equal(once.mirrored(mirrored), targets, rtol=0, atol=1e-6)


def test_no_mirroring_is_the_same_object(random_output, random_boxes, small_grid):
    targets = build_targets(random_output(1), random_boxes(2), small_grid, CONFIG)
    assert targets.mirrored((False, False)) is targets


@pytest.mark.parametrize("mirrored", MIRRORINGS)
def test_a_perfect_teacher_s_targets_are_mirrored_as_the_ground_truth_is(small_grid, mirrored):
    boxes = _boxes_in_cells_of_their_own(small_grid)
    labels = torch.arange(len(boxes)) % 10
    actual = _perfect(boxes, labels, small_grid).mirrored(mirrored)
    _assert_equal(actual, _perfect(_mirror_boxes(boxes, mirrored), labels, small_grid), rtol=1e-5, atol=1e-5)


def _boxes_in_cells_of_their_own(grid):
    generator = torch.Generator().manual_seed(4)
    nx, ny = grid.shape
    cells = torch.randperm(nx * ny, generator=generator)[:40]
    inside = torch.rand((40, 2), generator=generator) * 0.9 + 0.05
    tensor = torch.rand((40, 9), generator=generator) * 3 + 0.2
    tensor[:, :2] = grid.to_metres(torch.stack([cells // ny, cells % ny], dim=1) + inside)
    return Boxes3D(tensor)


def _perfect(boxes, labels, grid):
    """What a teacher that answers with its training targets teaches."""
    tasks = []
    for task in build_head_targets([boxes], [labels], grid, HeadConfig(), TASKS).tasks:
        cells, order = task.cells[0, task.valid[0]].sort()
        features = task.boxes[0, task.valid[0]][order]
        tasks.append(TaskResponse(task.heatmap, SparseCells(cells, features, 1, grid.shape)))
    assert len(tasks) == len(TASKS)
    return TeacherTargets(1, grid.shape, {"respd": BoxResponse(tuple(tasks))})


def test_view_numbers_go_through_the_views_and_then_through_their_mirrorings():
    as_stored, in_x, in_y, in_both = (False, False), (True, False), (False, True), (True, True)
    assert [stored_view(number, 2) for number in range(9)] == [
        (0, as_stored), (1, as_stored), (0, in_x), (1, in_x), (0, in_y), (1, in_y), (0, in_both), (1, in_both),
        (0, as_stored),
    ]  # fmt: skip
