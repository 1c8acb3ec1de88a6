"""Poses as nuScenes writes them: a quaternion and a translation."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from crkd_core.geometry.transforms import rigid_transforms, rotations_from_quaternions


def pose(
    wxyz: Sequence[float] | NDArray, translation: Sequence[float] | NDArray = (0.0, 0.0, 0.0)
) -> NDArray[np.float64]:
    """4x4 transform of a quaternion (w, x, y, z) of any length and a translation (m)."""
    rotation = rotations_from_quaternions(np.asarray(wxyz, dtype=np.float64))
    return rigid_transforms(rotation, np.asarray(translation, dtype=np.float64))
