"""Overlap of rotated rectangles seen from above.

The intersection of two convex shapes is bounded by the parts of each outline that lie inside the other, so its area
is the line integral ``1/2 * sum of cross(p, q)`` over those parts. Every edge is clipped against the four
half-planes of the other rectangle; nothing is sorted and nothing depends on the data, so all pairs are computed at
once.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

# Edges closer and more parallel than this (metres, radians) count as one edge. Far above float64 rounding, far below
# any real difference.
_SAME_EDGE = 1e-9


def rotated_iou(first: Float[Tensor, "n 5"], second: Float[Tensor, "m 5"]) -> Float[Tensor, "n m"]:
    """Intersection over union of all pairs of rectangles, in [0, 1].

    Args:
        first, second: centre x, y (m), length, width (m), yaw (rad) counter-clockwise from +x to the length axis.
        Computed in
            float64; a rectangle without area overlaps nothing.
    """
    near = _circles_meet(first, second)
    i, j = torch.nonzero(near, as_tuple=True)
    iou = torch.zeros(near.shape, dtype=first.dtype, device=first.device)
    iou[i, j] = pairwise_iou(first[i], second[j])
    return iou


def overlap_exceeds(rectangles: Float[Tensor, "n 5"], iou: float) -> Bool[Tensor, "n n"]:
    """Which pairs i < j overlap by more than `iou`; False on and below the diagonal, for suppression."""
    candidates = _circles_meet(rectangles, rectangles).triu(diagonal=1)
    i, j = torch.nonzero(candidates, as_tuple=True)
    return candidates.index_put((i, j), pairwise_iou(rectangles[i], rectangles[j]) > iou)


def pairwise_iou(first: Float[Tensor, "p 5"], second: Float[Tensor, "p 5"]) -> Float[Tensor, "p"]:
    """Intersection over union of P pairs of rectangles; rows as in :func:`rotated_iou`."""
    a, b = first.double(), second.double()
    overlap = pairwise_overlap(a, b)
    union = a[:, 2] * a[:, 3] + b[:, 2] * b[:, 3] - overlap
    return (overlap / union.clamp(min=1e-12)).to(first.dtype)


def pairwise_overlap(first: Float[Tensor, "p 5"], second: Float[Tensor, "p 5"]) -> Float[Tensor, "p"]:
    """Area (m^2) of the intersection of P pairs of rectangles; rows as in :func:`rotated_iou`."""
    origin = first[:, :2].double()
    a, b = _corners(first.double(), origin), _corners(second.double(), origin)
    area = _outline_inside(a, b, -_SAME_EDGE) + _outline_inside(b, a, _SAME_EDGE)
    return area.clamp(min=0).to(first.dtype)


def _circles_meet(first: Tensor, second: Tensor) -> Tensor:
    """(N, M): whether the circles around two rectangles meet; the others need no computing."""
    reach = (first[:, 2:4].norm(dim=1)[:, None] + second[:, 2:4].norm(dim=1)[None]) / 2
    return (first[:, None, :2] - second[None, :, :2]).norm(dim=2) <= reach


def _corners(boxes: Tensor, origin: Tensor) -> Tensor:
    """(P, 4, 2) corners, counter-clockwise, relative to `origin` so that far-away pairs lose no precision."""
    half = boxes[:, 2:4] / 2
    signs = boxes.new_tensor([[1, 1], [-1, 1], [-1, -1], [1, -1]])
    local = signs[None] * half[:, None]
    cos, sin = boxes[:, 4].cos()[:, None], boxes[:, 4].sin()[:, None]
    x = local[..., 0] * cos - local[..., 1] * sin
    y = local[..., 0] * sin + local[..., 1] * cos
    return torch.stack([x, y], dim=-1) + (boxes[:, :2] - origin)[:, None]


def _outline_inside(shape: Tensor, other: Tensor, least_depth: float) -> Tensor:
    """(P,) line integral over the parts of `shape`'s outline inside `other`.

    An edge that runs along an edge of `other` in the same direction is inside if its depth is more than
    `least_depth`: of two shapes that share an edge exactly one must count it.
    """
    start, end = shape, shape.roll(-1, dims=1)
    side_start, side_end = other, other.roll(-1, dims=1)
    side = side_end - side_start
    normal = torch.stack([-side[..., 1], side[..., 0]], dim=-1)
    normal = normal / normal.norm(dim=-1, keepdim=True).clamp(min=1e-300)
    depth_start = ((start[:, :, None] - side_start[:, None]) * normal[:, None]).sum(-1)
    depth_end = ((end[:, :, None] - side_start[:, None]) * normal[:, None]).sum(-1)
    change = depth_end - depth_start
    length = (end - start).norm(dim=-1, keepdim=True)
    parallel = change.abs() <= _SAME_EDGE * length.clamp(min=1)
    same_way = ((end - start)[:, :, None] * side[:, None]).sum(-1) > 0
    least = torch.where(same_way, least_depth, _SAME_EDGE)

    crossing = -depth_start / torch.where(parallel, 1.0, change)
    enters = torch.where(change > 0, crossing, 0.0)
    leaves = torch.where(change < 0, crossing, 1.0)
    outside = parallel & (depth_start <= least)
    first = torch.where(parallel, 0.0, enters).amax(dim=-1).clamp(min=0)
    last = torch.where(parallel, 1.0, leaves).amin(dim=-1).clamp(max=1)
    inside = ~outside.any(dim=-1) & (last > first)
    p = start + first[..., None] * (end - start)
    q = start + last[..., None] * (end - start)
    cross = p[..., 0] * q[..., 1] - p[..., 1] * q[..., 0]
    return torch.where(inside, cross, 0.0).sum(dim=1) / 2
