"""What no honest rig measures: wrong frames, units, orders of numbers and clocks that a reader takes without a word.

Each function gives sentences for the data report, none where all is well. The limits are far from anything that a car
with sensors, or the things around it, could be; they are crossed by mistakes of whoever wrote the tables.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from crkd_core.artifacts.tables import numbers_of
from crkd_core.config.classes import CAMERA_CHANNELS, DETECTION_CLASSES
from crkd_core.datasets.nuscenes.annotations import AnnotationColumns
from crkd_core.datasets.nuscenes.categories import attributes_of
from crkd_core.datasets.nuscenes.lidar import read_lidar
from crkd_core.datasets.nuscenes.nuscenes_tables import CHANNELS, LIDAR_INDEX, NuScenesTables
from crkd_core.datasets.nuscenes.survey import Survey, first_lidar_samples
from crkd_core.datasets.prepared import preparing
from crkd_core.geometry.transforms import rotations_from_quaternions
from crkd_core.progress import format_count

FARTHEST_M = 150.0
"""Half of a scene's boxes are nearer to the car: nothing farther away can be annotated from LiDAR or images."""
FARTHEST_SENSOR_M = 10.0
LONGEST_OFFSET_S = 1.0
CAR_LENGTH_M = (1.0, 12.0)
LONGEST_MEDIAN_RANGE_M = 400.0
_UPRIGHT = 0.85
"""Cosine of the steepest tilt (32 degrees) of a car or box."""
_TILTED_SHARE = 0.05
_HORIZONTAL = 0.707
_SIDEWAYS = 0.5
_LOWEST_LIDAR_M = -1.0
_FARTHEST_POSES_M = 10.0
_INTENSITY_COLUMNS = 4
_LOOKED_AT = 8
_FEWEST_BOXES, _POINTS_INSIDE, _MARGIN_M = 10, 5, 0.2
_LONGER_THAN_WIDE = ("car", "truck", "bus", "trailer")
_NAMED = 3
_AT_ONCE = 1 << 13


def implausible(survey: Survey, written: Mapping[str, pa.Table]) -> list[str]:
    """What of a data set can hardly be so, one sentence each.

    Args:
        written: tables of the prepared data set by file name.
    """
    tables, annotations = survey.source.tables, written[preparing.ANNOTATIONS]
    boxes, sample = numbers_of(annotations["box"]), numbers_of(annotations["sample"])
    scenes = np.array(written[preparing.SAMPLES]["scene_name"].to_pylist(), dtype=object)
    used = np.unique(tables.sensors.calibration)
    return [
        *far_boxes(boxes[:, :3], scenes[sample].tolist()),
        *tilted_boxes(tables.annotations.rotation),
        *tilted_car(tables.global_from_ego),
        *mounting(_channels_of_calibrations(tables)[used], tables.ego_from_sensor[used]),
        *sizes(tables.annotations.label, tables.annotations.size_wlh),
        *clocks(tables),
        *scattered_poses(tables),
        *shared_files(tables),
        *repeated_instances(tables.annotations),
        *foreign_attributes(tables.annotations),
        *_lidar(survey, written),
    ]


def far_boxes(centres: NDArray[np.float64], scenes: Sequence[str]) -> Iterator[str]:
    """Boxes that are not around the car.

    Args:
        centres: (N, 3) in the LiDAR frame of their key frame.
        scenes: of every box.
    """
    distance = np.linalg.norm(centres, axis=1)
    names = sorted(set(scenes))
    number = {name: row for row, name in enumerate(names)}
    index = np.array([number[name] for name in scenes], dtype=np.int64)
    order, ends = np.argsort(index, kind="stable"), np.cumsum(np.bincount(index, minlength=len(names)))
    medians = np.array([np.median(part) for part in np.split(distance[order], ends[:-1])] if names else [])
    far = medians > FARTHEST_M
    if far.any():
        yield (
            f"the boxes of {far.sum()} of {len(names)} scenes (such as {names[far.argmax()]}) are {medians.max():,.0f} "
            "m from the car: are sample_annotation and ego_pose in the same global frame, and in metres?"
        )


def tilted_boxes(quaternions: NDArray[np.float64]) -> Iterator[str]:
    """Boxes that do not stand upright; (N, 4) rotations in the global frame."""
    parts = [quaternions[start : start + _AT_ONCE] for start in range(0, len(quaternions), _AT_ONCE)]
    tilted = np.concatenate([np.zeros(0, dtype=bool), *(_tilted(rotations_from_quaternions(part)) for part in parts)])
    if tilted.sum() > _TILTED_SHARE * len(tilted):
        yield (
            f"{tilted.sum()} of {len(tilted)} boxes do not stand upright: are their rotations x, y, z, w instead of "
            "w, x, y, z?"
        )


def tilted_car(global_from_ego: NDArray[np.float64]) -> Iterator[str]:
    """Poses in which the car does not stand on its wheels."""
    tilted = _tilted(global_from_ego)
    if tilted.sum() > _TILTED_SHARE * len(tilted):
        yield (
            f"the car does not stand upright in {tilted.sum()} of {len(tilted)} ego poses: are their rotations "
            "x, y, z, w instead of w, x, y, z?"
        )


def mounting(channels: NDArray[np.int64], ego_from_sensor: NDArray[np.float64]) -> Iterator[str]:
    """Sensors that cannot be mounted so; `channels` are indices into ``CHANNELS``."""
    far, turned, low = Counter[str](), Counter[str](), Counter[str]()
    farthest = 0.0
    for channel, pose in zip(channels.tolist(), ego_from_sensor):
        name, rotation, distance = CHANNELS[channel], pose[:3, :3], float(np.linalg.norm(pose[:3, 3]))
        if distance > FARTHEST_SENSOR_M:
            far[name] += 1
            farthest = max(farthest, distance)
        if channel < len(CAMERA_CHANNELS):
            wrong = abs(rotation[2, 2]) > _HORIZONTAL or rotation[2, 1] > -_SIDEWAYS
        elif channel == LIDAR_INDEX:
            wrong = rotation[2, 2] < _SIDEWAYS
            low[name] += bool(pose[2, 3] < _LOWEST_LIDAR_M)
        else:
            # A radar may be mounted upside down.
            wrong = abs(rotation[2, 2]) < _SIDEWAYS
        turned[name] += bool(wrong)
    if far:
        yield (
            f"{_some(far)} up to {farthest:,.0f} m from the car's origin: is translation in calibrated_sensor.json in "
            "metres, sensor to car?"
        )
    if +turned:
        yield (
            f"{_some(+turned)} turned to the sky, the ground or the side: check rotation in calibrated_sensor.json "
            "(w, x, y, z, sensor to car)"
        )
    if +low:
        yield f"{_some(+low)} below the car: is its calibrated_sensor car to sensor instead of sensor to car?"


def sizes(label: NDArray[np.int8], size_wlh: NDArray[np.float64]) -> Iterator[str]:
    """Sizes in another order or unit."""
    longer = np.isin(label, [DETECTION_CLASSES.index(name) for name in _LONGER_THAN_WIDE])
    width, length, height = size_wlh[longer].T
    wide = np.maximum(width, height) > length
    if 2 * wide.sum() > len(wide):
        yield (f"{wide.sum()} of {len(wide)} vehicles are wider or higher than long: size is width, length, height")
        return
    cars = size_wlh[label == DETECTION_CLASSES.index("car")]
    low, high = CAR_LENGTH_M
    if len(cars) and not low <= (median := float(np.median(cars[:, 1]))) <= high:
        yield f"a car is {median:.3g} m long (median): is size in metres?"


def clocks(tables: NuScenesTables) -> Iterator[str]:
    """Sensors whose key frames are at another time than their samples."""
    sensors, offsets = tables.sensors, {}
    for channel, name in enumerate(CHANNELS):
        rows = np.flatnonzero((sensors.channel == channel) & sensors.is_key_frame)
        if len(rows):
            late_us = sensors.timestamp_us[rows] - tables.samples.timestamp_us[sensors.sample[rows]]
            offset = float(np.median(late_us)) * 1e-6
            if abs(offset) > LONGEST_OFFSET_S:
                offsets[name] = offset
    if offsets:
        longest = max(offsets.values(), key=abs)
        yield (
            f"{_some(offsets)} up to {abs(longest):,.0f} s {'after' if longest > 0 else 'before'} the key frames "
            "(sample.json): check its clock or the time zone"
        )


def scattered_poses(tables: NuScenesTables) -> Iterator[str]:
    """Sensors that place the car elsewhere than the LiDAR does in the same key frame."""
    sensors = tables.sensors
    key = np.full(len(tables.samples.tokens), -1, dtype=np.int64)
    lidar = np.flatnonzero((sensors.channel == LIDAR_INDEX) & sensors.is_key_frame)
    key[sensors.sample[lidar]] = lidar
    position, apart = tables.global_from_ego[:, :3, 3], {}
    for channel, name in enumerate(CHANNELS):
        rows = np.flatnonzero((sensors.channel == channel) & sensors.is_key_frame & (key[sensors.sample] >= 0))
        if len(rows):
            steps = position[sensors.pose[rows]] - position[sensors.pose[key[sensors.sample[rows]]]]
            distance = float(np.median(np.linalg.norm(steps, axis=1)))
            if distance > _FARTHEST_POSES_M:
                apart[name] = distance
    if apart:
        yield (
            f"{_some(apart)} up to {max(apart.values()):,.0f} m from the LiDAR by the ego poses of their key frames: "
            "check ego_pose and ego_pose_token"
        )


def shared_files(tables: NuScenesTables) -> Iterator[str]:
    """Key frames that are of one file."""
    rows = np.flatnonzero(tables.sensors.is_key_frame)
    hashes = np.fromiter(map(hash, tables.sensors.path.each(rows)), np.int64, len(rows))
    if len(np.unique(hashes)) == len(hashes):
        return
    paths = tables.sensors.path.take(rows).dictionary_encode()
    counts = np.bincount(paths.indices.to_numpy(), minlength=len(paths.dictionary))
    shared = np.flatnonzero(counts > 1)
    if len(shared):
        yield (
            f"{counts[shared].sum()} key-frame records of sample_data share {len(shared)} file names, such as "
            f"{paths.dictionary[int(shared[0])]}"
        )


def repeated_instances(annotations: AnnotationColumns) -> Iterator[str]:
    """Objects that are in two places at once."""
    numbers = {instance: number for number, instance in enumerate(dict.fromkeys(annotations.instance))}
    instance = np.array([numbers[name] for name in annotations.instance], dtype=np.int64)
    pairs = np.unique(instance * (int(annotations.sample.max(initial=0)) + 1) + annotations.sample)
    if repeated := len(instance) - len(pairs):
        annotated = format_count(repeated, "annotation is", "annotations are")
        yield f"{annotated} of an instance that has another one in the same sample"


def foreign_attributes(annotations: AnnotationColumns) -> Iterator[str]:
    """Attributes of another kind than the class."""
    kinds = [frozenset(("", *attributes_of(name))) for name in DETECTION_CLASSES]
    wrong = Counter(
        (label, attribute)
        for label, attribute in zip(annotations.label.tolist(), annotations.attribute)
        if attribute not in kinds[label]
    )
    if wrong:
        (label, attribute), _ = wrong.most_common(1)[0]
        boxes = format_count(wrong.total(), "box has", "boxes have")
        yield (
            f"{boxes} an attribute of another kind than the class, such as {attribute} of a {DETECTION_CLASSES[label]}"
        )


def measured(points: NDArray[np.float32], has_intensity: bool) -> Iterator[str]:
    """Ranges and intensities of the (P, 5) points of some sweeps."""
    if not len(points):
        return
    median = float(np.median(np.linalg.norm(points[:, :3], axis=1)))
    if median > LONGEST_MEDIAN_RANGE_M:
        yield (f"LiDAR points are {median:,.0f} m away (median): are x, y and z in metres, in the frame of the sensor?")
    if has_intensity and points[:, 3].max() <= 1:
        yield f"no LiDAR intensity is above {points[:, 3].max():.3g}; those of nuScenes go from 0 to 255"


def points_inside(boxes: NDArray[np.float64], points: NDArray[np.float32]) -> NDArray[np.int64]:
    """(N,) how many (P, 3 or more) points are in each of (N, 7 or more) boxes: centre, w, l, h, yaw."""
    inside = np.zeros(len(boxes), dtype=np.int64)
    for row, (x, y, z, width, length, height, yaw) in enumerate(boxes[:, :7].tolist()):
        east, north, up = points[:, 0] - x, points[:, 1] - y, points[:, 2] - z
        along, across = np.cos(yaw) * east + np.sin(yaw) * north, np.cos(yaw) * north - np.sin(yaw) * east
        inside[row] = np.count_nonzero(
            (np.abs(along) < length / 2 + _MARGIN_M)
            & (np.abs(across) < width / 2 + _MARGIN_M)
            & (np.abs(up) < height / 2 + _MARGIN_M)
        )
    return inside


def empty_boxes(recorded: NDArray[np.int32], inside: NDArray[np.int64]) -> Iterator[str]:
    """Boxes where the LiDAR saw nothing although the tables say that it did; (N,) numbers of points."""
    full = recorded >= _POINTS_INSIDE
    empty = full & (inside == 0)
    if full.sum() >= _FEWEST_BOXES and 2 * empty.sum() > full.sum():
        yield (
            f"{empty.sum()} of {full.sum()} boxes hold no LiDAR point where the tables count some: check the frames of "
            "sample_annotation, ego_pose, calibrated_sensor and the LiDAR files"
        )


def _lidar(survey: Survey, written: Mapping[str, pa.Table]) -> Iterator[str]:
    """What the points of some key frames tell, alone and of the boxes."""
    source, annotations = survey.source, written[preparing.ANNOTATIONS]
    samples = first_lidar_samples(source.tables, survey.files)
    samples = samples[survey.kept[samples]]
    samples = samples[:: max(1, len(samples) // _LOOKED_AT)][:_LOOKED_AT]
    if not len(samples):
        return
    row_of = {token: row for row, token in enumerate(written[preparing.SAMPLES]["token"].to_pylist())}
    boxes, sample = numbers_of(annotations["box"]), numbers_of(annotations["sample"])
    recorded = numbers_of(annotations["lidar_points"])
    sweeps, counts, inside = [], [], []
    for row in samples.tolist():
        path = source.dataroot / source.tables.sensors.path[survey.files.lidar[row, 0]]
        sweeps.append(read_lidar(path, survey.lidar_columns))
        own = (sample == row_of[source.tables.samples.tokens[row]]) & (recorded >= _POINTS_INSIDE)
        counts.append(recorded[own])
        inside.append(points_inside(boxes[own], sweeps[-1]))
    yield from measured(np.concatenate(sweeps), survey.lidar_columns >= _INTENSITY_COLUMNS)
    yield from empty_boxes(np.concatenate(counts), np.concatenate(inside))


def _channels_of_calibrations(tables: NuScenesTables) -> NDArray[np.int64]:
    channels = np.zeros(len(tables.ego_from_sensor), dtype=np.int64)
    channels[tables.sensors.calibration] = tables.sensors.channel
    return channels


def _tilted(rotation: NDArray[np.float64]) -> NDArray[np.bool_]:
    return rotation[:, 2, 2] < _UPRIGHT


def _some(channels: Iterable[str]) -> str:
    """Some of the sensors, with a verb."""
    names = list(channels)
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "") + (" is" if len(names) == 1 else " are")
