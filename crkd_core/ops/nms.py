"""Non-maximum suppression: of boxes that describe one object only the best stays."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from crkd_core.ops.rotated_iou import overlap_exceeds


def circle_nms(
    centres: Float[Tensor, "n 2"],
    scores: Float[Tensor, "n"],
    squared_distance_m2: float,
    max_kept: int | None = None,
) -> Int[Tensor, "k"]:
    """Indices of the boxes kept, best first: a box goes if a better kept one is near.

    Args:
        centres: x, y (m).
        scores: higher is better; of equal scores the earlier box is better.
        squared_distance_m2: threshold on the *squared* distance of centres, borders included (the published models'
            thresholds were chosen so).
        max_kept: at most this many.
    """
    order = torch.argsort(scores, descending=True, stable=True)
    ordered = centres[order]
    distance = (ordered[:, None] - ordered[None]).square().sum(dim=2)
    return order[greedy_keep(distance <= squared_distance_m2)][:max_kept]


def rotated_nms(
    rectangles: Float[Tensor, "n 5"], scores: Float[Tensor, "n"], iou: float, max_kept: int | None = None
) -> Int[Tensor, "k"]:
    """Indices of the boxes kept, best first: a box goes if a better kept one overlaps it by more than `iou`.

    Args:
        rectangles: centre x, y, length, width (m), yaw (rad), as in :func:`crkd_core.ops.rotated_iou.rotated_iou`.
        scores: higher is better; of equal scores the earlier box is better.
        iou: threshold on the overlap, in [0, 1].
        max_kept: at most this many.
    """
    order = torch.argsort(scores, descending=True, stable=True)
    ordered = rectangles[order]
    return order[greedy_keep(overlap_exceeds(ordered, iou))][:max_kept]


def greedy_keep(conflict: Bool[Tensor, "n n"]) -> Bool[Tensor, "n"]:
    """Which boxes a greedy pass over a list sorted by score keeps.

    A box stays if no earlier *kept* box conflicts with it. That rule has exactly one solution, and repeating it for
    all boxes at once settles at least one more box of every chain each time, so a few rounds of matrix operations
    replace the loop over boxes and give the same result on every device.
    """
    earlier = conflict.triu(diagonal=1)
    keep = torch.ones(len(conflict), dtype=torch.bool, device=conflict.device)
    while True:
        settled = ~(earlier & keep[:, None]).any(dim=0)
        if torch.equal(settled, keep):
            return keep
        keep = settled
