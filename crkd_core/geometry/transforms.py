"""Rigid 4x4 transforms in float64, named target-first: ``lidar_from_camera`` maps camera points to the lidar frame."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray


def rotation_from_quaternion(wxyz: ArrayLike) -> NDArray[np.float64]:
    """3x3 rotation of a quaternion (w, x, y, z), which is normalised first.

    Raises:
        ValueError: the quaternion has zero length.
    """
    quaternion = np.asarray(wxyz, dtype=np.float64)
    norm = np.linalg.norm(quaternion)
    if norm < 1e-12:
        raise ValueError(f"a rotation quaternion must not be zero, got {quaternion.tolist()}")
    w, x, y, z = quaternion / norm
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def quaternion_from_yaw(yaw_rad: float) -> list[float]:
    """Quaternion (w, x, y, z) of a rotation by `yaw_rad` counter-clockwise about z."""
    return [float(np.cos(yaw_rad / 2)), 0.0, 0.0, float(np.sin(yaw_rad / 2))]


def rotation_about_z(yaw_rad: float) -> NDArray[np.float64]:
    """3x3 rotation counter-clockwise about z."""
    c, s = np.cos(yaw_rad), np.sin(yaw_rad)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def rigid_transform(
    rotation_wxyz: ArrayLike | None = None,
    translation: ArrayLike = (0.0, 0.0, 0.0),
    rotation: ArrayLike | None = None,
) -> NDArray[np.float64]:
    """4x4 transform of a quaternion (w, x, y, z) or a 3x3 rotation, and a translation in metres."""
    matrix = np.eye(4)
    if rotation is not None:
        matrix[:3, :3] = rotation
    elif rotation_wxyz is not None:
        matrix[:3, :3] = rotation_from_quaternion(rotation_wxyz)
    matrix[:3, 3] = translation
    return matrix


def inverse_rigid(transform: ArrayLike) -> NDArray[np.float64]:
    """Inverse of a rigid 4x4 transform (exact: transposes the rotation)."""
    matrix = np.asarray(transform, dtype=np.float64)
    inverse = np.eye(4)
    inverse[:3, :3] = matrix[:3, :3].T
    inverse[:3, 3] = -matrix[:3, :3].T @ matrix[:3, 3]
    return inverse


def compose(*transforms: ArrayLike) -> NDArray[np.float64]:
    """Product of 4x4 transforms, read left to right: ``compose(a_from_b, b_from_c)`` is ``a_from_c``."""
    result = np.eye(4)
    for transform in transforms:
        result = result @ np.asarray(transform, dtype=np.float64)
    return result


def transform_points(transform: ArrayLike, points: NDArray) -> NDArray:
    """Apply a 4x4 transform to (N, 3) points; computed in float64, returned in the points' own precision."""
    matrix = np.asarray(transform, dtype=np.float64)
    return (points.astype(np.float64) @ matrix[:3, :3].T + matrix[:3, 3]).astype(points.dtype)


def yaw_of(transform: ArrayLike) -> float:
    """Heading (rad) that a transform gives to its source frame's x axis, about the target frame's z axis."""
    matrix = np.asarray(transform, dtype=np.float64)
    return float(np.arctan2(matrix[1, 0], matrix[0, 0]))


def wrap_angle(angle_rad: NDArray | float) -> NDArray | float:
    """The same angle in [-pi, pi)."""
    return (np.asarray(angle_rad) + np.pi) % (2 * np.pi) - np.pi


def as_matrix(values: Sequence[float] | NDArray, size: int = 4) -> NDArray[np.float64]:
    """A (size, size) matrix from its row-major list, as Parquet tables store it."""
    return np.asarray(values, dtype=np.float64).reshape(size, size)
