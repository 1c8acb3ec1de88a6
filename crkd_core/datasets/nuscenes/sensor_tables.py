"""The tables of sensors, their calibration, their files (``sample_data``) and the poses of the car."""

from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import compress
from pathlib import Path, PurePosixPath

import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from crkd_core.config.classes import CAMERA_CHANNELS, LIDAR_CHANNEL, RADAR_CHANNELS
from crkd_core.datasets.nuscenes.growing_column import GrowingColumn
from crkd_core.datasets.nuscenes.poses import are_rotations, odd_lengths
from crkd_core.datasets.nuscenes.records import TableReader
from crkd_core.datasets.nuscenes.table_records import CalibrationRecord, PoseRecord, SampleDataRecord, SensorRecord
from crkd_core.datasets.nuscenes.text_column import TextColumn
from crkd_core.datasets.nuscenes.token_keys import KeyIndex, token_keys
from crkd_core.errors import DatasetError
from crkd_core.geometry.transforms import rigid_transforms, rotations_from_quaternions

CHANNELS: tuple[str, ...] = (*CAMERA_CHANNELS, LIDAR_CHANNEL, *RADAR_CHANNELS)
"""All channels; other columns refer to them by index."""
LIDAR_INDEX = CHANNELS.index(LIDAR_CHANNEL)

_SampleData = TableReader[SampleDataRecord]
_AT_ONCE = 1 << 13
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
    path: TextColumn


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
    sensors = TableReader(folder, "sensor", SensorRecord)
    channel_of = sensors.index(lambda record: sensors.text(record, "channel"))
    _check_channels(sensors, set(channel_of.values()))
    table = TableReader(folder, "calibrated_sensor", CalibrationRecord)
    tokens, channels, poses, matrices = [], [], [np.empty((0, 7))], []
    for record in table:
        name = table.find(channel_of, record, "sensor_token", "sensor")
        channel = CHANNELS.index(name) if name in CHANNELS else -1
        tokens.append(table.token(record))
        channels.append(channel)
        poses.append(np.array([_NO_POSE]) if channel < 0 else table.numbers([record], _POSE))
        matrices.append(_camera_matrix(table, record) if 0 <= channel < LIDAR_INDEX else np.zeros((3, 3)))
    numbers = np.concatenate(poses)
    _check_poses(table, numbers, tokens.__getitem__)
    return Calibration(
        table.rows(tokens),
        channels,
        rigid_transforms(rotations_from_quaternions(numbers[:, 3:]), numbers[:, :3]),
        np.array(matrices, dtype=np.float64).reshape(-1, 3, 3),
        odd_lengths(numbers[:, 3:], "calibrated sensors"),
    )


def read_sensors(
    folder: Path, sample_rows: Mapping[str, int], calibration: Calibration, allow_outside: bool
) -> tuple[SensorColumns, KeyIndex]:
    """The files of LiDAR and radar, and of camera key frames, and the rows that their poses get.

    Args:
        allow_outside: take file names that lead out of the data root as they are.
    """
    table = TableReader(folder, "sample_data", SampleDataRecord)
    channels = np.array(calibration.channel, dtype=np.int8)
    growing = {name: GrowingColumn(kind) for name, kind in _SENSOR_COLUMNS.items()}
    keys, paths = GrowingColumn(np.uint64, width=2), TextColumn()
    for batch in table.batches():
        calibrated = table.find_rows(calibration.rows, batch, "calibrated_sensor_token", "calibrated_sensor")
        key_frame = table.flags(batch, "is_key_frame")
        channel = channels[calibrated]
        used = (channel >= LIDAR_INDEX) | ((channel >= 0) & key_frame)
        kept = list(compress(batch, used.tolist()))
        columns: dict[str, NDArray] = {
            "channel": channel[used],
            "sample": table.find_rows(sample_rows, kept, "sample_token", "sample"),
            "is_key_frame": key_frame[used],
            "calibration": calibrated[used],
            "timestamp_us": table.timestamps_us(kept),
            "width": table.integers(kept, "width", _PIXELS, 0),
            "height": table.integers(kept, "height", _PIXELS, 0),
        }
        for name, column in columns.items():
            growing[name].extend(column)
        keys.extend(token_keys(table.links(kept, "ego_pose_token")))
        paths.extend(_paths(table, kept, folder.parent, allow_outside))
    all_keys = keys.finish()
    first, pose = KeyIndex(all_keys).numbered()
    arrays = {name: column.finish() for name, column in growing.items()}
    sensors = SensorColumns(**arrays, pose=pose, path=paths)
    _check_key_frames(table, sensors, sample_rows)
    return sensors, KeyIndex(all_keys[first])


def _paths(table: _SampleData, records: list[SampleDataRecord], data_root: Path, allow_outside: bool) -> list[str]:
    """File names, relative to the data root where they can be."""
    paths = table.texts(records, "filename")
    joined = "\n".join(("", *paths, "."))
    # Nearly always, no name is empty, absolute, has '..' or is as converters on Windows write them.
    if not any(sign in joined for sign in ("\n\n", "\n/", "..", "\\")) or not records:
        return paths
    paths = [path.replace("\\", "/") for path in paths]
    return [
        _checked_path(table, record, path, data_root, allow_outside)
        if not path or path[0] == "/" or ".." in path
        else path
        for record, path in zip(records, paths)
    ]


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


_SENSOR_COLUMNS = {
    "channel": np.int8, "sample": np.int32, "is_key_frame": np.bool_, "calibration": np.int32, "timestamp_us": np.int64,
    "width": np.int32, "height": np.int32,
}  # fmt: skip


def read_poses(folder: Path, index: KeyIndex) -> tuple[NDArray[np.float64], list[str]]:
    """(R, 4, 4) global_from_ego of the poses that sensor files refer to, and what of them is worth a warning.

    Args:
        index: rows of the poses by the keys of their tokens.

    Raises:
        DatasetError: the table is damaged, lacks a pose, or has one that is not a pose.
    """
    table = TableReader(folder, "ego_pose", PoseRecord)
    poses, present = np.empty((len(index), 7)), np.zeros(len(index), dtype=bool)
    for batch in table.batches():
        tokens = table.own_tokens(batch)
        row = index.rows(token_keys(tokens))
        used = row >= 0
        rows = row[used]
        if present[rows].any() or len(np.unique(rows)) < len(rows):
            rows, counts = np.unique(rows, return_counts=True)
            repeated = rows[present[rows] | (counts > 1)][0]
            raise table.repeated(tokens[int((row == repeated).argmax())])
        present[rows] = True
        poses[rows] = table.numbers(list(compress(batch, used.tolist())), _POSE)
    if not present.all():
        absent = TableReader(folder, "sample_data", SampleDataRecord)
        key = index.keys()[int(np.argmin(present))]
        raise absent.no_record(absent.find_token("ego_pose_token", key), table.name)
    _check_poses(table, poses, lambda row: table.find_token("token", index.keys()[row]))
    global_from_ego = np.empty((len(poses), 4, 4))
    for start in range(0, len(poses), _AT_ONCE):
        part = poses[start : start + _AT_ONCE]
        global_from_ego[start : start + _AT_ONCE] = rigid_transforms(
            rotations_from_quaternions(part[:, 3:]), part[:, :3]
        )
    return global_from_ego, odd_lengths(poses[:, 3:], "ego poses")


_POSE = {"translation": 3, "rotation": 4}
_NO_POSE = (0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)


def _check_poses(table: TableReader, poses: NDArray[np.float64], token_of: Callable[[int], str]) -> None:
    finite = np.isfinite(poses[:, :3]).all(axis=1)
    rotations = are_rotations(poses[:, 3:])
    if finite.all() and rotations.all():
        return
    row = int(np.argmin(finite & rotations))
    field, part = ("rotation", poses[row, 3:]) if finite[row] else ("translation", poses[row, :3])
    expected = "a quaternion (w, x, y, z) of length 1" if field == "rotation" else "three finite numbers (m)"
    wrong = int((~(finite & rotations)).sum())
    raise DatasetError(
        f"the table {table.path} has {wrong} poses that are none, such as the record {token_of(row)!r}: {field} is "
        f"{part.tolist()}, expected {expected}; mend what made the table, or unpack the metadata again."
    )


def _camera_matrix(table: TableReader[CalibrationRecord], record: CalibrationRecord) -> NDArray[np.float64]:
    """3x3 intrinsics, checked: each error here would break training hours later, or bend every image."""
    rows, numbers = record.camera_intrinsic, array("d")
    rows = () if rows is UNSET else rows
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


def _checked_path(table: _SampleData, record: SampleDataRecord, path: str, data_root: Path, allow_outside: bool) -> str:
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
