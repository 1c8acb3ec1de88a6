"""The tables of annotated boxes, their instances, categories and attributes.

A box that no detector could be trained on or compared with (its place, size or rotation are no numbers, its size is 0
or below, its rotation has no length) is left out and counted; a value of another kind is refused.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from crkd_core.config.description import DatasetDescription
from crkd_core.config.description_files import dataset_names
from crkd_core.datasets.nuscenes.annotation_tables import (
    NOT_A_NUMBER,
    AnnotatedBoxes,
    Instances,
    read_boxes,
    read_instances,
    read_visibilities,
)
from crkd_core.datasets.nuscenes.categories import similar_attribute, similar_category
from crkd_core.datasets.nuscenes.notes import TableNotes
from crkd_core.datasets.nuscenes.point_counts import UNKNOWN, may_have_points, total_points
from crkd_core.datasets.nuscenes.poses import are_rotations, odd_lengths
from crkd_core.datasets.nuscenes.records import TableReader
from crkd_core.datasets.nuscenes.table_records import NameRecord
from crkd_core.datasets.nuscenes.text_column import TextColumn
from crkd_core.datasets.nuscenes.token_keys import KeyIndex
from crkd_core.datasets.nuscenes.velocity import box_velocities
from crkd_core.errors import DatasetError
from crkd_core.progress import format_count

_SHORTEST_SIDE_M, _LONGEST_SIDE_M = 1e-3, 100.0
_FARTHEST_M = 1e8
_NAMES_SHOWN = 5
_EXAMPLES = 2


@dataclass(frozen=True)
class AnnotationColumns:
    """Usable annotations of the detection classes, in the global frame, grouped by sample.

    Attributes:
        label: index into the classes of the description.
        rotation: quaternions (w, x, y, z); `velocity`: m/s, NaN where undefined.
        visibility: 1 to 4 (0 to 40, 60, 80, 100% visible), 0 where not given.
        lidar_points, radar_points: inside the box, ``point_counts.UNKNOWN`` where nobody knows.
        attribute: name, '' where there is none.
        devkit_agrees: whether the nuScenes devkit, whose evaluation reads the tables itself, treats the box alike.
    """

    token: TextColumn
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
    devkit_agrees: NDArray[np.bool_]


@dataclass(frozen=True)
class RackColumns:
    """Annotated things inside which some objects are ignored, in the global frame: nuScenes' bicycle racks."""

    sample: NDArray[np.int32]
    translation: NDArray[np.float64]
    size_wlh: NDArray[np.float64]
    rotation: NDArray[np.float64]


@dataclass(frozen=True)
class ReadAnnotations:
    """What the tables of annotations hold.

    Attributes:
        others: annotations of categories that are not detected.
        dropped_sample: (D,) row of the sample of every box of a detected class that was left out.
    """

    annotations: AnnotationColumns
    racks: RackColumns
    others: int
    dropped_sample: NDArray[np.int32]
    notes: TableNotes


def read_annotations(
    folder: Path,
    sample_rows: Mapping[str, int],
    sample_timestamps_us: NDArray[np.int64],
    description: DatasetDescription,
) -> ReadAnnotations:
    """All annotations.

    Raises:
        DatasetError: a table is damaged, annotations are linked in a loop, none is of a category that is detected, or
            none of those is usable.
    """
    instances = read_instances(folder, description)
    attributes = TableReader(folder, "attribute", NameRecord)
    names = attributes.index(lambda record: attributes.text(record, "name"))
    boxes = read_boxes(folder, sample_rows, instances, names, read_visibilities(folder), description)
    links = _linked_rows(boxes, sample_timestamps_us)
    geometry = boxes.geometry
    # A box without a place of its own gives its neighbours no velocity either.
    places = np.where(_is_place(geometry)[:, None], geometry[:, :3], np.nan)
    velocity = box_velocities(places, sample_timestamps_us[boxes.sample], *links)
    problems = _unusable(geometry)
    dropped = np.array([problem is not None for problem in problems], dtype=bool)
    similar = partial(similar_category, description=description)
    _check_something_left(folder, description, instances.counts(boxes), boxes, dropped, problems)
    columns = _columns(boxes, instances, velocity, ~dropped)
    racks, oddities = _racks(boxes, description.ignored_inside.categories)
    detected = description.label_of_category
    ignored = {name: count for name, count in instances.counts(boxes).items() if name not in detected}
    unknown = Counter(name for name in boxes.unknown_attributes)
    return ReadAnnotations(
        annotations=columns,
        racks=racks,
        others=sum(ignored.values()),
        dropped_sample=boxes.sample[dropped],
        notes=TableNotes(
            dropped_boxes=dict(Counter(problem for problem in problems if problem is not None)),
            ignored_categories=ignored,
            similar_categories=_similar(ignored, description.categories, similar),
            ignored_attributes=dict(unknown),
            similar_attributes=_similar(unknown, (), partial(similar_attribute, description=description)),
            boxes_without_counts=int((total_points(columns.lidar_points, columns.radar_points) == UNKNOWN).sum()),
            oddities=(*oddities, *_count_oddities(boxes, columns), *odd_lengths(columns.rotation, "boxes")),
        ),
    )


def _linked_rows(boxes: AnnotatedBoxes, timestamps_us: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Rows of the annotations before and after, -1 where there is none."""
    index = KeyIndex(boxes.keys)
    repeated = index.repeated()
    if repeated is not None:
        raise boxes.table.repeated(boxes.tokens[repeated])
    own_us, instance = timestamps_us[boxes.sample], boxes.instance
    linked_rows = []
    for field, keys, linking, sign, word in (
        ("prev", boxes.previous, boxes.has_previous, -1, "before"),
        ("next", boxes.following, boxes.has_following, 1, "after"),
    ):
        linked = np.where(linking, index.rows(keys), -1)
        absent = linking & (linked < 0)
        if absent.any():
            token = boxes.table.find_token(field, keys[int(absent.argmax())])
            raise boxes.table.no_record(token, boxes.table.name)
        wrong = (linked >= 0) & ((instance[linked] != instance) | (sign * (own_us[linked] - own_us) <= 0))
        if wrong.any():
            row = int(wrong.argmax())
            raise DatasetError(
                f"the table {boxes.table.path} is damaged: the annotation {boxes.tokens[row]!r} names "
                f"{boxes.tokens[linked[row]]!r} as the one {word} it, which is of another instance or not {word} it in "
                "time; mend what made it."
            )
        linked_rows.append(linked)
    return linked_rows


def _is_place(geometry: NDArray[np.float64]) -> NDArray[np.bool_]:
    with np.errstate(invalid="ignore"):
        return (np.abs(geometry[:, :3]) < _FARTHEST_M).all(axis=1)


def _unusable(geometry: NDArray[np.float64]) -> list[str | None]:
    """Why each box is left out; None for those that are not."""
    size, rotation = geometry[:, 3:6], geometry[:, 6:]
    with np.errstate(invalid="ignore"):
        reasons = {
            "a place that is no number": ~np.isfinite(geometry[:, :3]).all(axis=1),
            f"a place beyond {_FARTHEST_M:g} m": ~_is_place(geometry),
            "a size that is no number": ~np.isfinite(size).all(axis=1),
            f"a side longer than {_LONGEST_SIDE_M:g} m": (size > _LONGEST_SIDE_M).any(axis=1),
            "a size of 0 or below": (size <= 0).any(axis=1),
            f"a side shorter than {_SHORTEST_SIDE_M:g} m": (size < _SHORTEST_SIDE_M).any(axis=1),
            "a rotation that is no quaternion": ~are_rotations(rotation),
        }
    problems: list[str | None] = [None] * len(geometry)
    for reason, wrong in reversed(reasons.items()):
        for row in np.flatnonzero(wrong).tolist():
            problems[row] = reason
    return problems


def _mapping_remedy(counts: Mapping[str, int], description: DatasetDescription) -> str:
    """What to do where no category of the tables is mapped."""
    known = ", ".join(list(description.label_of_category)[:_EXAMPLES])
    if description.name not in dataset_names():
        return f"list them as categories of the classes in the description {description.name}, which lists {known}"
    similar = _similar(counts, description.categories, partial(similar_category, description=description))
    hint = next((f"{name} would be {meant}" for name, meant in similar.items()), f"{known} and so on")
    return f"name the categories in category.json as {description.text_name} does: {hint}"


def _check_something_left(
    folder: Path,
    description: DatasetDescription,
    counts: Mapping[str, int],
    boxes: AnnotatedBoxes,
    dropped: NDArray[np.bool_],
    problems: Iterable[str | None],
) -> None:
    """Refuse annotations of which nothing is left; a version without any, such as the test set's, is fine."""
    total = len(boxes.every_instance)
    if total and not len(dropped):
        names = ", ".join(f"{name} ({count})" for name, count in list(counts.items())[:_NAMES_SHOWN])
        raise DatasetError(
            f"none of the {total} annotations in {folder} is of a category that is detected: found {names}; "
            f"{_mapping_remedy(counts, description)}."
        )
    if len(dropped) and dropped.all():
        reasons = ", ".join(f"{count} with {reason}" for reason, count in Counter(problems).items())
        raise DatasetError(
            f"none of the {len(dropped)} boxes in {boxes.table.path} is usable: {reasons}; mend what made the table."
        )


def _columns(
    boxes: AnnotatedBoxes, instances: Instances, velocity: NDArray[np.float64], kept: NDArray[np.bool_]
) -> AnnotationColumns:
    order = np.flatnonzero(kept)
    sample, geometry = boxes.sample, boxes.geometry
    order = order[np.argsort(sample[order], kind="stable")]
    read = [boxes.lidar_count[order], boxes.radar_count[order]]
    # Where no box of the whole table has a point, nobody counted.
    lidar, radar = (np.where((count < 0) | (not boxes.counted), UNKNOWN, count).astype(np.int32) for count in read)
    readable = (read[0] != NOT_A_NUMBER) & (read[1] != NOT_A_NUMBER)
    # Two numbers that are not there would overflow.
    devkit_keeps = np.where(readable, read[0], 0) + np.where(readable, read[1], 0) != 0
    agrees = readable & (devkit_keeps == may_have_points(lidar, radar)) & boxes.single_attribute[order]
    return AnnotationColumns(
        token=TextColumn(boxes.tokens.take(order).cast(pa.large_string())),
        instance=[instances.tokens[row] for row in boxes.instance[order].tolist()],
        sample=sample[order],
        label=boxes.label[order],
        translation=geometry[order, :3],
        size_wlh=geometry[order, 3:6],
        rotation=geometry[order, 6:],
        velocity=velocity[order],
        visibility=boxes.visibility[order],
        lidar_points=lidar,
        radar_points=radar,
        attribute=[boxes.attributes[row] for row in order],
        devkit_agrees=agrees,
    )


def _racks(boxes: AnnotatedBoxes, regions: Sequence[str]) -> tuple[RackColumns, list[str]]:
    rack = boxes.rack_geometry
    usable = np.array([problem is None for problem in _unusable(rack)], dtype=bool)
    oddities = []
    if not usable.all():
        kinds = dict.fromkeys(f"{name.rpartition('.')[2].replace('_', ' ')}s" for name in regions)
        oddities.append(f"{int((~usable).sum())} {' or '.join(kinds)} have an unusable box and are left out")
    rack = rack[usable]
    return RackColumns(boxes.rack_sample[usable], rack[:, :3], rack[:, 3:6], rack[:, 6:]), oddities


def _count_oddities(boxes: AnnotatedBoxes, columns: AnnotationColumns) -> list[str]:
    oddities = []
    if len(columns.token) and not boxes.counted:
        oddities.append(
            "no box has a LiDAR or radar point: they were not counted, and no box is left out for having none"
        )
    linked = boxes.has_previous.any() or boxes.has_following.any()
    if len(np.unique(boxes.instance)) < len(boxes.tokens) and not linked:
        oddities.append("no annotation names the one before or after it, so that all velocities are unknown")
    several = int(np.count_nonzero(~boxes.single_attribute)) - len(boxes.unknown_attributes)
    if several:
        oddities.append(
            f"{format_count(several, 'box has', 'boxes have')} several attributes, of which the first counts"
        )
    return oddities


def _similar(names: Iterable[str], official: Iterable[str], similar: Callable[[str], str | None]) -> dict[str, str]:
    """What each name that is not official is most like, where it is like anything."""
    known = set(official)
    hints = {name: similar(name) for name in names if name not in known}
    return {name: hint for name, hint in hints.items() if hint is not None}
