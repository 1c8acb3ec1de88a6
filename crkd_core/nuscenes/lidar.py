"""LiDAR sweeps: ``.pcd.bin`` files of float32 x, y, z (m, sensor frame), intensity (0 to 255) and ring index."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crkd_core.errors import DatasetError
from crkd_core.nuscenes.regular_files import refuse_special_file

POINT_BYTES = 20


def read_lidar(path: Path) -> NDArray[np.float32]:
    """(P, 5) points of a sweep.

    Raises:
        DatasetError: the file is missing, or its size is not a whole number of points.
    """
    refuse_special_file(path, "the LiDAR file")
    try:
        values = np.fromfile(path, dtype=np.uint8)
    except FileNotFoundError:
        raise DatasetError(
            f"the LiDAR file {path} is missing; unpack the archive it belongs to, or prepare the data again."
        ) from None
    except OSError as error:
        raise DatasetError(f"the LiDAR file {path} cannot be read: {error.strerror or error}.") from None
    if len(values) % POINT_BYTES:
        raise DatasetError(f"the LiDAR file {path} is damaged: {explain_size(len(values))}; unpack it again.")
    return values.view("<f4").astype(np.float32, copy=False).reshape(-1, 5)


def explain_size(size: int) -> str:
    """What is wrong with a LiDAR file of this size."""
    return f"expected a multiple of {POINT_BYTES} bytes (5 float32 a point), found {size}"
