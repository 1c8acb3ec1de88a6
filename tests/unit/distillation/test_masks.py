"""Foreground masks from grown ground-truth boxes."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crkd_core.config.distill import MSFDConfig
from crkd_core.distillation.masks import foreground_mask, grown_sides
from crkd_core.geometry.boxes import Boxes3D
from crkd_core.geometry.grid import BEVGrid

GRID = BEVGrid((-54.0, 54.0), (-54.0, 54.0), (-5.0, 3.0), 0.6)
STILL = MSFDConfig()
BOTH = pytest.mark.parametrize("reading", ["rotated", "released"])


def _box(x=0.0, y=0.0, width=2.0, length=4.0, yaw=0.0, vx=0.0, vy=0.0) -> Boxes3D:
    return Boxes3D(torch.tensor([[x, y, 0.0, width, length, 1.5, yaw, vx, vy]]))


def _footprint_in_float64(box: Boxes3D, config: MSFDConfig) -> torch.Tensor:
    """The same law, cell by cell, from the corners of the grown rectangle: inside is left of all four edges."""
    x, y, _, width, length, _, yaw, vx, vy = box.tensor[0].double().tolist()
    along, across = vx * math.cos(yaw) + vy * math.sin(yaw), vy * math.cos(yaw) - vx * math.sin(yaw)

    def grown(side: float, speed: float) -> float:
        reach = math.hypot(x, y)
        share = 0.5 if reach >= 30 else 0.25 if reach > 20 else 0.0
        share += 0.5 if abs(speed) >= 0.8 else 0.25 if abs(speed) > 0.3 else 0.0
        return side + min(max(side * share, 0.5), 4.0)

    half_length, half_width = grown(length, along) / 2, grown(width, across) / 2
    corners = [
        (x + a * math.cos(yaw) - b * math.sin(yaw), y + a * math.sin(yaw) + b * math.cos(yaw))
        for a, b in [
            (half_length, half_width),
            (-half_length, half_width),
            (-half_length, -half_width),
            (half_length, -half_width),
        ]
    ]
    centres = GRID.centres().double()
    slack = torch.full(GRID.shape, torch.inf, dtype=torch.float64)
    for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1]):
        edge = math.hypot(x1 - x0, y1 - y0)
        cross = (x1 - x0) * (centres[..., 1] - y0) - (y1 - y0) * (centres[..., 0] - x0)
        slack = torch.minimum(slack, cross / edge)
    return slack


@given(
    x=st.floats(-58, 58), y=st.floats(-58, 58), width=st.floats(0.3, 3), length=st.floats(0.3, 15),
    yaw=st.floats(-7, 7), speed=st.floats(0, 2), course=st.floats(-3.2, 3.2),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_rotated_mask_is_the_exact_grown_footprint(x, y, width, length, yaw, speed, course):
    box = _box(x, y, width, length, yaw, speed * math.cos(course), speed * math.sin(course))
    along, across = (abs(speed * f(course - yaw)) for f in (math.cos, math.sin))
    reach = math.hypot(x, y)
    near_a_step = min(abs(v - step) for v in (along, across) for step in (0.3, 0.8)) < 1e-4
    if near_a_step or min(abs(reach - 20), abs(reach - 30)) < 1e-4:
        return
    slack = _footprint_in_float64(box, STILL)
    mask = foreground_mask(box, GRID, STILL)
    cell, inside = GRID.locate(box.centre[:, :2])
    expected = slack >= 0
    if inside.item():
        expected[cell[0, 0], cell[0, 1]] = True
    undecided = slack.abs() < 1e-4
    assert torch.equal(mask | undecided, expected | undecided)


@pytest.mark.parametrize("yaw", [0.0, 0.7, math.pi / 2, -2.0])
def test_growth_follows_the_box_axes(yaw):
    moving_ahead = Boxes3D(_box(yaw=yaw, vx=math.cos(yaw), vy=math.sin(yaw)).tensor)
    mask = foreground_mask(moving_ahead, GRID, STILL)
    bigger = _box(width=2.0, length=5.5, yaw=yaw)
    assert torch.equal(mask, foreground_mask(bigger, GRID, STILL))


def test_growth_by_range_and_speed_by_hand():
    boxes = Boxes3D.cat([_box(x=20.0), _box(x=20.5), _box(x=30.0), _box(x=31.0, width=1.0, length=20.0)])
    speeds = torch.tensor([[0.3, 0.8], [0.0, 0.31], [0.0, 0.0], [0.0, 9.0]])
    sides = grown_sides(boxes, speeds, STILL)
    expected = torch.tensor([[2.0 + 0.5, 4.0 + 2.0], [2.0 + 0.5, 4.0 + 2.0], [3.0, 6.0], [1.0 + 0.5, 20.0 + 4.0]])
    torch.testing.assert_close(sides, expected)


def test_plain_masks_are_of_the_boxes_as_they_are():
    plain = foreground_mask(_box(x=35.0, width=3.0, length=6.0, yaw=0.3, vx=5.0), GRID, MSFDConfig(mask="plain"))
    ungrown = MSFDConfig(growth_limits_m=(0.0, 0.0))
    assert torch.equal(plain, foreground_mask(_box(x=35.0, width=3.0, length=6.0, yaw=0.3), GRID, ungrown))
    assert plain.sum() < foreground_mask(_box(x=35.0, width=3.0, length=6.0, yaw=0.3), GRID, STILL).sum()


@BOTH
def test_no_boxes_give_an_empty_mask(reading):
    mask = foreground_mask(Boxes3D.empty(), GRID, MSFDConfig(mask=reading))
    assert mask.shape == GRID.shape
    assert not mask.any()


@BOTH
def test_unknown_velocity_counts_as_still(reading):
    config = MSFDConfig(mask=reading)
    unknown = _box(yaw=1.2, vx=float("nan"), vy=float("nan"))
    assert torch.equal(foreground_mask(unknown, GRID, config), foreground_mask(_box(yaw=1.2), GRID, config))
    half_known = _box(yaw=0.0, vx=float("nan"), vy=5.0)
    assert torch.equal(foreground_mask(half_known, GRID, config), foreground_mask(_box(vy=5.0), GRID, config))


@BOTH
def test_boxes_beyond_the_border(reading):
    config = MSFDConfig(mask=reading)
    assert not foreground_mask(_box(x=80.0), GRID, config).any()
    across = foreground_mask(_box(x=-54.0, y=10.0, width=4.0, length=4.0, yaw=-math.pi / 2), GRID, config)
    rows = across.any(dim=1).nonzero().squeeze(1)
    assert rows.min() == 0
    assert 0 < rows.max() < 10


def test_tiny_boxes_own_the_cell_of_their_centre():
    no_growth = MSFDConfig(growth_limits_m=(0.0, 0.0))
    box = _box(x=0.02, y=0.02, width=0.05, length=0.05)
    assert foreground_mask(box, GRID, no_growth).nonzero().tolist() == [[90, 90]]
    corner = _box(x=-54.0, y=-54.0, width=0.05, length=0.05)
    assert foreground_mask(corner, GRID, no_growth).nonzero().tolist() == [[0, 0]]
    assert not foreground_mask(_box(x=54.0, width=0.05, length=0.05), GRID, no_growth).any()


def test_rotating_the_box_by_a_quarter_turn_transposes_the_mask():
    box = _box(x=7.3, y=-3.1, width=2.1, length=6.2, yaw=0.4, vx=0.9, vy=0.1)
    turned = box.augmented(torch.tensor([[0.0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]))
    mask, turned_mask = foreground_mask(box, GRID, STILL), foreground_mask(turned, GRID, STILL)
    assert mask.sum() > 20
    assert torch.equal(turned_mask, mask.rot90(1))


def test_several_boxes_are_the_union_of_each():
    parts = [_box(x=5.0 * i, y=3.0 * i, yaw=0.5 * i) for i in range(-4, 5)]
    union = torch.stack([foreground_mask(part, GRID, STILL) for part in parts]).any(dim=0)
    together = Boxes3D.cat(parts)
    before = together.tensor.clone()
    assert torch.equal(foreground_mask(together, GRID, STILL), union)
    assert torch.equal(together.tensor, before)


def test_released_masks_shrink_with_the_angle():
    released = MSFDConfig(mask="released")
    along_y, along_x = _box(yaw=math.pi / 2), _box(yaw=0.0)
    assert foreground_mask(along_y, GRID, released).sum() > 20
    assert foreground_mask(along_x, GRID, released).sum() <= 8
