"""The tables of sensors, their calibration, their files (``sample_data``) and the poses of the car."""

from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from crkd_core.config.classes import CAMERA_CHANNELS, LIDAR_CHANNEL, RADAR_CHANNELS
from crkd_core.datasets.nuscenes.poses import are_rotations, odd_lengths
from crkd_core.datasets.nuscenes.records import Record, TableReader
from crkd_core.errors import DatasetError
from crkd_core.geometry.transforms import rigid_transforms, rotations_from_quaternions

CHANNELS: tuple[str, ...] = (*CAMERA_CHANNELS, LIDAR_CHANNEL, *RADAR_CHANNELS)
"""All channels; other columns refer to them by index."""
LIDAR_INDEX = CHANNELS.index(LIDAR_CHANNEL)

_PIXELS = (0, 2**31 - 1)
_SMALLEST_FOCAL_LENGTH_PX = 1.0


@dataclass(frozen=True)
class SensorColumns:
    """Kept rows of ``sample_data``.

    Attributes:
        channel: index into ``CHANNELS``.
        sample: row of the sample the record belongs to (for a sweep: the nearest one).
        calibration, pose: rows of the calibrated sensors and of the kept ego poses.
        path: relative to the data root, or absolute where that was asked for.
    """

    channel: NDArray[np.int8]
    sample: NDArray[np.int32]
    timestamp_us: NDArray[np.int64]
    is_key_frame: NDArray[np.bool_]
    calibration: NDArray[np.int32]
    pose: NDArray[np.int64]
    width: NDArray[np.int32]
    height: NDArray[np.int32]
    path: list[str]


@dataclass(frozen=True)
class Calibration:
    """Calibrated sensors.

    Attributes:
        rows: by token.
        channel: index into ``CHANNELS`` of every row, -1 for a sensor that is not used.
        ego_from_sensor: (K, 4, 4); `intrinsics`: (K, 3, 3), zero for other sensors than cameras.
        oddities: what is worth a warning, one sentence each.
    """

    rows: dict[str, int]
    channel: list[int]
    ego_from_sensor: NDArray[np.float64]
    intrinsics: NDArray[np.float64]
    oddities: list[str]


def read_calibration(folder: Path) -> Calibration:
    """Calibration of all sensors; only that of sensors that are used must be complete.

    Raises:
        DatasetError: a table is damaged, or a camera matrix or pose of a used channel makes no sense.
    """
    sensors = TableReader(folder, "sensor")
    channel_of = sensors.index(lambda record: sensors.text(record, "channel"))
    _check_channels(sensors, set(channel_of.values()))
    table = TableReader(folder, "calibrated_sensor")
    tokens, channels, poses, matrices = [], [], array("d"), []
    for record in table:
        name = table.find(channel_of, record, "sensor_token", "sensor")
        channel = CHANNELS.index(name) if name in CHANNELS else -1
        tokens.append(table.token(record))
        channels.append(channel)
        if channel < 0:
            poses.extend(_NO_POSE)
        else:
            table.append_numbers(poses, record, _POSE)
        matrices.append(_camera_matrix(table, record) if 0 <= channel < LIDAR_INDEX else np.zeros((3, 3)))
    numbers = np.array(poses, dtype=np.float64).reshape(-1, 7)
    _check_poses(table, tokens, numbers)
    return Calibration(
        table.rows(tokens),
        channels,
        rigid_transforms(rotations_from_quaternions(numbers[:, 3:]), numbers[:, :3]),
        np.array(matrices, dtype=np.float64).reshape(-1, 3, 3),
        odd_lengths(numbers[:, 3:], "calibrated sensors"),
    )


def read_sensors(
    folder: Path, sample_rows: Mapping[str, int], calibration: Calibration, allow_outside: bool
) -> tuple[SensorColumns, dict[str, int]]:
    """The files of LiDAR and radar, and of camera key frames, and the rows that their poses get, by token.

    Args:
        allow_outside: take file names that lead out of the data root as they are.
    """
    table = TableReader(folder, "sample_data")
    columns = {name: array(kind) for name, kind in zip(_SENSOR_COLUMNS, "bibiqiiq", strict=True)}
    appends = [column.append for column in columns.values()]
    paths: list[str] = []
    pose_rows: dict[str, int] = {}
    data_root = folder.parent
    for record in table:
        calibrated = table.find(calibration.rows, record, "calibrated_sensor_token", "calibrated_sensor")
        channel = calibration.channel[calibrated]
        key_frame = table.flag(record, "is_key_frame")
        if channel < 0 or (channel < LIDAR_INDEX and not key_frame):
            continue
        row = (
            channel,
            table.find(sample_rows, record, "sample_token", "sample"),
            key_frame,
            calibrated,
            table.timestamp_us(record),
            table.integer(record, "width", _PIXELS, 0),
            table.integer(record, "height", _PIXELS, 0),
            pose_rows.setdefault(table.link(record, "ego_pose_token"), len(pose_rows)),
        )
        for append, value in zip(appends, row):
            append(value)
        path = table.text(record, "filename")
        if "\\" in path:  # as converters on Windows write them
            path = path.replace("\\", "/")
        # Nearly all names pass the first check.
        if not path or path[0] == "/" or ".." in path:
            path = _checked_path(table, record, path, data_root, allow_outside)
        paths.append(path)
    arrays = {name: np.array(column, dtype=column.typecode) for name, column in columns.items()}
    arrays["is_key_frame"] = arrays["is_key_frame"].astype(bool)
    columns_read = SensorColumns(**arrays, path=paths)
    _check_key_frames(table, columns_read, sample_rows)
    return columns_read, pose_rows


def _check_channels(table: TableReader, names: set[str]) -> None:
    """Refuse names of sensors that are nuScenes' own but for their case: they would pass for others."""
    for name in sorted(names - set(CHANNELS)):
        meant = next((channel for channel in CHANNELS if channel.lower() == name.lower()), None)
        if meant is not None and meant not in names:
            raise DatasetError(f"the table {table.path} names the sensor {name!r}; expected {meant!r}: rename it.")


def _check_key_frames(table: TableReader, sensors: SensorColumns, sample_rows: Mapping[str, int]) -> None:
    """Refuse several key frames of one sensor in one sample: which of them is meant cannot be told."""
    keys = sensors.sample[sensors.is_key_frame].astype(np.int64) * len(CHANNELS) + sensors.channel[sensors.is_key_frame]
    values, counts = np.unique(keys, return_counts=True)
    twice = values[counts > 1]
    if len(twice):
        sample, channel = divmod(int(twice[0]), len(CHANNELS))
        token = next(token for token, row in sample_rows.items() if row == sample)
        raise DatasetError(
            f"the table {table.path} has several key frames of {CHANNELS[channel]} in {len(twice)} samples, such as "
            f"{token!r}; expected one: mend what made the table."
        )


_SENSOR_COLUMNS = ("channel", "sample", "is_key_frame", "calibration", "timestamp_us", "width", "height", "pose")


def read_poses(folder: Path, rows: Mapping[str, int]) -> tuple[NDArray[np.float64], list[str]]:
    """(R, 4, 4) global_from_ego of the poses that sensor files refer to, and what of them is worth a warning.

    Raises:
        DatasetError: the table is damaged, lacks a pose, or has one that is not a pose.
    """
    table = TableReader(folder, "ego_pose")
    kept, numbers = array("q"), array("d")
    for record in table:
        row = rows.get(table.token(record))
        if row is not None:
            kept.append(row)
            table.append_numbers(numbers, record, _POSE)
    if len(kept) > len(set(kept)):
        names = list(rows)
        table.rows([names[row] for row in kept])
    present = np.zeros(len(rows), dtype=bool)
    present[np.array(kept, dtype=np.int64)] = True
    if not present.all():
        absent = next(token for token, row in rows.items() if not present[row])
        raise TableReader(folder, "sample_data").no_record(absent, table.name)
    poses = np.empty((len(rows), 7))
    poses[np.array(kept, dtype=np.int64)] = np.array(numbers, dtype=np.float64).reshape(-1, 7)
    _check_poses(table, list(rows), poses)
    global_from_ego = rigid_transforms(rotations_from_quaternions(poses[:, 3:]), poses[:, :3])
    return global_from_ego, odd_lengths(poses[:, 3:], "ego poses")


_POSE = {"translation": 3, "rotation": 4}
_NO_POSE = (0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)


def _check_poses(table: TableReader, tokens: list[str], poses: NDArray[np.float64]) -> None:
    finite = np.isfinite(poses[:, :3]).all(axis=1)
    rotations = are_rotations(poses[:, 3:])
    if finite.all() and rotations.all():
        return
    row = int(np.argmin(finite & rotations))
    field, part = ("rotation", poses[row, 3:]) if finite[row] else ("translation", poses[row, :3])
    expected = "a quaternion (w, x, y, z) of length 1" if field == "rotation" else "three finite numbers (m)"
    wrong = int((~(finite & rotations)).sum())
    raise DatasetError(
        f"the table {table.path} has {wrong} poses that are none, such as the record {tokens[row]!r}: {field} is "
        f"{part.tolist()}, expected {expected}; mend what made the table, or unpack the metadata again."
    )


def _camera_matrix(table: TableReader, record: Record) -> NDArray[np.float64]:
    """3x3 intrinsics, checked: each error here would break training hours later, or bend every image."""
    rows, numbers = record.get("camera_intrinsic"), array("d")
    try:
        for values in rows or ():
            numbers.extend(values)
        matrix = np.array(numbers, dtype=np.float64).reshape(3, 3)
        usable = len(rows or ()) == 3 and np.isfinite(matrix).all() and matrix[2, 2] == 1 and not matrix[2, :2].any()
        usable = usable and min(matrix[0, 0], matrix[1, 1]) >= _SMALLEST_FOCAL_LENGTH_PX
        usable = usable and abs(np.linalg.det(matrix)) >= _SMALLEST_FOCAL_LENGTH_PX**2
    except (TypeError, ValueError, OverflowError):
        usable = False
    if not usable:
        raise table.wrong(record, "camera_intrinsic", "[[fx, s, cx], [0, fy, cy], [0, 0, 1]] in pixels")
    return matrix


def _checked_path(table: TableReader, record: Record, path: str, data_root: Path, allow_outside: bool) -> str:
    """A file name that is absolute or has '..': relative where it can be, refused where it may lead out of the root."""
    parts = PurePosixPath(path)
    if not path:
        raise table.wrong(record, "filename", "the name of a file")
    if allow_outside or (".." not in parts.parts and not parts.is_absolute()):
        return path
    for root in (data_root.absolute(), data_root.resolve()):
        if ".." not in parts.parts and parts.is_relative_to(root.as_posix()):
            return str(parts.relative_to(root.as_posix()))
    raise DatasetError(
        f"the table {table.path} names the file {path!r}, which leads out of the data root {data_root}, or may; give "
        "names relative to it, or go on with --allow-outside if that file is meant."
    )
