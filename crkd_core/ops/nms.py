"""Non-maximum suppression: of boxes that describe one object only the best stays.

Many lists of boxes are suppressed at once, each on its own and padded to one length; nothing loops over boxes, and ties
are broken by the order of the list, so every device keeps the same boxes.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from crkd_core.ops.rotated_iou import overlap_exceeds, squared_distances


def circle_nms(
    centres: Float[Tensor, "*lists n 2"],
    squared_distance_m2: Float[Tensor, "*#lists"],
    candidates: Bool[Tensor, "*lists n"],
) -> Bool[Tensor, "*lists n"]:
    """Which boxes stay: one goes if a better one that stays is near.

    Args:
        centres: x, y (m), best first.
        squared_distance_m2: threshold on the *squared* distance of centres, borders included (the published models'
            thresholds were chosen so).
        candidates: False for padding, which neither stays nor suppresses.
    """
    distance = squared_distances(centres, centres)
    return greedy_keep(distance <= squared_distance_m2[..., None, None], candidates)


def rotated_nms(
    rectangles: Float[Tensor, "*lists n 5"], iou: float, candidates: Bool[Tensor, "*lists n"]
) -> Bool[Tensor, "*lists n"]:
    """Which boxes stay: one goes if a better one that stays overlaps it by more than `iou`.

    Args:
        rectangles: best first; rows as in :func:`crkd_core.ops.rotated_iou.rotated_iou`.
        iou: threshold on the overlap, in [0, 1].
        candidates: False for padding, which neither stays nor suppresses.
    """
    return greedy_keep(overlap_exceeds(rectangles, iou, candidates), candidates)


def greedy_keep(conflict: Bool[Tensor, "*lists n n"], candidates: Bool[Tensor, "*lists n"]) -> Bool[Tensor, "*lists n"]:
    """Which boxes a greedy pass over each list, best first, keeps.

    A candidate stays if no earlier box *that stays* conflicts with it. That rule has exactly one solution, and
    repeating it for all boxes at once settles at least one more box of every chain each time, so a few rounds of
    matrix operations replace the loop over boxes and give the same result on every device.
    """
    earlier = conflict.triu(diagonal=1).double()
    keep = candidates
    while True:
        # How many boxes that stay conflict with each: an exact count, and much quicker than `any` on booleans.
        settled = candidates & ((keep[..., None, :].double() @ earlier)[..., 0, :] == 0)
        if torch.equal(settled, keep):
            return keep
        keep = settled
