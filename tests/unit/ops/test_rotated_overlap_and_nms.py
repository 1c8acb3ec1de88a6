"""Rotated overlap and non-maximum suppression."""

import math

import pytest
import torch

from crkd_core.ops.nms import circle_nms, greedy_keep
from crkd_core.ops.rotated_iou import pairwise_overlap, rotated_iou


@pytest.mark.parametrize(("first", "second", "area"), [
    ((0, 0, 4, 2, 0.0), (0, 0, 4, 2, 0.0), 8.0),                       # the same
    ((0, 0, 4, 2, 0.7), (0, 0, 4, 2, 0.7 + math.pi), 8.0),             # turned half
    ((0, 0, 4, 2, 0.3), (0, 0, 2, 4, 0.3 - math.pi / 2), 8.0),         # the same outline, other corners
    ((0, 0, 4, 2, 0.0), (0, 0, 4, 2, math.pi / 2), 4.0),               # a cross
    ((0, 0, 4, 4, 0.0), (0, 0, 1, 1, 0.4), 1.0),                       # nested
    ((0, 0, 4, 4, 0.0), (1.5, 1.5, 1, 1, 0.0), 1.0),                   # nested, two edges shared
    ((0, 0, 2, 2, 0.0), (2, 0, 2, 2, 0.0), 0.0),                       # side by side
    ((0, 0, 2, 2, 0.0), (1, 0, 2, 2, 0.0), 2.0),                       # edges on one line
    ((0, 0, 2, 2, 0.0), (0, 0, 2, 2, math.pi / 4), 8 * (math.sqrt(2) - 1)),  # an octagon
    ((1e3, -1e3, 2, 2, 1.0), (1e3, -1e3, 2, 2, 1.0), 4.0),             # far away
    ((0, 0, 2, 0, 0.0), (0, 0, 2, 2, 0.0), 0.0),                       # without area
])  # fmt: skip
def test_known_areas(first, second, area):
    a, b = (torch.tensor([[float(v) for v in box]], dtype=torch.float64) for box in (first, second))
    assert pairwise_overlap(a, b).item() == pytest.approx(area, abs=1e-6)
    assert pairwise_overlap(b, a).item() == pytest.approx(area, abs=1e-6)


def test_overlap_equals_counted_points():
    torch.manual_seed(0)
    boxes = torch.rand(12, 5, dtype=torch.float64) * torch.tensor([4.0, 4, 4, 3, 6.3]) + torch.tensor(
        [0, 0, 0.5, 0.5, 0]
    )
    steps = torch.linspace(-3, 8, 700, dtype=torch.float64)
    points = torch.cartesian_prod(steps, steps)
    offset = points[None] - boxes[:, None, :2]
    cos, sin = boxes[:, 4].cos()[:, None], boxes[:, 4].sin()[:, None]
    along, across = offset[..., 0] * cos + offset[..., 1] * sin, offset[..., 1] * cos - offset[..., 0] * sin
    inside = ((along.abs() <= boxes[:, 2:3] / 2) & (across.abs() <= boxes[:, 3:4] / 2)).float()
    union = inside.sum(1)[:, None] + inside.sum(1) - inside @ inside.T
    assert (rotated_iou(boxes, boxes) - inside @ inside.T / union).abs().max() < 0.01


def test_greedy_keep_equals_a_plain_loop():
    torch.manual_seed(0)
    for size in (0, 1, 2, 60):
        for density in (0.0, 0.03, 0.3, 1.0):
            conflict = torch.rand(size, size) < density
            kept = []
            for box in range(size):
                if not any(conflict[better, box] for better in kept):
                    kept.append(box)
            assert torch.nonzero(greedy_keep(conflict)).flatten().tolist() == kept


def test_chain_of_conflicts_keeps_every_second_box():
    centres = torch.stack([torch.arange(9.0), torch.zeros(9)], dim=1)
    scores = torch.linspace(1, 0.1, 9)
    assert circle_nms(centres, scores, 1.0).tolist() == [0, 2, 4, 6, 8]
    assert circle_nms(centres, scores, 0.99).tolist() == list(range(9))
    assert circle_nms(centres, scores, 1.0, max_kept=2).tolist() == [0, 2]
