"""The data report: what a prepared data set holds, and what of it should make its user look twice."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from crkd_core.artifacts.tables import numbers_of
from crkd_core.config.description import DatasetDescription
from crkd_core.config.description_files import nuscenes
from crkd_core.datasets.nuscenes.splits import splits_of_version
from crkd_core.datasets.nuscenes.survey import Survey
from crkd_core.datasets.nuscenes.velocity import MAX_TIME_DIFFERENCE_S
from crkd_core.datasets.prepared import preparing
from crkd_core.datasets.prepared.plausibility import implausible
from crkd_core.progress import format_count

USUAL_SPACING_S = (0.3, 1.0)
"""nuScenes annotates every 0.5 s; sweeps, velocities and their errors are made for about that."""
FASTEST_MPS = 60.0
"""Nothing on a road is faster than that; a speed beyond it is a wrong time stamp, position or link."""
SLOWEST_MPS = 0.01
"""Slower than that is no motion."""
_MANY = 0.5
_DECIMALS = 4
_NAMED = 3


@dataclass(frozen=True)
class Range:
    """Smallest, middle and largest of some values; all zero where there is none."""

    low: float = 0.0
    median: float = 0.0
    high: float = 0.0

    @staticmethod
    def of(values: NDArray) -> "Range":
        """The range of the values that are not NaN."""
        known = values[~np.isnan(values)] if len(values) else values
        if not len(known):
            return Range()
        return Range(*(round(float(f(known)), _DECIMALS) for f in (np.min, np.median, np.max)))


@dataclass(frozen=True)
class SampleCounts:
    """Key frames.

    Attributes:
        prepared: how many there are, of `scenes` scenes; `per_split` of each split that has any.
        empty_splits: splits that the version should have and that have none.
        unsplit: samples of no split, and some of the scenes they belong to.
        left_out: samples that lack files, and were allowed to; `left_out_per_split` of each split.
        left_out_scenes: scenes of which no sample is left.
        left_out_tokens: some of the samples that are left out.
    """

    prepared: int
    scenes: int
    per_split: dict[str, int]
    empty_splits: list[str] = field(default_factory=list)
    unsplit: int = 0
    unsplit_scenes: list[str] = field(default_factory=list)
    left_out: int = 0
    left_out_per_split: dict[str, int] = field(default_factory=dict)
    left_out_scenes: int = 0
    left_out_tokens: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class BoxCounts:
    """Annotated boxes of the detected classes in the prepared samples, and what the tables hold beside them.

    Attributes:
        per_class: classes that have any.
        without_points, without_velocity: how many have no LiDAR or radar point inside, or no defined velocity.
        without_counts: how many have no record of the points inside.
        dropped: boxes of detected classes that were left out, by reason.
        ignored: boxes of other categories; `ignored_categories` by name, `similar_categories` the described name that
            one of them may have been meant as.
        ignored_attributes: unknown attributes with the number of boxes; `similar_attributes` the described name that
            one of them may have been meant as.
    """

    per_class: dict[str, int]
    without_points: int = 0
    without_velocity: int = 0
    without_counts: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    ignored: int = 0
    ignored_categories: dict[str, int] = field(default_factory=dict)
    similar_categories: dict[str, str] = field(default_factory=dict)
    ignored_attributes: dict[str, int] = field(default_factory=dict)
    similar_attributes: dict[str, str] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Boxes of all detected classes."""
        return sum(self.per_class.values())


@dataclass(frozen=True)
class SensorData:
    """Files of the prepared samples.

    Attributes:
        missing: one line for every sensor with missing files.
        without_lidar: no LiDAR at all.
        image_sizes: width x height (px) to number of images.
        lidar_sweeps: of each sample, the key frame included.
        radar_points: of each sample, all radars and sweeps together.
        without_radar: samples without a single radar point; `silent_radars` radars without a point in any sample.
    """

    missing: list[str]
    without_lidar: bool
    image_sizes: dict[str, int]
    lidar_sweeps: Range
    radar_points: Range
    without_radar: int = 0
    silent_radars: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Motion:
    """Time and speed.

    Attributes:
        spacing_s: between key frames of a scene.
        gaps: key frames that follow the one before by so much that no velocity is defined between them.
        ego_mps: speed of the car between key frames.
        box_mps: speed of the boxes; `fastest_class` that of the fastest.
    """

    spacing_s: Range
    gaps: int
    ego_mps: Range
    box_mps: Range
    fastest_class: str = ""


@dataclass(frozen=True)
class DataReport:
    """Everything that preparing can know about a data set; see the classes of the sections.

    Attributes:
        expects_boxes: whether the version is one whose annotations are public.
        oddities: anything else worth a warning.
        dataset: name of the data set in texts.
    """

    samples: SampleCounts
    boxes: BoxCounts
    sensors: SensorData
    motion: Motion
    expects_boxes: bool = True
    oddities: list[str] = field(default_factory=list)
    dataset: str = field(default_factory=lambda: nuscenes().text_name)

    @property
    def warnings(self) -> list[str]:
        """What its user should look at, one sentence each."""
        parts = (_sample_warnings, _sensor_warnings, _box_warnings, _motion_warnings)
        return [line for part in parts for line in part(self)] + self.oddities

    def to_json(self) -> dict[str, Any]:
        """As JSON values; nuScenes is not named."""
        values = _ADAPTER.dump_python(self, mode="json")
        if self.dataset == nuscenes().text_name:
            del values["dataset"]
        return values

    @staticmethod
    def from_json(values: Any) -> "DataReport | None":
        """The inverse of :meth:`to_json`; None for anything else, such as the report of another version of crkd."""
        try:
            return _ADAPTER.validate_python(values)
        except ValidationError:
            return None


_ADAPTER = TypeAdapter(DataReport)


def build_report(survey: Survey, written: Mapping[str, pa.Table], points: NDArray[np.int32]) -> DataReport:
    """The report of what was found on disk.

    Args:
        written: tables of the prepared data set by file name.
        points: (S, R, L) radar points of every sweep of the prepared samples.
    """
    source, description = survey.source, survey.source.tables.description
    notes = source.tables.notes
    return DataReport(
        samples=_count_samples(survey),
        boxes=_count_boxes(survey, written[preparing.ANNOTATIONS]),
        sensors=_count_sensors(survey, written, points),
        motion=_measure_motion(survey, written[preparing.ANNOTATIONS]),
        expects_boxes=splits_of_version(source.version) != ("test",),
        oddities=[
            *source.splits.oddities,
            *_unmapped(description, notes.ignored_categories),
            *notes.oddities,
            *implausible(survey, written),
        ],
        dataset=description.text_name,
    )


def _unmapped(description: DatasetDescription, ignored: Mapping[str, int]) -> Iterator[str]:
    """Categories that a description of one's own neither maps to a class nor lists as others."""
    if description == nuscenes():
        return
    unmapped = {name: count for name, count in ignored.items() if name not in description.categories}
    if unmapped:
        names = ", ".join(f"{name!r} of {format_count(count, 'box', 'boxes')}" for name, count in unmapped.items())
        yield (
            f"categories that the description {description.name} does not map: {names}; add each to a class or to "
            "other_categories"
        )


def _count_samples(survey: Survey) -> SampleCounts:
    source, kept = survey.source, survey.kept
    scene_of, scenes = source.tables.samples.scene, source.tables.scenes
    splits_of = [source.splits.of_scene.get(scene.name, ()) for scene in scenes]
    per_split = count_splits(splits_of, scene_of[kept])
    # A data set with splits of its own need not be of nuScenes' scenes.
    expected = dict.fromkeys(source.splits.own or splits_of_version(source.version) or ())
    unsplit = [scene for scene in scene_of[kept].tolist() if not splits_of[scene]]
    prepared_scenes = set(scene_of[kept].tolist())
    return SampleCounts(
        prepared=int(kept.sum()),
        scenes=len(prepared_scenes),
        per_split=per_split,
        empty_splits=[split for split in expected if split not in per_split],
        unsplit=len(unsplit),
        unsplit_scenes=[scenes[scene].name for scene in dict.fromkeys(unsplit)][:_NAMED],
        left_out=int((~kept).sum()),
        left_out_per_split=count_splits(splits_of, scene_of[~kept]),
        left_out_scenes=len(set(scene_of.tolist()) - prepared_scenes),
        left_out_tokens=[source.tables.samples.tokens[row] for row in np.flatnonzero(~kept)[:_NAMED]],
    )


def count_splits(splits_of: Sequence[Sequence[str]], scenes: NDArray[np.int32]) -> dict[str, int]:
    """Split name to number of samples.

    Args:
        splits_of: splits of every scene.
        scenes: scene of each sample.
    """
    counts: dict[str, int] = {}
    for scene, number in zip(*np.unique(scenes, return_counts=True)):
        for split in splits_of[scene]:
            counts[split] = counts.get(split, 0) + int(number)
    return dict(sorted(counts.items()))


def _count_boxes(survey: Survey, annotations: pa.Table) -> BoxCounts:
    tables = survey.source.tables
    classes = tables.description.class_names
    labels = np.bincount(numbers_of(annotations["label"]), minlength=len(classes))
    inside = numbers_of(annotations["lidar_points"]) + numbers_of(annotations["radar_points"])
    velocity = numbers_of(annotations["velocity"])[:, :2]
    notes = tables.notes
    return BoxCounts(
        per_class={name: int(count) for name, count in zip(classes, labels) if count},
        without_points=int((inside == 0).sum()),
        without_velocity=int(np.isnan(velocity).any(axis=1).sum()),
        without_counts=notes.boxes_without_counts,
        dropped=dict(notes.dropped_boxes),
        ignored=tables.other_annotations,
        ignored_categories=dict(notes.ignored_categories),
        similar_categories=dict(notes.similar_categories),
        ignored_attributes=dict(notes.ignored_attributes),
        similar_attributes=dict(notes.similar_attributes),
    )


def _count_sensors(survey: Survey, written: Mapping[str, pa.Table], points: NDArray[np.int32]) -> SensorData:
    cameras, lidar = written[preparing.CAMERAS], written[preparing.LIDAR_SWEEPS]
    sizes = np.stack([numbers_of(cameras["width"]), numbers_of(cameras["height"])], axis=1)
    sizes, counts = np.unique(sizes, axis=0, return_counts=True)
    sweeps = np.bincount(_samples_of_sweeps(lidar), minlength=len(points))
    of_sample = points.sum(axis=(1, 2))
    of_radar = points.sum(axis=(0, 2))
    return SensorData(
        missing=survey.missing.lines(),
        without_lidar=survey.missing.without_lidar,
        image_sizes={f"{width} x {height}": int(n) for (width, height), n in zip(sizes.tolist(), counts)},
        lidar_sweeps=Range.of(sweeps),
        radar_points=Range.of(of_sample),
        without_radar=int((of_sample == 0).sum()),
        silent_radars=[name for name, number in zip(survey.source.tables.channels.radars, of_radar) if number == 0],
    )


def _samples_of_sweeps(lidar: pa.Table) -> NDArray[np.int32]:
    """Sample of every LiDAR sweep, of which there is a file of every LiDAR."""
    samples = numbers_of(lidar["sample"])
    if "channel" not in lidar.column_names:
        return samples
    return np.unique(np.column_stack([samples, numbers_of(lidar["index"])]), axis=0)[:, 0]


def _measure_motion(survey: Survey, annotations: pa.Table) -> Motion:
    tables, key = survey.source.tables, survey.files.lidar_key
    samples = tables.samples
    order = np.lexsort((samples.timestamp_us, samples.scene))
    same_scene = np.diff(samples.scene[order]) == 0
    seconds = np.diff(samples.timestamp_us[order])[same_scene] * 1e-6
    poses = tables.global_from_ego[tables.sensors.pose[key[order]], :2, 3]
    steps = np.hypot(*np.diff(poses, axis=0)[same_scene].T)
    has_pose = key[order] >= 0
    usable = (has_pose[1:] & has_pose[:-1])[same_scene] & (seconds > 0)
    speed = np.hypot(*numbers_of(annotations["velocity"])[:, :2].T)
    label = numbers_of(annotations["label"])
    defined = ~np.isnan(speed)
    fastest = tables.description.class_names[label[np.nanargmax(speed)]] if defined.any() else ""
    return Motion(
        spacing_s=Range.of(seconds),
        gaps=int(((seconds > MAX_TIME_DIFFERENCE_S) | (seconds <= 0)).sum()),
        ego_mps=Range.of(steps[usable] / seconds[usable]),
        box_mps=Range.of(speed),
        fastest_class=fastest,
    )


def _sample_warnings(report: DataReport) -> Iterator[str]:
    samples = report.samples
    if samples.left_out:
        per_split = ", ".join(f"{number} {split}" for split, number in samples.left_out_per_split.items())
        whole = f", {format_count(samples.left_out_scenes, 'scene')} entirely" if samples.left_out_scenes else ""
        total = samples.left_out + samples.prepared
        yield (
            f"{samples.left_out} of {total} key frames are left out for want of files ({per_split or 'of no split'}"
            f"{whole}), such as {samples.left_out_tokens[0]}; scores are on the others"
        )
    if samples.unsplit:
        yield (
            f"{samples.unsplit} of {samples.prepared} samples are in no split and will not be used (scenes "
            f"{_some(samples.unsplit_scenes)})"
        )
    if samples.empty_splits:
        yield f"no sample in {', '.join(samples.empty_splits)}"


def _sensor_warnings(report: DataReport) -> Iterator[str]:
    sensors = report.sensors
    if sensors.without_lidar:
        yield "no LiDAR: camera-radar models can be trained and evaluated, a LiDAR teacher cannot"
    if sensors.missing:
        # One example is enough: what is missing of one sensor is mostly missing of the others.
        first, *others = sensors.missing
        yield "; ".join([f"missing, as allowed: {first}", *(line.partition(" (such as")[0] for line in others)])
    if sensors.radar_points.high == 0 and not sensors.silent_radars:
        yield "no radar: models of cameras and LiDAR can be trained and evaluated, camera-radar students cannot"
        return
    if sensors.radar_points.high == 0:
        yield f"no radar point in any of {report.samples.prepared} samples: radar models would learn from cameras only"
        return
    if sensors.silent_radars:
        yield f"no point in any sample from {', '.join(sensors.silent_radars)}"
    if sensors.without_radar:
        yield f"{sensors.without_radar} of {report.samples.prepared} samples have no radar point"
    if len(sensors.image_sizes) > 1:
        sizes = ", ".join(f"{number} of {size}" for size, number in sensors.image_sizes.items())
        yield f"images of {len(sensors.image_sizes)} sizes (px): {sizes}"


def _box_warnings(report: DataReport) -> Iterator[str]:
    boxes, total = report.boxes, report.boxes.total
    if not total and report.expects_boxes:
        detected = "the ten detection classes" if report.dataset == nuscenes().text_name else "a detected class"
        yield f"no box of {detected} is annotated: nothing can be trained or scored"
    for reason, number in boxes.dropped.items():
        yield f"{format_count(number, 'box', 'boxes')} dropped: {reason}"
    for name, meant in boxes.similar_categories.items():
        number = boxes.ignored_categories.get(name, 0)
        ignored = format_count(number, f"box of {name!r} is", f"boxes of {name!r} are")
        yield f"{ignored} not detected; {report.dataset}'{'s' * (not report.dataset.endswith('s'))} name is {meant}"
    if boxes.ignored_attributes:
        hints = {name: f" (is {meant} meant?)" for name, meant in boxes.similar_attributes.items()}
        counts = boxes.ignored_attributes.items()
        names = (f"{name!r} of {format_count(number, 'box', 'boxes')}{hints.get(name, '')}" for name, number in counts)
        yield f"attributes that {report.dataset} does not have are ignored: {', '.join(names)}"
    if 0 < boxes.without_counts < total:
        silent = format_count(boxes.without_counts, "box does", "boxes do")
        yield f"{silent} not say how many points are inside; such a box counts as having some"
    if boxes.without_points > _MANY * total:
        yield f"{_share(boxes.without_points, total)} of the boxes hold no point; training and metrics leave them out"
    if boxes.without_velocity > _MANY * total:
        yield f"{_share(boxes.without_velocity, total)} of the boxes have no velocity: check prev, next and the times"


def _motion_warnings(report: DataReport) -> Iterator[str]:
    motion = report.motion
    low, high = USUAL_SPACING_S
    if motion.spacing_s.high and not low <= motion.spacing_s.median <= high:
        yield f"key frames are {motion.spacing_s.median:g} s apart; those of nuScenes 0.5 s (time stamps are in us)"
    if motion.gaps:
        following = format_count(motion.gaps, "key frame follows", "key frames follow")
        yield (
            f"{following} the one before at once or after more than {MAX_TIME_DIFFERENCE_S:g} s "
            f"(up to {motion.spacing_s.high:g} s), so no velocity is defined there"
        )
    if motion.box_mps.high > FASTEST_MPS:
        yield f"a {motion.fastest_class} moves at {motion.box_mps.high:.0f} m/s: check time stamps and positions"
    if motion.ego_mps.high > FASTEST_MPS:
        yield f"the car itself moves at {motion.ego_mps.high:.0f} m/s: check ego_pose and the time stamps"
    if motion.spacing_s.high and motion.ego_mps.high < SLOWEST_MPS < motion.box_mps.high:
        yield "the car itself does not move in any scene, though objects do: check ego_pose (m, global frame)"
    if report.boxes.total > report.boxes.without_velocity and motion.box_mps.high == 0:
        yield "no annotated object moves"


def _share(part: int, total: int) -> str:
    return f"{part / max(total, 1):.0%}"


def _some(names: list[str]) -> str:
    return ", ".join(names) + (", ..." if len(names) == _NAMED else "")
