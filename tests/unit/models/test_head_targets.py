"""Heatmaps and regression targets."""

import math

import pytest
import torch

from crkd_core.config.models import HeadConfig
from crkd_core.geometry.boxes import Boxes3D
from crkd_core.geometry.grid import BEVGrid
from crkd_core.models.head_targets import build_head_targets
from tests.support.described import CLASSES, TASKS

GRID = BEVGrid((-9.6, 9.6), (-4.8, 4.8), (-5.0, 3.0), 0.6)


def one_box(x: float, y: float, **values: float) -> Boxes3D:
    columns = {"z": -1.0, "w": 2.0, "l": 4.0, "h": 1.5, "yaw": 0.3, "vx": 1.0, "vy": -2.0, **values}
    return Boxes3D(torch.tensor([[x, y, *columns.values()]]))


def test_heatmaps_of_all_tasks_stand_in_the_order_of_the_classes():
    assert sum(TASKS, ()) == CLASSES


def test_every_object_is_in_its_sample_task_and_slot():
    generator = torch.Generator().manual_seed(0)
    labels = [torch.randint(-1, 10, (count,), generator=generator) for count in (30, 0, 17)]
    boxes = [
        Boxes3D.cat([one_box(x, y) for x, y in (torch.rand(len(part), 2, generator=generator) * 9 - 4.5).tolist()])
        if len(part)
        else Boxes3D.empty()
        for part in labels
    ]
    targets = build_head_targets(boxes, labels, GRID, HeadConfig(max_objects=40), TASKS)
    for sample, (part, its_labels) in enumerate(zip(boxes, labels, strict=True)):
        for classes, task in zip(TASKS, targets.tasks, strict=True):
            rows = [row for name in classes for row in torch.nonzero(its_labels == CLASSES.index(name))]
            cells, _ = GRID.locate(part.tensor[[int(row) for row in rows], :2])
            assert task.valid[sample].tolist() == [True] * len(rows) + [False] * (40 - len(rows))
            assert task.cells[sample, : len(rows)].tolist() == GRID.flatten(cells).tolist()
            for row, cell in zip(rows, cells, strict=True):
                channel = classes.index(CLASSES[int(its_labels[row])])
                assert task.heatmap[sample, channel, cell[0], cell[1]] == 1


def test_known_target():
    boxes = [one_box(0.75, -0.15)]
    task = build_head_targets(boxes, [torch.tensor([2])], GRID, HeadConfig(), TASKS).tasks[1]
    assert task.valid[0].nonzero().tolist() == [[0]]
    assert task.cells[0, 0] == 17 * 16 + 7
    assert task.heatmap[0, 1, 17, 7] == 1
    assert not task.heatmap[0, 0].any()
    expected = [0.25, 0.75, -1.0, math.log(2), math.log(4), math.log(1.5), -math.cos(0.3), -math.sin(0.3), 1, -2]
    assert task.boxes[0, 0].tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("x", "y", "on_grid"), [
    (-9.6, -4.8, True), (-9.61, 0.0, False), (0.0, -4.81, False),
    (9.59, 4.79, True), (9.6, 0.0, False), (0.0, 4.8, False),
])  # fmt: skip
def test_grid_edges(x, y, on_grid):
    task = build_head_targets([one_box(x, y)], [torch.tensor([0])], GRID, HeadConfig(), TASKS).tasks[0]
    assert bool(task.valid.any()) == on_grid
    assert bool(task.heatmap.any()) == on_grid


def test_objects_without_area_other_labels_and_no_boxes_leave_nothing():
    flat = one_box(0.0, 0.0, w=0.0)
    targets = build_head_targets(
        [flat, one_box(0.0, 0.0), Boxes3D.empty()],
        [torch.tensor([0]), torch.tensor([-1]), torch.zeros(0, dtype=torch.long)],
        GRID,
        HeadConfig(),
        TASKS,
    )
    for task in targets.tasks:
        assert not task.heatmap.any()
        assert not task.valid.any()


def test_objects_beyond_the_limit_are_left_out():
    boxes = Boxes3D.cat([one_box(float(x), 0.0) for x in range(-8, 8, 4)])
    targets = build_head_targets([boxes], [torch.zeros(4, dtype=torch.long)], GRID, HeadConfig(max_objects=2), TASKS)
    assert int((targets.tasks[0].heatmap == 1).sum()) == 2
    assert targets.tasks[0].valid.all()
