"""Heatmaps and regression targets."""

import math

import pytest
import torch
from golden_cases import TruncatingGrid, boxes_from_released, load_case, relative_error

from crkd_core.config.models import HeadConfig
from crkd_core.geometry.boxes import Boxes3D
from crkd_core.geometry.grid import BEVGrid
from crkd_core.models.head_targets import build_head_targets, draw_gaussians, gaussian_radius

GRID = BEVGrid((-9.6, 9.6), (-4.8, 4.8), (-5.0, 3.0), 0.6)


def one_box(x: float, y: float, **values: float) -> Boxes3D:
    columns = {"z": -1.0, "w": 2.0, "l": 4.0, "h": 1.5, "yaw": 0.3, "vx": 1.0, "vy": -2.0, **values}
    return Boxes3D(torch.tensor([[x, y, *columns.values()]]))


def test_radius_agrees_with_published():
    case = load_case("gaussian")
    length, width = case["in/length_width_cells"].unbind(1)
    for overlap in (0.1, 0.5, 0.7):
        assert relative_error(gaussian_radius(length, width, overlap), case[f"out/radius_overlap_{overlap}"]) < 1e-6
    radius = gaussian_radius(length, width, 0.1).int().clamp(min=2)
    assert torch.equal(radius.long(), case["out/radius_int_min2"])


def test_gaussians_agree_with_published():
    case = load_case("gaussian")
    # Recorded maps are [row, column] and centres (column, row).
    centres, radii = case["in/centers_xy"].long()[:, [1, 0]], case["in/radii"].long()
    peaks = torch.nn.functional.pad(centres, (1, 0))
    assert relative_error(draw_gaussians(peaks, radii, (1, 40, 40))[0], case["out/accumulated"]) < 1e-6
    for index, expected in enumerate(case["out/single_heatmaps_first12"]):
        one = slice(index, index + 1)
        assert relative_error(draw_gaussians(peaks[one], radii[one], (1, 40, 40))[0], expected) < 1e-6
    peaks[:10, 1] %= 30
    first = draw_gaussians(peaks[:10], radii[:10], (1, 30, 50))[0]
    assert relative_error(first, case["out/accumulated_rect_30x50_first10"]) < 1e-6


@pytest.mark.parametrize("name", ["head_targets", "head_targets_small_maxobj"])
def test_targets_agree_with_published(name):
    case = load_case(name)
    settings = case.config["train_cfg"]
    x0, y0, z0, x1, y1, z1 = map(float, settings["point_cloud_range"])
    grid = TruncatingGrid((x0, x1), (y0, y1), (z0, z1), 0.6)
    boxes = [boxes_from_released(b) for b in case.list("in/boxes")]
    targets = build_head_targets(boxes, case.list("in/labels"), grid, HeadConfig(max_objects=settings["max_objs"]))
    for index, task in enumerate(targets.tasks):
        assert torch.equal(task.valid, case[f"out/mask{index}"].bool())
        assert torch.equal(task.cells, case[f"out/ind{index}"])
        assert relative_error(task.heatmap, case[f"out/heatmap{index}"]) < 1e-6
        expected = case[f"out/anno_box{index}"]
        finite = expected.isfinite()
        assert torch.equal(task.boxes.isfinite(), finite)
        assert relative_error(task.boxes[finite], expected[finite]) < 1e-5


def test_known_target():
    boxes = [one_box(0.75, -0.15)]
    task = build_head_targets(boxes, [torch.tensor([2])], GRID, HeadConfig()).tasks[1]
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
    task = build_head_targets([one_box(x, y)], [torch.tensor([0])], GRID, HeadConfig()).tasks[0]
    assert bool(task.valid.any()) == on_grid
    assert bool(task.heatmap.any()) == on_grid


def test_objects_without_area_other_labels_and_no_boxes_leave_nothing():
    flat = one_box(0.0, 0.0, w=0.0)
    targets = build_head_targets(
        [flat, one_box(0.0, 0.0), Boxes3D.empty()],
        [torch.tensor([0]), torch.tensor([-1]), torch.zeros(0, dtype=torch.long)],
        GRID,
        HeadConfig(),
    )
    for task in targets.tasks:
        assert not task.heatmap.any()
        assert not task.valid.any()


def test_objects_beyond_the_limit_are_left_out():
    boxes = Boxes3D.cat([one_box(float(x), 0.0) for x in range(-8, 8, 4)])
    targets = build_head_targets([boxes], [torch.zeros(4, dtype=torch.long)], GRID, HeadConfig(max_objects=2))
    assert int((targets.tasks[0].heatmap == 1).sum()) == 2
    assert targets.tasks[0].valid.all()
