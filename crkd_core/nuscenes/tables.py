"""nuScenes' linked JSON tables as columns: what detection needs, links resolved to row numbers.

Only the records that are needed are kept: LiDAR and radar data, camera key frames, the poses these refer to, and the
annotations of the ten detection classes.
"""

from array import array
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crkd_core.config.classes import CAMERA_CHANNELS, LIDAR_CHANNEL, RADAR_CHANNELS
from crkd_core.errors import DatasetError
from crkd_core.nuscenes.classes import BICYCLE_RACK, detection_label
from crkd_core.nuscenes.json_stream import iterate_records
from crkd_core.nuscenes.notes import TableNotes
from crkd_core.nuscenes.poses import transforms
from crkd_core.nuscenes.velocity import box_velocities

CHANNELS: tuple[str, ...] = (*CAMERA_CHANNELS, LIDAR_CHANNEL, *RADAR_CHANNELS)
"""All channels; other columns refer to them by index."""
LIDAR_INDEX = CHANNELS.index(LIDAR_CHANNEL)


@dataclass(frozen=True)
class SceneRecord:
    """One scene of 20 seconds."""

    token: str
    name: str
    description: str
    location: str


@dataclass(frozen=True)
class SampleColumns:
    """Key frames, in the table's order: token, scene row, time stamp and the neighbours' tokens ('' at the ends)."""

    tokens: list[str]
    scene: NDArray[np.int32]
    timestamp_us: NDArray[np.int64]
    previous: list[str]
    following: list[str]


@dataclass(frozen=True)
class SensorColumns:
    """Kept rows of ``sample_data``.

    Attributes:
        channel: index into ``CHANNELS``.
        sample: row of the sample the record belongs to (for a sweep: the nearest one).
        calibration, pose: rows of :attr:`NuScenesTables.ego_from_sensor` and ``global_from_ego``.
        path: relative to the data root.
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
class AnnotationColumns:
    """Annotations of the ten detection classes, in the global frame, grouped by sample.

    Attributes:
        label: index into ``DETECTION_CLASSES``.
        rotation: quaternions (w, x, y, z); `velocity`: m/s, NaN where undefined.
        visibility: 1 to 4 (0 to 40, 60, 80, 100% visible), 0 where not given.
        attribute: name, '' where there is none.
    """

    token: list[str]
    instance: list[str]
    sample: NDArray[np.int32]
    label: NDArray[np.int8]
    translation: NDArray[np.float64]
    size_wlh: NDArray[np.float64]
    rotation: NDArray[np.float64]
    velocity: NDArray[np.float64]
    visibility: NDArray[np.int8]
    lidar_points: NDArray[np.int32]
    radar_points: NDArray[np.int32]
    attribute: list[str]


@dataclass(frozen=True)
class RackColumns:
    """Annotated bicycle racks, in the global frame: the benchmark leaves out the cycles that stand in one."""

    sample: NDArray[np.int32]
    translation: NDArray[np.float64]
    size_wlh: NDArray[np.float64]
    rotation: NDArray[np.float64]


@dataclass(frozen=True)
class NuScenesTables:
    """The tables of one version; see the classes of the columns.

    Attributes:
        ego_from_sensor, intrinsics: (K, 4, 4) and (K, 3, 3; zero for other sensors than cameras) of calibrated sensors.
        global_from_ego: (R, 4, 4) of the kept ego poses.
        other_annotations: how many annotations are of categories that are not detected.
        notes: what was left out, or is odd.
    """

    scenes: list[SceneRecord]
    samples: SampleColumns
    sensors: SensorColumns
    ego_from_sensor: NDArray[np.float64]
    intrinsics: NDArray[np.float64]
    global_from_ego: NDArray[np.float64]
    annotations: AnnotationColumns
    racks: RackColumns
    other_annotations: int
    notes: TableNotes = field(default_factory=TableNotes)


def read_tables(folder: Path) -> NuScenesTables:
    """Read the tables of a version folder.

    Raises:
        DatasetError: a table is missing or damaged, a record lacks a field, or refers to a record that is not there.
    """
    scenes, scene_rows = _read_scenes(folder)
    samples = _read_samples(folder, scene_rows)
    sample_rows = {token: row for row, token in enumerate(samples.tokens)}
    calibration_rows, channels, ego_from_sensor, intrinsics = _read_calibration(folder)
    sensors, pose_rows = _read_sensors(folder, sample_rows, calibration_rows, channels)
    global_from_ego = _read_poses(folder, pose_rows)
    annotations, racks, others = _read_annotations(folder, sample_rows, samples.timestamp_us)
    with _reading(folder, "visibility") as records:  # only its tokens are used, but the official metrics read it
        deque(records, maxlen=0)
    return NuScenesTables(
        scenes, samples, sensors, ego_from_sensor, intrinsics, global_from_ego, annotations, racks, others
    )


def _read_scenes(folder: Path) -> tuple[list[SceneRecord], dict[str, int]]:
    with _reading(folder, "log") as records:
        locations = {record["token"]: str(record.get("location", "")) for record in records}
    with _reading(folder, "scene") as records:
        scenes = [
            SceneRecord(
                record["token"],
                record["name"],
                record["description"],
                _find(locations, record["log_token"], "log", "scene"),
            )
            for record in records
        ]
    return scenes, {scene.token: row for row, scene in enumerate(scenes)}


def _read_samples(folder: Path, scene_rows: Mapping[str, int]) -> SampleColumns:
    tokens, previous, following, scene, timestamp = [], [], [], array("i"), array("q")
    with _reading(folder, "sample") as records:
        for record in records:
            tokens.append(record["token"])
            previous.append(record["prev"])
            following.append(record["next"])
            scene.append(_find(scene_rows, record["scene_token"], "scene", "sample"))
            timestamp.append(record["timestamp"])
    return SampleColumns(tokens, _numpy(scene, np.int32), _numpy(timestamp, np.int64), previous, following)


def _read_calibration(
    folder: Path,
) -> tuple[dict[str, int], list[int], NDArray[np.float64], NDArray[np.float64]]:
    """Rows by token, channel index by row (-1: a sensor that is not used), sensor poses and camera matrices."""
    with _reading(folder, "sensor") as records:
        channel_of = {record["token"]: record["channel"] for record in records}
    rows: dict[str, int] = {}
    channels, translations, quaternions, matrices = [], [], [], []
    with _reading(folder, "calibrated_sensor") as records:
        for record in records:
            channel = _find(channel_of, record["sensor_token"], "sensor", "calibrated_sensor")
            rows[record["token"]] = len(rows)
            channels.append(CHANNELS.index(channel) if channel in CHANNELS else -1)
            translations.append(record["translation"])
            quaternions.append(record["rotation"])
            matrices.append(record["camera_intrinsic"] or np.zeros((3, 3)))
        poses = transforms(_rows(translations, 3), _rows(quaternions, 4))
        return rows, channels, poses, np.asarray(matrices, dtype=np.float64).reshape(-1, 3, 3)


def _read_sensors(
    folder: Path, sample_rows: Mapping[str, int], calibration_rows: Mapping[str, int], channels: list[int]
) -> tuple[SensorColumns, dict[str, int]]:
    columns = {name: array(kind) for name, kind in zip(_SENSOR_COLUMNS, "bibiqiiq", strict=True)}
    paths: list[str] = []
    pose_rows: dict[str, int] = {}
    with _reading(folder, "sample_data") as records:
        for record in records:
            calibration = _find(calibration_rows, record["calibrated_sensor_token"], "calibrated_sensor", "sample_data")
            channel = channels[calibration]
            key_frame = record["is_key_frame"]
            if channel < 0 or (channel < LIDAR_INDEX and not key_frame):
                continue
            pose = pose_rows.setdefault(record["ego_pose_token"], len(pose_rows))
            sample = _find(sample_rows, record["sample_token"], "sample", "sample_data")
            width, height = record.get("width") or 0, record.get("height") or 0
            row = (channel, sample, key_frame, calibration, record["timestamp"], width, height, pose)
            for column, value in zip(columns.values(), row, strict=True):
                column.append(value)
            paths.append(record["filename"])
    arrays = {name: np.frombuffer(column, dtype=column.typecode) for name, column in columns.items() if column}
    arrays = arrays or {name: np.zeros(0, column.typecode) for name, column in columns.items()}
    arrays["is_key_frame"] = arrays["is_key_frame"].astype(bool)
    return SensorColumns(**arrays, path=paths), pose_rows


_SENSOR_COLUMNS = (
    "channel",
    "sample",
    "is_key_frame",
    "calibration",
    "timestamp_us",
    "width",
    "height",
    "pose",
)


def _read_poses(folder: Path, rows: Mapping[str, int]) -> NDArray[np.float64]:
    values = np.full((len(rows), 7), np.nan)
    with _reading(folder, "ego_pose") as records:
        for record in records:
            row = rows.get(record["token"])
            if row is not None:
                values[row, :3] = record["translation"]
                values[row, 3:] = record["rotation"]
    absent = np.isnan(values).any(axis=1)
    if absent.any():
        token = next(token for token, row in rows.items() if absent[row])
        raise _no_record(token, "ego_pose", "sample_data")
    return transforms(values[:, :3], values[:, 3:])


def _read_annotations(
    folder: Path, sample_rows: Mapping[str, int], sample_timestamps_us: NDArray[np.int64]
) -> tuple[AnnotationColumns, RackColumns, int]:
    labels, racks, attributes = _read_instance_labels(folder)
    tokens, instances, names, previous, following = [], [], [], [], []
    counts = {name: array("i") for name in ("sample", "label", "visibility", "lidar_points", "radar_points")}
    boxes, rack_boxes, rack_samples = array("d"), array("d"), array("i")
    others = 0
    with _reading(folder, "sample_annotation") as records:
        for record in records:
            label = _find(labels, record["instance_token"], "instance", "sample_annotation")
            if label is None:
                others += 1
                if record["instance_token"] in racks:
                    rack_samples.append(_find(sample_rows, record["sample_token"], "sample", "sample_annotation"))
                    rack_boxes.extend(_box_numbers(record))
                continue
            tokens.append(record["token"])
            instances.append(record["instance_token"])
            previous.append(record["prev"])
            following.append(record["next"])
            first = record["attribute_tokens"][:1]
            names.append(_find(attributes, first[0], "attribute", "sample_annotation") if first else "")
            counts["sample"].append(_find(sample_rows, record["sample_token"], "sample", "sample_annotation"))
            counts["label"].append(label)
            visibility = record.get("visibility_token") or "0"
            counts["visibility"].append(int(visibility) if visibility.isdigit() else 0)
            counts["lidar_points"].append(record["num_lidar_pts"])
            counts["radar_points"].append(record["num_radar_pts"])
            boxes.extend(_box_numbers(record))
    numbers = {name: _numpy(column, np.int32) for name, column in counts.items()}
    geometry = _numpy(boxes, np.float64).reshape(-1, 10)
    rack = _numpy(rack_boxes, np.float64).reshape(-1, 10)
    rows = {token: row for row, token in enumerate(tokens)}
    links = [_links(rows, column) for column in (previous, following)]
    velocity = box_velocities(geometry[:, :3], sample_timestamps_us[numbers["sample"]], *links)
    order = np.argsort(numbers["sample"], kind="stable")
    return (
        AnnotationColumns(
            token=[tokens[row] for row in order],
            instance=[instances[row] for row in order],
            sample=numbers["sample"][order],
            label=numbers["label"][order].astype(np.int8),
            translation=geometry[order, :3],
            size_wlh=geometry[order, 3:6],
            rotation=geometry[order, 6:],
            velocity=velocity[order],
            visibility=numbers["visibility"][order].astype(np.int8),
            lidar_points=numbers["lidar_points"][order],
            radar_points=numbers["radar_points"][order],
            attribute=[names[row] for row in order],
        ),
        RackColumns(_numpy(rack_samples, np.int32), rack[:, :3], rack[:, 3:6], rack[:, 6:]),
        others,
    )


def _box_numbers(record: Mapping[str, Any]) -> tuple[float, ...]:
    numbers = (*record["translation"], *record["size"], *record["rotation"])
    if len(numbers) != 10:
        raise ValueError(f"annotation {record['token']} has {len(numbers)} numbers for its box instead of 10")
    return numbers


def _read_instance_labels(folder: Path) -> tuple[dict[str, int | None], set[str], dict[str, str]]:
    """Class index of every instance (None: not detected), the bicycle racks, and attribute names by token."""
    with _reading(folder, "category") as records:
        names = {record["token"]: record["name"] for record in records}
        categories = {token: detection_label(name) for token, name in names.items()}
    with _reading(folder, "attribute") as records:
        attributes = {record["token"]: record["name"] for record in records}
    labels, racks = {}, set()
    with _reading(folder, "instance") as records:
        for record in records:
            labels[record["token"]] = _find(categories, record["category_token"], "category", "instance")
            if names[record["category_token"]] == BICYCLE_RACK:
                racks.add(record["token"])
    return labels, racks, attributes


def _links(rows: Mapping[str, int], tokens: list[str]) -> NDArray[np.int64]:
    linked = np.full(len(tokens), -1, dtype=np.int64)
    for position, token in enumerate(tokens):
        if token:
            linked[position] = _find(rows, token, "sample_annotation", "sample_annotation")
    return linked


@contextmanager
def _reading(folder: Path, table: str) -> Iterator[Iterator[dict[str, Any]]]:
    path = folder / f"{table}.json"
    try:
        yield iterate_records(path)
    except KeyError as error:
        raise DatasetError(
            f"the table {path} is damaged: a record lacks the field {error}; unpack the metadata again."
        ) from None
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DatasetError(
            f"the table {path} is damaged: a record has a value of another kind ({error}); unpack the metadata again."
        ) from None


def _find(index: Mapping[str, Any], token: str, table: str, source: str) -> Any:
    try:
        return index[token]
    except KeyError:
        raise _no_record(token, table, source) from None


def _no_record(token: str, table: str, source: str) -> DatasetError:
    return DatasetError(
        f"{table}.json has no record with the token {token!r}, which a record of {source}.json refers to; "
        "the tables do not belong together or are incomplete: unpack the metadata archive again."
    )


def _numpy(column: array, dtype: type) -> NDArray:
    return np.array(column, dtype=dtype)


def _rows(values: list, width: int) -> NDArray[np.float64]:
    return np.asarray(values, dtype=np.float64).reshape(-1, width)
