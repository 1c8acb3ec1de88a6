"""How many columns a LiDAR file without a header has, judged by its values.

Values of one column are alike: with the right number of columns their means differ from column to column; with a wrong
one every column mixes values of several, and the means come together. Means are taken of ranks, of the ranks of sizes,
and of which values are whole (intensity and ring), so that no unit or outlier matters.
"""

import numpy as np
from numpy.typing import NDArray

from crkd_core.config.numbers import COLUMNS_RANGE

_VALUES = 4000
_LEAST_POINTS = 100
_LEAST_DIFFERENCE = 0.01
_AS_GOOD = 0.85
_SENSIBLE = (1e-6, 1e6)
_RINGS = 4096


def is_ring_index(values: NDArray[np.float32]) -> bool:
    """Whether a column holds small whole numbers; values that are not finite are not looked at."""
    known = values[np.isfinite(values)]
    return bool(len(known)) and bool(((known == np.rint(known)) & (known >= 0) & (known < _RINGS)).all())


def likely_columns(values: NDArray[np.float32]) -> int | None:
    """The number of columns that all values of a file, in their order, look like; None where they do not tell.

    A multiple of the right number fits as well: the smallest that does is meant.
    """
    part = np.nan_to_num(_middle(values), posinf=0.0, neginf=0.0)
    least, most = COLUMNS_RANGE
    if len(part) < _LEAST_POINTS * least:
        return None
    features = np.stack([_ranks(part), _ranks(np.abs(part)), part == np.rint(part)])
    candidates = range(least, most + 1)
    differences = np.array([_difference_of_columns(features, columns) for columns in candidates])
    if differences.max() < _LEAST_DIFFERENCE:
        return None
    return candidates[int(np.argmax(differences >= _AS_GOOD * differences.max()))]


def looks_like_float64(data: bytes | bytearray) -> bool:
    """Whether a file's bytes make more sense as float64 than as float32: the wrong one gives values of any size."""
    if len(data) < 8 * _LEAST_POINTS:
        return False
    return _sensible(np.frombuffer(data, "<f8", len(data) // 8)) > _sensible(np.frombuffer(data, "<f4", len(data) // 4))


def _sensible(values: NDArray[np.floating]) -> float:
    size = np.abs(_middle(values))
    least, most = _SENSIBLE
    return float(((size == 0) | ((size > least) & (size < most))).mean())


def _middle(values: NDArray[np.floating]) -> NDArray[np.floating]:
    start = max(len(values) - _VALUES, 0) // 2
    return values[start : start + _VALUES]


def _ranks(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Position of every value among all, 0 to 1; equal values share one."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return ((np.cumsum(counts) - counts / 2) / len(values))[inverse]


def _difference_of_columns(features: NDArray[np.float64], columns: int) -> float:
    whole = features.shape[1] // columns * columns
    means = features[:, :whole].reshape(len(features), -1, columns).mean(axis=1)
    return float(means.var(axis=1).sum())
