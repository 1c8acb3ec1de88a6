"""Checks of the quaternions that tables hold."""

import numpy as np
from numpy.typing import NDArray

_SHORTEST_QUATERNION = 1e-6
_LENGTHS = (0.9, 1.1)


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
