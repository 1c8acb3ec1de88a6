"""What LiDAR files hold: bare float32, or PCD files, which say so themselves."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from crkd_core.config.data import NUSCENES_COLUMNS
from crkd_core.config.description import DatasetDescription
from crkd_core.config.description_files import nuscenes
from crkd_core.datasets.nuscenes.files import read_sensor_file
from crkd_core.datasets.nuscenes.lidar_columns import likely_columns
from crkd_core.datasets.nuscenes.pcd import begins_as_pcd
from crkd_core.errors import DatasetError

_LOOKED_AT = 8


@dataclass(frozen=True)
class LidarFormat:
    """What LiDAR files hold beside x, y and z (m, sensor frame).

    Attributes:
        columns: float32 values a point of files without a header: a fourth is the intensity, others are not used.
        reads_pcd: files with a PCD header are read by it; otherwise they are refused.
        intensity_field: PCD field of the intensity; None: 0 for all points.
        time_field: PCD field of each point's time stamp (us); None: that of the sweep holds for all.
        is_described: a description says so, and not only the configuration.
    """

    columns: int = NUSCENES_COLUMNS
    reads_pcd: bool = False
    intensity_field: str | None = None
    time_field: str | None = None
    is_described: bool = False

    @staticmethod
    def of(description: DatasetDescription, columns: int) -> "LidarFormat":
        """That of a data set whose files without a header have so many columns."""
        points = description.lidar_points
        is_own = description != nuscenes()
        return LidarFormat(columns, points.columns is None, points.intensity_field, points.time_field, is_own)

    def remedy(self, columns: int) -> str:
        """How to say that there are so many columns."""
        if self.is_described:
            return f"say lidar_points.columns: {columns} in the description"
        return f"prepare with --set data.lidar.columns={columns}"


def tell_columns(files: Sequence[Path]) -> int:
    """The float32 columns of LiDAR files without a header, by the values of some; nuScenes' where none is one.

    Raises:
        DatasetError: files differ, or their values do not tell.
    """
    told: dict[int, Path] = {}
    silent = None
    bare = (path for path in files if not begins_as_pcd(path, "LiDAR file"))
    for path in islice(bare, _LOOKED_AT):
        data = read_sensor_file(path, "LiDAR file")
        columns = likely_columns(np.frombuffer(data, "<f4", len(data) // 4))
        if columns is None:
            silent = path if data else silent
        else:
            told.setdefault(columns, path)
    if len(told) > 1:
        (first, one), (second, other) = list(told.items())[:2]
        raise DatasetError(
            f"the LiDAR files look like {first} columns ({one}) and {second} ({other}); expected one number: say "
            "lidar_points.columns in the description, or convert them."
        )
    if not told and silent is not None:
        raise DatasetError(
            f"the values of {silent} do not tell how many float32 columns it has; say lidar_points.columns in the "
            "description."
        )
    return next(iter(told), NUSCENES_COLUMNS)
