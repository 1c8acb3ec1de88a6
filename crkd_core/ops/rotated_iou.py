"""Overlap of rotated rectangles seen from above.

In the frame of the first rectangle, what both have in common is the second one cut to a strip of x and a strip of y.
Its area is the integral over x of the second's upper outline minus its lower one, both clamped to the y strip; going
round the second rectangle, each edge adds one such integral with its sign. Nothing is sorted or decided, and a small
change of a rectangle changes each integral little, so shared edges and corners, equal and nested rectangles and such
without area are no special cases, and all pairs are computed at once.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def rotated_iou(first: Float[Tensor, "n 5"], second: Float[Tensor, "m 5"]) -> Float[Tensor, "n m"]:
    """Intersection over union of all pairs of rectangles, in [0, 1].

    Args:
        first, second: centre x, y (m), length, width (m), yaw (rad) counter-clockwise from +x to the length axis.
            Computed in float64; a rectangle without area overlaps nothing.
    """
    near = _circles_meet(first, second)
    i, j = torch.nonzero(near, as_tuple=True)
    iou = torch.zeros(near.shape, dtype=first.dtype, device=first.device)
    iou[i, j] = pairwise_iou(first[i], second[j])
    return iou


def overlap_exceeds(
    rectangles: Float[Tensor, "*lists n 5"], iou: float, candidates: Bool[Tensor, "*lists n"]
) -> Bool[Tensor, "*lists n n"]:
    """Which pairs i < j of candidates of one list overlap by more than `iou`; False on and below the diagonal."""
    both = candidates[..., :, None] & candidates[..., None, :]
    near = (both & _circles_meet(rectangles, rectangles)).triu(diagonal=1)
    *lists, i, j = torch.nonzero(near, as_tuple=True)
    exceeds = pairwise_iou(rectangles[(*lists, i)], rectangles[(*lists, j)]) > iou
    return near.index_put((*lists, i, j), exceeds)


def pairwise_iou(first: Float[Tensor, "p 5"], second: Float[Tensor, "p 5"]) -> Float[Tensor, "p"]:
    """Intersection over union of P pairs of rectangles; rows as in :func:`rotated_iou`."""
    a, b = first.double(), second.double()
    overlap = pairwise_overlap(a, b)
    union = a[:, 2] * a[:, 3] + b[:, 2] * b[:, 3] - overlap
    return torch.where(union > 0, overlap / union, 0.0).to(first.dtype)


def pairwise_overlap(first: Float[Tensor, "p 5"], second: Float[Tensor, "p 5"]) -> Float[Tensor, "p"]:
    """Area (m^2) of the intersection of P pairs of rectangles; rows as in :func:`rotated_iou`."""
    a, b = first.double(), second.double()
    x, y = _corners_seen_from(a, b).unbind(-1)
    half_length, half_width = a[:, 2:3] / 2, a[:, 3:4] / 2
    start, end = _clamp(x, half_length), _clamp(x.roll(-1, dims=1), half_length)
    along = torch.stack([start, end]) - x
    run, rise = x.roll(-1, dims=1) - x, y.roll(-1, dims=1) - y
    # Where an edge is upright the share does not matter: its integral runs over nothing.
    share = (along / torch.where(run == 0, 1.0, run)).clamp(0, 1)
    heights = y + share * rise
    area = ((start - end) * _mean_clamped(heights[0], heights[1], half_width)).sum(dim=1)
    smaller = torch.minimum(a[:, 2] * a[:, 3], b[:, 2] * b[:, 3])
    return torch.minimum(area.clamp(min=0), smaller).to(first.dtype)


def _circles_meet(
    first: Float[Tensor, "*lists n 5"], second: Float[Tensor, "*lists m 5"]
) -> Bool[Tensor, "*lists n m"]:
    """Whether the circles around two rectangles meet; the others need no computing."""
    a, b = first.double(), second.double()
    radius = [torch.hypot(r[..., 2], r[..., 3]) / 2 for r in (a, b)]
    reach = radius[0][..., :, None] + radius[1][..., None, :]
    return squared_distances(a[..., :2], b[..., :2]) <= reach.square()


def squared_distances(
    first: Float[Tensor, "*lists n 2"], second: Float[Tensor, "*lists m 2"]
) -> Float[Tensor, "*lists n m"]:
    """Squared distances of all pairs of points."""
    dx, dy = (a[..., :, None] - b[..., None, :] for a, b in zip(first.unbind(-1), second.unbind(-1), strict=True))
    return dx * dx + dy * dy


def _corners_seen_from(frame: Float[Tensor, "p 5"], boxes: Float[Tensor, "p 5"]) -> Float[Tensor, "p 4 2"]:
    """Corners of `boxes`, counter-clockwise, with the origin at the centre of `frame` and x along its length.

    Only differences of positions enter, so that pairs far from the origin lose no precision.
    """
    turn = boxes[:, 4] - frame[:, 4]
    half = boxes[:, 2:4] / 2 * boxes.new_tensor([[[1.0, 1.0]], [[-1.0, 1.0]], [[-1.0, -1.0]], [[1.0, -1.0]]])
    local = _rotated(half, turn).transpose(0, 1)
    return local + _rotated(boxes[:, :2] - frame[:, :2], -frame[:, 4])[:, None]


def _rotated(points: Tensor, angle: Float[Tensor, "p"]) -> Tensor:
    """(..., P, 2) points turned counter-clockwise."""
    cos, sin, (x, y) = angle.cos(), angle.sin(), points.unbind(-1)
    return torch.stack([x * cos - y * sin, x * sin + y * cos], dim=-1)


def _mean_clamped(start: Tensor, end: Tensor, limit: Tensor) -> Tensor:
    """Mean of ``clamp(y, -limit, limit)`` while y runs evenly from `start` to `end`."""
    lower, upper = torch.minimum(start, end), torch.maximum(start, end)
    enter, leave = (torch.clamp(edge, lower, upper) for edge in (-limit, limit))
    weighted = (leave - enter) * (enter + leave) / 2 + ((upper - leave) - (enter - lower)) * limit
    span = upper - lower
    return torch.where(span > 0, weighted / torch.where(span > 0, span, 1.0), _clamp(start, limit))


def _clamp(values: Tensor, limit: Tensor) -> Tensor:
    return torch.clamp(values, -limit, limit)
