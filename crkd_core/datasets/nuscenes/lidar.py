"""LiDAR sweeps: ``.pcd.bin`` files of float32 x, y, z (m, sensor frame), intensity (0 to 255) and ring index.

Nothing in a file says how many columns it has. nuScenes has five; a data set with another number says so when it is
prepared (``data.lidar.columns``): the first three are x, y and z, a fourth is the intensity, others are not used.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crkd_core.config.data import NUSCENES_COLUMNS
from crkd_core.datasets.nuscenes.files import read_sensor_file
from crkd_core.datasets.nuscenes.lidar_columns import is_ring_index, likely_columns, looks_like_float64
from crkd_core.errors import DatasetError
from crkd_core.progress import Progress

_USED_COLUMNS = 4
_VALUE_BYTES = 4
_LOOKED_AT = 256
_MOST = 1e5
_UNPACK = "; unpack it again"
_NAMES = ("x", "y", "z", "intensity")
_OTHER_FORMATS = {b"# .PCD": "a PCD file with a header", b"\x93NUMPY": "a numpy file with a header"}


def read_lidar(path: Path, columns: int = NUSCENES_COLUMNS) -> NDArray[np.float32]:
    """(P, 5) points of a sweep: x, y, z, intensity and ring (the last two 0 where the file does not have them).

    Points with a value that is not finite are dropped.

    Args:
        columns: float32 values a point in the file; of others than five the ring is not read.

    Raises:
        DatasetError: the file is missing, its size is not a whole number of points, its values look like another
            number of columns, or cannot have been measured.
    """
    data = read_sensor_file(path, "LiDAR file")
    problem = explain_size(len(data), columns)
    if problem or data.startswith(tuple(_OTHER_FORMATS)):
        problem = problem or f"expected {columns} float32 a point and nothing else"
        raise DatasetError(f"the LiDAR file {path} is damaged: {problem}{_remedy(data, columns)}.")
    values = np.frombuffer(data, "<f4").astype(np.float32, copy=False)
    points = values.reshape(-1, columns)
    if columns == NUSCENES_COLUMNS:
        if len(points) and not _has_rings(points[:: -(-len(points) // _LOOKED_AT)]):
            _check_columns(data, points, path, may_not_tell=True)
    else:
        kept = min(columns, _USED_COLUMNS)
        points = np.concatenate([points[:, :kept], np.zeros((len(points), 5 - kept), np.float32)], axis=1)
        values = points.reshape(-1)
    # The sum of squares tells of a value that is not finite, or far too large, without looking at each.
    if np.vdot(values, values) < 1e8 * max(len(values), 1):
        return points
    return _measured(points, path)


def explain_size(size: int, columns: int) -> str | None:
    """What is wrong with a LiDAR file of this size, None for nothing."""
    if size % (_VALUE_BYTES * columns) == 0:
        return None
    return f"expected a multiple of {_VALUE_BYTES * columns} bytes ({columns} float32 a point), found {size}"


def look_at_lidar(paths: Sequence[Path], columns: int, progress: Progress) -> None:
    """Look closely at some files of a data set that is said to have so many columns.

    Raises:
        DatasetError: as :func:`read_lidar`; also where other columns than five do not fit the values, or a fifth is no
            ring index and the values do not tell that it is the fifth.
    """
    total = dropped = 0
    with progress.task("LiDAR", total=len(paths), unit="files") as task:
        for path in paths:
            data = read_sensor_file(path, "LiDAR file")
            points = read_lidar(path, columns)
            raw = np.frombuffer(data, "<f4").reshape(-1, columns)
            if len(raw) and not _has_rings(raw):
                _check_columns(data, raw, path, may_not_tell=columns != NUSCENES_COLUMNS)
            total += len(raw)
            dropped += len(raw) - len(points)
            task.advance()
    if dropped:
        progress.warning(
            f"{dropped} of {total} LiDAR points in the {len(paths)} files that were looked at have values that are "
            "not finite; such points are left out"
        )


def refuse_other_columns(path: Path, columns: int) -> None:
    """Refuse a file whose size does not fit so many columns where its values tell why.

    Raises:
        DatasetError: naming the columns or the format that it has.
    """
    data = read_sensor_file(path, "LiDAR file")
    remedy = _remedy(data, columns)
    if remedy != _UNPACK:
        problem = explain_size(len(data), columns)
        raise DatasetError(f"the LiDAR file {path} cannot be read: {problem}{remedy}.")


def _has_rings(points: NDArray[np.float32]) -> bool:
    return points.shape[1] == NUSCENES_COLUMNS and is_ring_index(points[:, 4])


def _check_columns(data: bytearray, points: NDArray[np.float32], path: Path, may_not_tell: bool) -> None:
    """Refuse values that look like other columns; `may_not_tell`: not those that do not look like any."""
    columns = points.shape[1]
    likely = likely_columns(points.reshape(-1))
    if (likely == columns or (likely is None and may_not_tell)) and not looks_like_float64(data):
        return
    problem = f"its values do not look like {columns} float32 columns"
    if columns == NUSCENES_COLUMNS:
        problem = f"its fifth column is no ring index (such as {_first_odd(points[:, 4]):.4g})"
    raise DatasetError(f"the LiDAR file {path} cannot be read: {problem}{_remedy(data, columns)}.")


def _first_odd(ring: NDArray[np.float32]) -> float:
    return float(next((value for value in ring if not is_ring_index(np.array([value]))), ring[0]))


def _remedy(data: bytearray, columns: int) -> str:
    for start, name in _OTHER_FORMATS.items():
        if data.startswith(start):
            return f"; it is {name}: write its points as bare float32"
    if len(data) % 8 == 0 and looks_like_float64(data):
        return "; its values look like float64: convert them to float32"
    likely = likely_columns(np.frombuffer(data, "<f4", len(data) // _VALUE_BYTES))
    if likely in (None, columns) or len(data) % (_VALUE_BYTES * likely):
        return _UNPACK
    return (
        f"; its values look like {likely} columns: unpack it again, or prepare with --set data.lidar.columns={likely}"
    )


def _measured(points: NDArray[np.float32], path: Path) -> NDArray[np.float32]:
    """The finite points, or a refusal where what was measured is out of any range."""
    finite = points[np.isfinite(points).all(axis=1)]
    if not len(finite):
        raise DatasetError(
            f"the LiDAR file {path} is damaged: none of its {len(points)} points is finite; unpack it again."
        )
    size = np.abs(finite[:, :_USED_COLUMNS])
    if (size > _MOST).any():
        point, column = np.argwhere(size > _MOST)[0]
        raise DatasetError(
            f"the LiDAR file {path} is damaged: its {_NAMES[column]} is {finite[point, column]:.3g}; expected metres "
            f"and an intensity within {_MOST:g}; unpack it again."
        )
    return finite
