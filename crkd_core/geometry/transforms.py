"""Rotations, quaternions and rigid transforms of any number of frames at once, in float64.

Transforms are named target-first: ``lidar_from_camera`` maps camera points to the lidar frame. Every function takes and
gives arrays with any leading dimensions. Products are elementwise: BLAS rounds otherwise with another number of threads
or another build, and what is computed here decides the bytes of files.
"""

from typing import Any

import numpy as np
from jaxtyping import Float64
from numpy.typing import NDArray

# Spelt out: from numpy 2.5 on NDArray is no class any more, which the checked shapes below need.
Array = np.ndarray[Any, np.dtype[np.float64]]


def rotations_from_quaternions(wxyz: Float64[Array, "*n 4"]) -> Float64[Array, "*n 3 3"]:
    """Rotation matrices of (..., 4) quaternions (w, x, y, z) of any length but zero, which gives NaN."""
    return rotations_from_unit_quaternions(wxyz / np.linalg.norm(wxyz, axis=-1, keepdims=True))


def rotations_from_unit_quaternions(wxyz: Float64[Array, "*n 4"]) -> Float64[Array, "*n 3 3"]:
    """Rotation matrices of (..., 4) quaternions (w, x, y, z) of length 1, taken as they are."""
    w, x, y, z = np.moveaxis(wxyz, -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def quaternions_from_rotations(rotations: Float64[Array, "*n 3 3"]) -> Float64[Array, "*n 4"]:
    """Unit quaternions (w, x, y, z), w >= 0, of (..., 3, 3) rotation matrices.

    Each comes from the largest of its four components, which is stable for every rotation, half turns included.
    """
    m = np.moveaxis(rotations, (-2, -1), (0, 1))
    squares = [
        1 + m[0, 0] + m[1, 1] + m[2, 2],
        1 + m[0, 0] - m[1, 1] - m[2, 2],
        1 - m[0, 0] + m[1, 1] - m[2, 2],
        1 - m[0, 0] - m[1, 1] + m[2, 2],
    ]
    # Four times the quaternion's outer product with itself: each row is a multiple of the quaternion.
    outer = [
        [squares[0], m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]],
        [m[2, 1] - m[1, 2], squares[1], m[0, 1] + m[1, 0], m[0, 2] + m[2, 0]],
        [m[0, 2] - m[2, 0], m[0, 1] + m[1, 0], squares[2], m[1, 2] + m[2, 1]],
        [m[1, 0] - m[0, 1], m[0, 2] + m[2, 0], m[1, 2] + m[2, 1], squares[3]],
    ]
    largest = np.argmax(np.stack(squares, axis=-1), axis=-1)
    rows = np.stack([np.stack(row, axis=-1) for row in outer], axis=-2)
    quaternions = np.take_along_axis(rows, largest[..., None, None], axis=-2)[..., 0, :]
    quaternions = quaternions / np.sqrt((quaternions * quaternions).sum(axis=-1, keepdims=True))
    return np.where(quaternions[..., :1] >= 0, quaternions, -quaternions)


def quaternions_from_yaws(yaw_rad: float | Float64[Array, "*n"]) -> Float64[Array, "*n 4"]:
    """Quaternions (w, x, y, z) of rotations counter-clockwise about z."""
    half = np.asarray(yaw_rad, dtype=np.float64) / 2
    zero = np.zeros_like(half)
    return np.stack([np.cos(half), zero, zero, np.sin(half)], axis=-1)


def multiply_quaternions(first: Float64[Array, "*#n 4"], second: Float64[Array, "*#n 4"]) -> Float64[Array, "*_ 4"]:
    """Quaternions (w, x, y, z) that rotate by `second` and then by `first`."""
    w1, x1, y1, z1 = np.moveaxis(first, -1, 0)
    w2, x2, y2, z2 = np.moveaxis(second, -1, 0)
    product = [
        w1 * w2 - x1 * x2 - y1 * y2 - z1 * z2,
        w1 * x2 + x1 * w2 + y1 * z2 - z1 * y2,
        w1 * y2 - x1 * z2 + y1 * w2 + z1 * x2,
        w1 * z2 + x1 * y2 - y1 * x2 + z1 * w2,
    ]
    return np.stack(product, axis=-1)


def rotations_about_z(yaw_rad: float | Float64[Array, "*n"]) -> Float64[Array, "*n 3 3"]:
    """Rotation matrices counter-clockwise about z."""
    yaw = np.asarray(yaw_rad, dtype=np.float64)
    rotations = np.zeros((*yaw.shape, 3, 3))
    rotations[..., 0, 0] = rotations[..., 1, 1] = np.cos(yaw)
    rotations[..., 1, 0] = np.sin(yaw)
    rotations[..., 0, 1] = -rotations[..., 1, 0]
    rotations[..., 2, 2] = 1.0
    return rotations


def rigid_transforms(
    rotations: Float64[Array, "*n 3 3"], translations: Float64[Array, "*n 3"]
) -> Float64[Array, "*n 4 4"]:
    """4x4 transforms of (..., 3, 3) rotation matrices and (..., 3) translations (m)."""
    transforms = np.zeros((*rotations.shape[:-2], 4, 4))
    transforms[..., :3, :3] = rotations
    transforms[..., :3, 3] = translations
    transforms[..., 3, 3] = 1.0
    return transforms


def inverse_rigid(transforms: Float64[Array, "*n 4 4"]) -> Float64[Array, "*n 4 4"]:
    """Inverses of rigid transforms; their rotations are transposed, and so exact."""
    rotation = np.swapaxes(transforms[..., :3, :3], -2, -1)
    return rigid_transforms(rotation, -rotate_vectors(rotation, transforms[..., :3, 3]))


def compose(*transforms: Float64[Array, "*#n k k"]) -> Float64[Array, "*_ k k"]:
    """Products of transforms or rotations, read left to right: ``compose(a_from_b, b_from_c)`` is ``a_from_c``."""
    product = transforms[0]
    for transform in transforms[1:]:
        product = (product[..., :, :, None] * transform[..., None, :, :]).sum(axis=-2)
    return product


def transform_points(transforms: Float64[Array, "*n 4 4"], points: NDArray[Any]) -> NDArray[Any]:
    """Apply transforms to (..., 3) points, in the points' own precision."""
    moved: NDArray[Any] = rotate_vectors(transforms[..., :3, :3], points) + transforms[..., :3, 3].astype(points.dtype)
    return moved


def rotate_vectors(rotations: Float64[Array, "*n 3 3"], vectors: NDArray[Any]) -> NDArray[Any]:
    """Apply rotation matrices to (..., 3) vectors, in the vectors' own precision."""
    columns = np.moveaxis(rotations.astype(vectors.dtype), -1, 0)
    rotated: NDArray[Any] = (
        vectors[..., :1] * columns[0] + vectors[..., 1:2] * columns[1] + vectors[..., 2:] * columns[2]
    )
    return rotated
