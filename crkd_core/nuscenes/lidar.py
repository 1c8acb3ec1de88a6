"""LiDAR sweeps: ``.pcd.bin`` files of float32 x, y, z (m, sensor frame), intensity (0 to 255) and ring index.

Nothing in a file says how many columns it has. nuScenes has five; a data set with another number says so when it is
prepared (``data.lidar.columns``): the first three are always x, y and z, a fourth the intensity, others are not used.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crkd_core.errors import DatasetError
from crkd_core.nuscenes.files import read_sensor_file

NUSCENES_COLUMNS = 5


def read_lidar(path: Path, columns: int = NUSCENES_COLUMNS) -> NDArray[np.float32]:
    """(P, 5) points of a sweep: x, y, z, intensity and ring (0 for what the file does not have).

    Points with a value that is not finite are dropped.

    Args:
        columns: float32 values a point in the file.

    Raises:
        DatasetError: the file is missing, its size is not a whole number of points, or its values show another number
            of columns.
    """
    data = read_sensor_file(path, "LiDAR file")
    return values
