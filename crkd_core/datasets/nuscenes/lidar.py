"""LiDAR sweeps: ``.pcd.bin`` files of float32 x, y, z (m, sensor frame), intensity (0 to 255) and ring index.

Nothing in such a file says how many columns it has. nuScenes has five; a data set with another number says so in its
description or when it is prepared (``data.lidar.columns``): the first three are x, y and z, a fourth is the intensity,
others are not used. PCD files are read by their header where the description leaves the columns open.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crkd_core.config.data import NUSCENES_COLUMNS
from crkd_core.datasets.nuscenes.files import read_sensor_file
from crkd_core.datasets.nuscenes.lidar_columns import is_ring_index, likely_columns, looks_like_float64
from crkd_core.datasets.nuscenes.lidar_format import LidarFormat
from crkd_core.datasets.nuscenes.pcd import PcdError, PcdNotAsDescribed, is_pcd, read_header, read_points
from crkd_core.errors import DatasetError
from crkd_core.progress import Progress

_NUSCENES = LidarFormat()
_USED_COLUMNS = 4
_VALUE_BYTES = 4
_LOOKED_AT = 256
_MOST = 1e5
_LONGEST_SWEEP_S = 2.0
_UNPACK = "; unpack it again"
_NAMES = ("x", "y", "z", "intensity")
_OTHER_FORMATS = {b"# .PCD": "a PCD file with a header", b"\x93NUMPY": "a numpy file with a header"}


def read_lidar(path: Path, layout: LidarFormat = _NUSCENES, timestamp_us: int | None = None) -> NDArray[np.float32]:
    """(P, 5) points of a sweep: x, y, z, intensity and ring (the last two 0 where the file does not have them).

    Where the points have time stamps of their own, the fifth column is instead by how much (s) each was measured before
    the sweep's. Points with a value that is not finite are dropped.

    Args:
        layout: what the files hold; of others than five columns the ring is not read.
        timestamp_us: of the sweep; needed where the points have time stamps.

    Raises:
        DatasetError: the file is missing, its size is not a whole number of points, its values look like another
            number of columns, or cannot have been measured.
    """
    data, columns = read_sensor_file(path, "LiDAR file"), layout.columns
    if layout.reads_pcd and is_pcd(data):
        return _read_pcd(bytes(data), path, layout, timestamp_us)
    problem = explain_size(len(data), columns)
    if problem or data.startswith(tuple(_OTHER_FORMATS)):
        problem = problem or f"expected {columns} float32 a point and nothing else"
        raise DatasetError(f"the LiDAR file {path} is damaged: {problem}{_remedy(data, layout)}.")
    values = np.frombuffer(data, "<f4").astype(np.float32, copy=False)
    points = values.reshape(-1, columns)
    if columns == NUSCENES_COLUMNS:
        if len(points) and not _has_rings(points[:: -(-len(points) // _LOOKED_AT)]):
            _check_columns(data, points, path, layout, may_not_tell=True)
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


def look_at_lidar(paths: Sequence[Path], layout: LidarFormat, progress: Progress) -> None:
    """Look closely at some files of a data set that is said to be of a layout.

    Raises:
        DatasetError: as :func:`read_lidar`; also where other columns than five do not fit the values, or a fifth is no
            ring index and the values do not tell that it is the fifth.
    """
    total = dropped = 0
    with progress.task("LiDAR", total=len(paths), unit="files") as task:
        for path in paths:
            data = read_sensor_file(path, "LiDAR file")
            points = read_lidar(path, layout)
            task.advance()
            if layout.reads_pcd and is_pcd(data):
                count = read_header(bytes(data)).points
            else:
                raw = np.frombuffer(data, "<f4").reshape(-1, layout.columns)
                if len(raw) and not _has_rings(raw):
                    _check_columns(data, raw, path, layout, may_not_tell=layout.columns != NUSCENES_COLUMNS)
                count = len(raw)
            total += count
            dropped += count - len(points)
    if dropped:
        progress.warning(
            f"{dropped} of {total} LiDAR points in the {len(paths)} files that were looked at have values that are "
            "not finite; such points are left out"
        )


def refuse_other_columns(path: Path, layout: LidarFormat) -> None:
    """Refuse a file whose size does not fit the columns of a layout where its values tell why.

    Raises:
        DatasetError: naming the columns or the format that it has.
    """
    data = read_sensor_file(path, "LiDAR file")
    remedy = _remedy(data, layout)
    if remedy != _UNPACK:
        problem = explain_size(len(data), layout.columns)
        raise DatasetError(f"the LiDAR file {path} cannot be read: {problem}{remedy}.")


def _has_rings(points: NDArray[np.float32]) -> bool:
    return points.shape[1] == NUSCENES_COLUMNS and is_ring_index(points[:, 4])


def _check_columns(
    data: bytearray, points: NDArray[np.float32], path: Path, layout: LidarFormat, may_not_tell: bool
) -> None:
    """Refuse values that look like other columns; `may_not_tell`: not those that do not look like any."""
    columns = points.shape[1]
    likely = likely_columns(points.reshape(-1))
    if (likely == columns or (likely is None and may_not_tell)) and not looks_like_float64(data):
        return
    problem = f"its values do not look like {columns} float32 columns"
    if columns == NUSCENES_COLUMNS:
        problem = f"its fifth column is no ring index (such as {_first_odd(points[:, 4]):.4g})"
    raise DatasetError(f"the LiDAR file {path} cannot be read: {problem}{_remedy(data, layout)}.")


def _first_odd(ring: NDArray[np.float32]) -> float:
    return float(next((value for value in ring if not is_ring_index(np.array([value]))), ring[0]))


def _remedy(data: bytearray, layout: LidarFormat) -> str:
    if layout.is_described and is_pcd(data):
        return "; it is a PCD file with a header: leave out lidar_points.columns in the description"
    for start, name in _OTHER_FORMATS.items():
        if data.startswith(start):
            return f"; it is {name}: write its points as bare float32"
    if len(data) % 8 == 0 and looks_like_float64(data):
        return "; its values look like float64: convert them to float32"
    likely = likely_columns(np.frombuffer(data, "<f4", len(data) // _VALUE_BYTES))
    if likely is None or likely == layout.columns or len(data) % (_VALUE_BYTES * likely):
        return _UNPACK
    return f"; its values look like {likely} columns: unpack it again, or {layout.remedy(likely)}"


def _read_pcd(data: bytes, path: Path, layout: LidarFormat, timestamp_us: int | None) -> NDArray[np.float32]:
    optional = {3: layout.intensity_field, 4: layout.time_field}
    named = {column: name for column, name in optional.items() if name is not None}
    try:
        header = read_header(data)
        lacking = [name for name in (*_NAMES[:3], *named.values()) if name not in header.single]
        if lacking:
            raise PcdNotAsDescribed(
                f"it lacks the field {lacking[0]} and has {', '.join(header.by_name)}",
                "say lidar_points.intensity_field and time_field in the description (null for none)",
            )
        records = read_points(data, header, tuple(dict.fromkeys((*_NAMES[:3], *named.values()))))
    except PcdError as error:
        raise DatasetError(f"the LiDAR file {path} is {error.state}: {error.problem}; {error.remedy}.") from None
    points = np.zeros((len(records), 5), dtype=np.float32)
    with np.errstate(over="ignore"):
        for column, name in enumerate(_NAMES[:3]):
            points[:, column] = records[name]
        if layout.intensity_field is not None:
            points[:, 3] = records[layout.intensity_field]
    if layout.time_field is not None and timestamp_us is not None:
        points[:, 4] = _time_lag_s(records[layout.time_field], timestamp_us, path, layout.time_field)
    return _measured(points, path) if len(points) else points


def _time_lag_s(times_us: NDArray, timestamp_us: int, path: Path, name: str) -> NDArray[np.float64]:
    """(P,) by how much (s) points were measured before the time stamp of their sweep."""
    if times_us.dtype.kind in "iu":
        lag_s = (timestamp_us - times_us.astype(np.int64)) * 1e-6
    else:
        lag_s = (timestamp_us - times_us.astype(np.float64)) * 1e-6
    longest_s = float(np.nanmax(np.abs(lag_s))) if len(lag_s) else 0.0
    if not longest_s <= _LONGEST_SWEEP_S:
        raise DatasetError(
            f"the LiDAR file {path} has points {longest_s:,.1f} s from its time stamp by the field {name}; expected "
            "microseconds of the same clock: convert them, or say lidar_points.time_field: null."
        )
    return lag_s


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
