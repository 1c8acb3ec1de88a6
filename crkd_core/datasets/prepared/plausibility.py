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
from crkd_core.config.description import DatasetDescription
from crkd_core.datasets.nuscenes.annotations import AnnotationColumns
from crkd_core.datasets.nuscenes.channels import SensorChannels
from crkd_core.datasets.nuscenes.lidar import read_lidar
from crkd_core.datasets.nuscenes.nuscenes_tables import NuScenesTables
from crkd_core.datasets.nuscenes.survey import Survey, first_lidar_samples
from crkd_core.datasets.nuscenes.sweeps import lidar_from_sensor
from crkd_core.datasets.prepared import preparing
from crkd_core.geometry.transforms import rotations_from_quaternions, transform_points
from crkd_core.progress import format_count

FARTHEST_M = 150.0
"""Half of a scene's boxes are nearer to the car: nothing farther away can be annotated from LiDAR or images."""
FARTHEST_SENSOR_M = 20.0
"""A truck and its trailer are no longer than that."""
LONGEST_OFFSET_S = 1.0
LONGEST_MEDIAN_RANGE_M = 400.0
_UPRIGHT = 0.85
"""Cosine of the steepest tilt (32 degrees) of a car or box."""
_TILTED_SHARE = 0.05
_HORIZONTAL = 0.707
_SIDEWAYS = 0.5
_LOWEST_LIDAR_M = -1.0
_FARTHEST_POSES_M = 10.0
_SHORTEST_DRIVE_M = 0.5
_INTENSITY_COLUMNS = 4
_LOOKED_AT = 8
_FEWEST_BOXES, _POINTS_INSIDE, _MARGIN_M = 10, 5, 0.2
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
        *mounting(tables.channels, _channels_of_calibrations(tables)[used], tables.ego_from_sensor[used]),
        *sizes(tables.description, tables.annotations.label, tables.annotations.size_wlh),
        *clocks(tables),
        *scattered_poses(tables),
        *repeated_poses(tables),
        *shared_files(tables),
        *repeated_instances(tables.annotations),
        *foreign_attributes(tables.description, tables.annotations),
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


def mounting(
    channels: SensorChannels, numbers: NDArray[np.int64], ego_from_sensor: NDArray[np.float64]
) -> Iterator[str]:
    """Sensors that cannot be mounted so; (N,) `numbers` and (N, 4, 4) poses."""
    far, turned, low = Counter[str](), Counter[str](), Counter[str]()
    farthest = 0.0
    for number, pose in zip(numbers.tolist(), ego_from_sensor):
        name, rotation, distance = channels.names[number], pose[:3, :3], float(np.linalg.norm(pose[:3, 3]))
        if distance > FARTHEST_SENSOR_M:
            far[name] += 1
            farthest = max(farthest, distance)
        if channels.is_camera(number):
            wrong = abs(rotation[2, 2]) > _HORIZONTAL or rotation[2, 1] > -_SIDEWAYS
        elif number in channels.lidar_numbers:
            # Others than the reference may look down at what is beside the car.
            wrong = number == channels.reference_number and rotation[2, 2] < _SIDEWAYS
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


def sizes(description: DatasetDescription, label: NDArray[np.int8], size_wlh: NDArray[np.float64]) -> Iterator[str]:
    """Sizes in another order or unit."""
    classes = list(description.classes.items())
    longer = np.isin(label, [number for number, (_, entry) in enumerate(classes) if entry.longer_than_wide])
    width, length, height = size_wlh[longer].T
    wide = np.maximum(width, height) > length
    if 2 * wide.sum() > len(wide):
        yield (f"{wide.sum()} of {len(wide)} vehicles are wider or higher than long: size is width, length, height")
        return
    for number, (name, entry) in enumerate(classes):
        lengths = size_wlh[label == number, 1]
        if entry.plausible_length_m is None or not len(lengths):
            continue
        low, high = entry.plausible_length_m
        if not low <= (median := float(np.median(lengths))) <= high:
            yield f"a {name} is {median:.3g} m long (median): is size in metres?"


def clocks(tables: NuScenesTables) -> Iterator[str]:
    """Sensors whose key frames are at another time than their samples."""
    sensors, offsets = tables.sensors, {}
    for channel, name in enumerate(tables.channels.names):
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
    sensors, key = tables.sensors, _reference_keys(tables)
    position, apart = tables.global_from_ego[:, :3, 3], {}
    for channel, name in enumerate(tables.channels.names):
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


def repeated_poses(tables: NuScenesTables) -> Iterator[str]:
    """Sweeps with the ego pose of another time, so that the motion of the car is not taken out of them."""
    sensors, position = tables.sensors, tables.global_from_ego[:, :3, 3]
    rows = np.flatnonzero(sensors.channel >= len(tables.channels.cameras))
    scene = tables.samples.scene[sensors.sample[rows]]
    rows = rows[np.lexsort((sensors.timestamp_us[rows], scene, sensors.channel[rows]))]
    first, second = rows[:-1], rows[1:]
    follows = (
        (sensors.channel[first] == sensors.channel[second])
        & (tables.samples.scene[sensors.sample[first]] == tables.samples.scene[sensors.sample[second]])
        & (sensors.timestamp_us[first] < sensors.timestamp_us[second])
        & _is_driving(tables)[sensors.sample[second]]
    )
    first, second = sensors.pose[first[follows]], sensors.pose[second[follows]]
    repeated = (first == second) | (position[first] == position[second]).all(axis=1)
    if 2 * repeated.sum() > len(repeated):
        yield (
            f"{repeated.sum()} of {len(repeated)} LiDAR and radar files have the ego pose of the one before while the "
            "car drives, so that sweeps do not line up: give each that of its own time"
        )


def _is_driving(tables: NuScenesTables) -> NDArray[np.bool_]:
    """(S,) whether the car is elsewhere in the key frame before or after, by the poses of the reference LiDAR."""
    samples, key = tables.samples, _reference_keys(tables)
    order = np.lexsort((samples.timestamp_us, samples.scene))
    order = order[key[order] >= 0]
    position = tables.global_from_ego[tables.sensors.pose[key[order]], :3, 3]
    moved = np.linalg.norm(np.diff(position, axis=0), axis=1) > _SHORTEST_DRIVE_M
    moved &= np.diff(samples.scene[order]) == 0
    driving = np.zeros(len(key), dtype=bool)
    driving[order[1:]] |= moved
    driving[order[:-1]] |= moved
    return driving


def _reference_keys(tables: NuScenesTables) -> NDArray[np.int64]:
    """(S,) row of the key frame of the reference LiDAR, -1 where there is none."""
    sensors = tables.sensors
    keys = np.full(len(tables.samples.tokens), -1, dtype=np.int64)
    lidar = np.flatnonzero((sensors.channel == tables.channels.reference_number) & sensors.is_key_frame)
    keys[sensors.sample[lidar]] = lidar
    return keys


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


def foreign_attributes(description: DatasetDescription, annotations: AnnotationColumns) -> Iterator[str]:
    """Attributes of another kind than the class."""
    kinds = [frozenset(("", *entry.attributes)) for entry in description.classes.values()]
    wrong = Counter(
        (label, attribute)
        for label, attribute in zip(annotations.label.tolist(), annotations.attribute)
        if attribute not in kinds[label]
    )
    if wrong:
        (label, attribute), _ = wrong.most_common(1)[0]
        boxes = format_count(wrong.total(), "box has", "boxes have")
        yield (
            f"{boxes} an attribute of another kind than the class, such as {attribute} of a "
            f"{description.class_names[label]}"
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
        sweeps.append(_key_frame_points(survey, row))
        own = (sample == row_of[source.tables.samples.tokens[row]]) & (recorded >= _POINTS_INSIDE)
        counts.append(recorded[own])
        inside.append(points_inside(boxes[own], sweeps[-1]))
    # Intensities in PCD files have no usual range.
    layout = survey.lidar_format
    yield from measured(np.concatenate(sweeps), layout.columns >= _INTENSITY_COLUMNS and not layout.reads_pcd)
    yield from empty_boxes(np.concatenate(counts), np.concatenate(inside))


def _key_frame_points(survey: Survey, sample: int) -> NDArray[np.float32]:
    """(P, 5) points of the key frames of all LiDARs in the frame of the reference."""
    tables, files = survey.source.tables, survey.files
    reference, *others = files.lidar[sample, :, 0].tolist()
    parts = [read_lidar(survey.source.dataroot / tables.sensors.path[reference], survey.lidar_format)]
    rows = np.array([row for row in others if row >= 0], dtype=np.int64)
    transforms = lidar_from_sensor(tables, np.full_like(rows, reference), rows)
    for row, transform in zip(rows.tolist(), transforms):
        points = read_lidar(survey.source.dataroot / tables.sensors.path[row], survey.lidar_format)
        parts.append(np.concatenate([transform_points(transform, points[:, :3]), points[:, 3:]], axis=1))
    return np.concatenate(parts)


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
