"""How many LiDAR and radar points lie in an annotated box, and which boxes are therefore left out: decided here alone.

Training, class-balanced sampling, the metrics and their break-downs leave out a box exactly where both numbers are
known to be 0. A number is unknown (:data:`UNKNOWN`) where the tables give none or a negative one, and everywhere in a
data set where no box at all has a point: whatever made it did not count.
"""

import numpy as np
from numpy.typing import NDArray

UNKNOWN = -1
MOST_POINTS = 2**30 - 1
"""Two numbers of points can be added in 32 bits."""


def total_points(lidar_points: NDArray[np.int32], radar_points: NDArray[np.int32]) -> NDArray[np.int32]:
    """(M,) points inside each box: those that were counted, 0 where there are none, ``UNKNOWN`` where nobody knows."""
    counted = np.maximum(lidar_points, 0) + np.maximum(radar_points, 0)
    unknown = (np.minimum(lidar_points, radar_points) < 0) & (counted == 0)
    return np.where(unknown, UNKNOWN, counted).astype(np.int32)


def may_have_points(lidar_points: NDArray[np.int32], radar_points: NDArray[np.int32]) -> NDArray[np.bool_]:
    """(M,) whether each box takes part in training and metrics: not where it is known to be without any point."""
    return total_points(lidar_points, radar_points) != 0
