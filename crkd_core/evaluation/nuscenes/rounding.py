"""Geometry of many boxes that rounds bit by bit as the devkit's one-box functions do.

The benchmark compares distances with each other and with thresholds, and boxes' corners with points; a last bit decides
there. The devkit's dot products go through BLAS, which fuses multiplication and addition; so do products of stacked
matrices, and sums of numpy's products do not.
"""

import math

import numpy as np
from jaxtyping import Float64

_CORNERS_X = np.array([1, 1, 1, 1, -1, -1, -1, -1])
_CORNERS_Y = np.array([1, -1, -1, 1, 1, -1, -1, 1])
_CORNERS_Z = np.array([1, 1, -1, -1, 1, 1, -1, -1])


def dots(first: Float64[np.ndarray, "n d"], second: Float64[np.ndarray, "n d"]) -> Float64[np.ndarray, " n"]:
    """Dot product of every row with the other's."""
    return np.matmul(first[:, None, :], second[:, :, None])[:, 0, 0]


def lengths(vectors: Float64[np.ndarray, "n d"]) -> Float64[np.ndarray, " n"]:
    """Euclidean length of every row."""
    return np.sqrt(dots(vectors, vectors))


def rotation_matrices(quaternions: Float64[np.ndarray, "n 4"]) -> Float64[np.ndarray, "n 3 3"]:
    """Rotations of quaternions (w, x, y, z) of any length; zero for zero."""
    squared = dots(quaternions, quaternions)
    scaled = (np.abs(1.0 - squared) >= 1e-14) & (squared > 0)
    w, x, y, z = np.where(
        scaled[:, None], quaternions / np.sqrt(np.where(scaled, squared, 1.0))[:, None], quaternions
    ).T
    left = np.stack([w, -x, -y, -z, x, w, -z, y, y, z, w, -x, z, -y, x, w], axis=-1).reshape(-1, 4, 4)
    right = np.stack([w, -x, -y, -z, x, w, z, -y, y, -z, w, x, z, y, -x, w], axis=-1).reshape(-1, 4, 4)
    return np.matmul(left, right.transpose(0, 2, 1))[:, 1:, 1:]


def yaws(quaternions: Float64[np.ndarray, "n 4"]) -> Float64[np.ndarray, " n"]:
    """Heading (rad) of a box's x axis, seen from above."""
    matrices = rotation_matrices(quaternions)
    # numpy's own arctan2 rounds otherwise from version to version and from processor to processor.
    return np.fromiter(map(math.atan2, matrices[:, 1, 0], matrices[:, 0, 0]), np.float64, len(matrices))


def angle_differences(
    first: Float64[np.ndarray, " n"], second: Float64[np.ndarray, " n"], period: Float64[np.ndarray, " n"]
) -> Float64[np.ndarray, " n"]:
    """Smallest difference (rad, 0 to half a period) of angles that are equal modulo `period`."""
    return np.abs((first - second + period / 2) % period - period / 2)


def inside(
    points: Float64[np.ndarray, "n 3"],
    translation: Float64[np.ndarray, "n 3"],
    size_wlh: Float64[np.ndarray, "n 3"],
    rotation: Float64[np.ndarray, "n 4"],
) -> np.ndarray:
    """(N,) whether each point lies in its box, surface included."""
    width, length, height = size_wlh.T[:, :, None]
    upright = np.stack([length / 2 * _CORNERS_X, width / 2 * _CORNERS_Y, height / 2 * _CORNERS_Z], axis=1)
    corners = np.matmul(rotation_matrices(rotation), upright) + translation[:, :, None]
    origin = np.ascontiguousarray(corners[:, :, 0])
    offset = points - origin
    is_inside = np.ones(len(points), dtype=bool)
    for neighbour in (4, 1, 3):
        edge = corners[:, :, neighbour] - origin
        along = dots(edge, offset)
        is_inside &= (along >= 0) & (along <= dots(edge, edge))
    return is_inside
