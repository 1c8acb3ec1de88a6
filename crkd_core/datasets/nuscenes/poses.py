"""Rigid transforms of many records at once, from nuScenes' translations and quaternions."""

import numpy as np
from numpy.typing import NDArray

_SHORTEST_QUATERNION = 1e-6
_LENGTHS = (0.9, 1.1)


def rotations(quaternions: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 3, 3) rotations of (N, 4) quaternions (w, x, y, z), normalised first."""
    w, x, y, z = (quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def are_rotations(quaternions: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(N,) whether each of (N, 4) quaternions is finite and long enough to be normalised."""
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.linalg.norm(quaternions, axis=1)
    return np.isfinite(lengths) & (lengths > _SHORTEST_QUATERNION)


def odd_lengths(quaternions: NDArray[np.float64], owners: str) -> list[str]:
    """A sentence where some of (N, 4) usable quaternions are far from length 1; `owners` says what they turn."""
    lengths = np.linalg.norm(quaternions, axis=1)
    odd = (lengths < _LENGTHS[0]) | (lengths > _LENGTHS[1])
    if not odd.any():
        return []
    return [
        f"{odd.sum()} of {len(odd)} {owners} have a rotation of length {lengths[odd][0]:.3g} or so instead of 1: are "
        "they no quaternions (w, x, y, z)?"
    ]


def transforms(translations: NDArray[np.float64], quaternions: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 4, 4) transforms of (N, 3) translations (m) and (N, 4) quaternions (w, x, y, z)."""
    matrices = np.tile(np.eye(4), (len(translations), 1, 1))
    matrices[:, :3, :3] = rotations(quaternions)
    matrices[:, :3, 3] = translations
    return matrices


def inverses(matrices: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inverses of (N, 4, 4) rigid transforms."""
    inverted = np.tile(np.eye(4), (len(matrices), 1, 1))
    inverted[:, :3, :3] = matrices[:, :3, :3].transpose(0, 2, 1)
    inverted[:, :3, 3] = -np.einsum("nij,nj->ni", inverted[:, :3, :3], matrices[:, :3, 3])
    return inverted
