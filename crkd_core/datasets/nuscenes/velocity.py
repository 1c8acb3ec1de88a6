"""Velocities of annotated boxes, which nuScenes does not store."""

import numpy as np
from numpy.typing import NDArray

MAX_TIME_DIFFERENCE_S = 1.5


def box_velocities(
    translations: NDArray[np.float64],
    timestamps_us: NDArray[np.int64],
    previous: NDArray[np.int64],
    following: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Velocity (m/s, frame of the translations) of every annotation from its neighbours in the same instance.

    The centred difference where both neighbours exist, else the one-sided one; NaN where there is no neighbour, or the
    two annotations are more than 1.5 s apart (3 s for the centred difference), or not apart at all.

    Args:
        translations: (A, 3) box centres in metres.
        timestamps_us: (A,) time of the key frame of each annotation.
        previous, following: (A,) row of the neighbouring annotation, -1 where there is none.

    Returns:
        (A, 3).

    Source: the rule of the nuScenes devkit's ``box_velocity``, which its detection evaluation relies on.
    """
    own = np.arange(len(translations))
    first = np.where(previous >= 0, previous, own)
    last = np.where(following >= 0, following, own)
    # Seconds are rounded before they are subtracted, as in the devkit, so that the limits fall on the same side.
    seconds = 1e-6 * timestamps_us[last] - 1e-6 * timestamps_us[first]
    limit = np.where((previous >= 0) & (following >= 0), 2 * MAX_TIME_DIFFERENCE_S, MAX_TIME_DIFFERENCE_S)
    defined = (seconds > 0) & (seconds <= limit)
    difference = translations[last] - translations[first]
    return np.where(defined[:, None], difference / np.where(defined, seconds, 1.0)[:, None], np.nan)
