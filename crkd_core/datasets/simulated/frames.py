"""Rigid transforms of the simulator.

Points are moved with elementwise products instead of matrix products: BLAS may round differently with another number
of threads, and the simulated bytes must not depend on the machine's load.
"""

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def yaw_matrix(yaw_rad: float) -> Array:
    """Rotation about z as a 3x3 matrix."""
    c, s = math.cos(yaw_rad), math.sin(yaw_rad)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def planar_pose(x: float, y: float, yaw_rad: float) -> Array:
    """4x4 transform parent_from_child of a child standing at (x, y) on the ground with the given yaw."""
    pose = np.eye(4)
    pose[:3, :3] = yaw_matrix(yaw_rad)
    pose[:2, 3] = x, y
    return pose


def pose(rotation: Array, translation: Array) -> Array:
    """4x4 transform from a 3x3 rotation and a translation."""
    out = np.eye(4)
    out[:3, :3] = rotation
    out[:3, 3] = translation
    return out


def invert(transform: Array) -> Array:
    """Inverse of a rigid 4x4 transform."""
    rotation = transform[:3, :3].T
    return pose(
        rotation,
        -(rotation[:, :1] * transform[0, 3] + rotation[:, 1:2] * transform[1, 3] + rotation[:, 2:] * transform[2, 3])[
            :, 0
        ],
    )


def compose(*transforms: Array) -> Array:
    """Product of 4x4 transforms, left to right, without BLAS."""
    out = transforms[0]
    for transform in transforms[1:]:
        out = (out[:, :, None] * transform[None]).sum(axis=1)
    return out


def move(transform: Array, points: NDArray) -> NDArray:
    """Apply a 4x4 transform to points of shape (..., 3)."""
    return rotate(transform[:3, :3], points) + transform[:3, 3].astype(points.dtype)


def rotate(rotation: Array, vectors: NDArray) -> NDArray:
    """Apply a 3x3 rotation to vectors of shape (..., 3)."""
    r = rotation.astype(vectors.dtype)
    return vectors[..., :1] * r[:, 0] + vectors[..., 1:2] * r[:, 1] + vectors[..., 2:] * r[:, 2]


def quaternion_from_yaw(yaw_rad: float) -> list[float]:
    """Quaternion (w, x, y, z) of a rotation about z."""
    return [math.cos(yaw_rad / 2), 0.0, 0.0, math.sin(yaw_rad / 2)]


def quaternion_from_matrix(rotation: Array) -> list[float]:
    """Unit quaternion (w, x, y, z), w >= 0, of a 3x3 rotation, from the largest of its four components."""
    m = rotation
    squares = np.array(
        [
            1 + m[0, 0] + m[1, 1] + m[2, 2],
            1 + m[0, 0] - m[1, 1] - m[2, 2],
            1 - m[0, 0] + m[1, 1] - m[2, 2],
            1 - m[0, 0] - m[1, 1] + m[2, 2],
        ]
    )
    outer = np.array(
        [
            [squares[0], m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]],
            [m[2, 1] - m[1, 2], squares[1], m[0, 1] + m[1, 0], m[0, 2] + m[2, 0]],
            [m[0, 2] - m[2, 0], m[0, 1] + m[1, 0], squares[2], m[1, 2] + m[2, 1]],
            [m[1, 0] - m[0, 1], m[0, 2] + m[2, 0], m[1, 2] + m[2, 1], squares[3]],
        ]
    )
    q = outer[int(squares.argmax())]
    q = q / np.sqrt((q * q).sum())
    return [float(v) for v in (q if q[0] >= 0 else -q)]


def matrix_from_quaternion(q: list[float]) -> Array:
    """3x3 rotation of a unit quaternion (w, x, y, z)."""
    w, x, y, z = q
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
