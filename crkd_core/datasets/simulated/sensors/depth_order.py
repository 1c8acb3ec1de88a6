"""Painter's order: in which order to draw solid boxes so that nearer ones cover further ones.

Two boxes apart from each other have a plane between them; whatever lies on the far side of it cannot cover what lies on
the camera's side. That gives an exact order, where sorting by distance puts a person in front of a bus behind it.
"""

import numpy as np
from numpy.typing import NDArray

from crkd_core.datasets.simulated.arrays import Array

Matrix = NDArray[np.bool_]


def order_footprints(camera_xy: Array, centres: Array, yaws: Array, low: Array, high: Array, spans: Array) -> list[int]:
    """Indices of standing boxes, to be drawn first to last.

    Args:
        camera_xy: (2,) camera position.
        centres, yaws: (N, 2) positions and (N,) yaws of the object frames.
        low, high: (N, 2) footprint in the object frames.
        spans: (N, 2) least and greatest viewing angle of each box; only boxes whose spans meet can cover each other.
    """
    count = len(yaws)
    c, s = np.cos(yaws), np.sin(yaws)
    x = np.stack([low[:, 0], high[:, 0], high[:, 0], low[:, 0]], axis=1)
    y = np.stack([low[:, 1], low[:, 1], high[:, 1], high[:, 1]], axis=1)
    world_x = centres[:, :1] + c[:, None] * x - s[:, None] * y
    world_y = centres[:, 1:] + s[:, None] * x + c[:, None] * y
    hidden: Matrix = np.zeros((count, count), dtype=bool)  # [a, b]: a cannot cover b
    camera_dx, camera_dy = camera_xy[0] - centres[:, 0], camera_xy[1] - centres[:, 1]
    for axis in range(2):
        ax, ay = (c, s) if axis == 0 else (-s, c)
        offset = ax * centres[:, 0] + ay * centres[:, 1]
        along = ax[:, None, None] * world_x[None] + ay[:, None, None] * world_y[None] - offset[:, None, None]
        other_low, other_high = along.min(axis=2), along.max(axis=2)  # [i, j]: box j along an axis of box i
        camera = (ax * camera_dx + ay * camera_dy)[:, None]
        own_low, own_high = low[:, axis][:, None], high[:, axis][:, None]
        below, above = other_high <= own_low + 1e-6, other_low >= own_high - 1e-6
        hidden |= (below & (camera <= own_low)) | (above & (camera >= own_high))
        hidden |= ((below & (camera >= other_high)) | (above & (camera <= other_low))).T
    apart = (spans[:, None, 1] < spans[None, :, 0]) | (spans[None, :, 1] < spans[:, None, 0])
    middle_x = centres[:, 0] + c * (low + high)[:, 0] / 2 - s * (low + high)[:, 1] / 2
    middle_y = centres[:, 1] + s * (low + high)[:, 0] / 2 + c * (low + high)[:, 1] / 2
    distance = np.hypot(middle_x - camera_xy[0], middle_y - camera_xy[1])
    return _sort(hidden & ~hidden.T & ~apart, distance)


def order_parts(camera: Array, low: Array, high: Array) -> list[int]:
    """Indices of the parts of one object, to be drawn first to last; camera and (N, 3) extents in the object frame."""
    below = high[:, None] <= low[None] + 1e-6  # [i, j, axis]: i lies below j along the axis
    j_behind = (below & (camera <= low[None])).any(axis=-1)  # j cannot cover i
    i_behind = (below & (camera >= high[:, None])).any(axis=-1)  # i cannot cover j
    hidden = i_behind | j_behind.T
    distance = np.sqrt((((low + high) / 2 - camera) ** 2).sum(axis=1))
    return _sort(hidden & ~hidden.T, distance)


def _sort(before: Matrix, distance: Array) -> list[int]:
    """Order by `before[a, b]` (a is drawn before b), furthest first among those that are free; cycles are cut there."""
    waiting = before.sum(axis=0).tolist()
    followers = [np.flatnonzero(row).tolist() for row in before]
    by_distance = np.argsort(-distance, kind="stable").tolist()
    order: list[int] = []
    while by_distance:
        pick = next((k for k, item in enumerate(by_distance) if waiting[item] == 0), 0)
        item = by_distance.pop(pick)
        order.append(item)
        for follower in followers[item]:
            waiting[follower] -= 1
    return order
