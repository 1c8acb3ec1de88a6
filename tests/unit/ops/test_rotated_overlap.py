"""Overlap of rotated rectangles, against areas known by hand and against shapely."""

import math

import numpy as np
import pytest
import shapely
import torch

from crkd_core.ops.rotated_iou import overlap_exceeds, pairwise_iou, pairwise_overlap, rotated_iou


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
    assert pairwise_overlap(a, b).item() == pytest.approx(area, abs=1e-12)
    assert pairwise_overlap(b, a).item() == pytest.approx(area, abs=1e-12)


def random_pairs(count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Rectangles of 0.1 to 6 m whose centres are up to 5 m apart, turned by up to ten radians."""
    lower, extent = torch.tensor([-2.5, -2.5, 0.1, 0.1, -10]), torch.tensor([5.0, 5.0, 5.9, 5.9, 20])
    values = torch.rand((2, count, 5), generator=generator, dtype=torch.float64)
    return tuple((values * extent + lower).unbind())


def placed(frame: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Points given along and across `frame`, as x and y."""
    cos, sin = frame[:, 4].cos(), frame[:, 4].sin()
    return frame[:, :2] + torch.stack([x * cos - y * sin, x * sin + y * cos], dim=1)


def identical(a, b, random):
    return a, a.clone()


def turned_by_quarters(a, b, random):
    quarters = (random[:, 0] * 8).floor() - 4
    return a, torch.cat([b[:, :4], a[:, 4:] + quarters[:, None] * math.pi / 2], dim=1)


def axis_aligned(a, b, random):
    yaw = (random * 8).floor() * math.pi / 2
    return torch.cat([a[:, :4], yaw[:, :1]], dim=1), torch.cat([b[:, :4], yaw[:, 1:2]], dim=1)


def touching_edges(a, b, random):
    centre = placed(a, (a[:, 2] + b[:, 2]) / 2, (random[:, 0] - 0.5) * a[:, 3])
    return a, torch.cat([centre, b[:, 2:4], a[:, 4:]], dim=1)


def collinear_edges(a, b, random):
    centre = placed(a, (random[:, 0] - 0.5) * 4, (a[:, 3] - b[:, 3]) / 2)
    return a, torch.cat([centre, b[:, 2:4], a[:, 4:]], dim=1)


def almost_collinear(a, b, random):
    a, b = collinear_edges(a, b, random)
    tilt = 10 ** (-15 * random[:, 1:2]) * (random[:, 2:3] - 0.5)
    return a, torch.cat([b[:, :4], b[:, 4:] + tilt], dim=1)


def touching_corners(a, b, random):
    return a, torch.cat([placed(a, (a[:, 2] + b[:, 2]) / 2, (a[:, 3] + b[:, 3]) / 2), b[:, 2:4], a[:, 4:]], dim=1)


def contained(a, b, random):
    share = 0.6 * a[:, 2:4].amin(dim=1, keepdim=True) / b[:, 2:4].norm(dim=1, keepdim=True)
    return a, torch.cat([a[:, :2], b[:, 2:4] * share, b[:, 4:]], dim=1)


def without_length_or_width(a, b, random):
    flat = (random[:, :2] * 2).floor() * b[:, 2:4]
    return a, torch.cat([b[:, :2], flat, b[:, 4:]], dim=1)


def tiny(a, b, random):
    scale = a.new_tensor([1e-7, 1e-7, 1e-7, 1e-7, 1])
    return a * scale, b * scale


def huge(a, b, random):
    scale = a.new_tensor([1e7, 1e7, 1e7, 1e7, 1])
    return a * scale, b * scale


def needles(a, b, random):
    thin = a.new_tensor([1, 1, 1, 1e-5, 1])
    return a * thin, b * thin


def far_away(a, b, random):
    moved = torch.tensor([2.0**23, -(2.0**24), 0, 0, 0], dtype=torch.float64)
    return (a * 1024).round() / 1024 + moved, (b * 1024).round() / 1024 + moved


KINDS = [
    identical, turned_by_quarters, axis_aligned, touching_edges, collinear_edges, almost_collinear, touching_corners,
    contained, without_length_or_width, tiny, huge, needles, far_away,
]  # fmt: skip


def shapely_iou(a: torch.Tensor, b: torch.Tensor) -> np.ndarray:
    """The same overlaps by shapely, each pair moved near the origin and to a size of about one metre."""
    scale = torch.maximum(a[:, 2:4].amax(dim=1), b[:, 2:4].amax(dim=1)).clamp(min=1e-300)[:, None]
    polygons = []
    for boxes in (a, b):
        half = boxes[:, None, 2:4] / 2 * boxes.new_tensor([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]])
        cos, sin = boxes[:, 4:].cos(), boxes[:, 4:].sin()
        turned = torch.stack([half[..., 0] * cos - half[..., 1] * sin, half[..., 0] * sin + half[..., 1] * cos], dim=2)
        corners = (turned + (boxes[:, :2] - a[:, :2])[:, None]) / scale[..., None]
        polygons.append(shapely.polygons(corners.numpy()))
    # GEOS finds nothing in common for a few pairs with collinear edges; not so in the other order.
    common = np.maximum(*(shapely.area(shapely.intersection(p, q)) for p, q in (polygons, polygons[::-1])))
    union = shapely.area(polygons[0]) + shapely.area(polygons[1]) - common
    return common / np.maximum(union, 1e-300)


def test_random_pairs_agree_with_shapely():
    a, b = random_pairs(6000, torch.Generator().manual_seed(0))
    expected = shapely_iou(a, b)
    assert 2000 < (expected > 0.01).sum() < 6000
    for first, second in ((a, b), (b, a)):
        np.testing.assert_allclose(pairwise_iou(first, second).numpy(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_degenerate_pairs_agree_with_shapely(kind):
    generator = torch.Generator().manual_seed(1)
    random = torch.rand((600, 3), generator=generator, dtype=torch.float64)
    a, b = kind(*random_pairs(600, generator), random)
    expected = shapely_iou(a, b)
    for first, second in ((a, b), (b, a)):
        actual = pairwise_iou(first, second).numpy()
        assert ((actual >= 0) & (actual <= 1)).all()
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-9)


def test_all_pairs_are_the_single_pairs():
    a, b = random_pairs(40, torch.Generator().manual_seed(2))
    b = b[:30]
    i, j = (index.flatten() for index in torch.meshgrid(torch.arange(40), torch.arange(30), indexing="ij"))
    torch.testing.assert_close(rotated_iou(a, b), pairwise_iou(a[i], b[j]).view(40, 30), rtol=0, atol=1e-14)


def test_overlap_exceeds_is_the_upper_triangle_of_candidates():
    boxes = torch.stack(random_pairs(40, torch.Generator().manual_seed(3)))
    candidates = torch.rand((2, 40), generator=torch.Generator().manual_seed(4)) < 0.7
    actual = overlap_exceeds(boxes, 0.1, candidates)
    for index in range(2):
        expected = rotated_iou(boxes[index], boxes[index]) > 0.1
        expected &= candidates[index, :, None] & candidates[index]
        assert torch.equal(actual[index], expected.triu(diagonal=1))
    assert actual.any()
