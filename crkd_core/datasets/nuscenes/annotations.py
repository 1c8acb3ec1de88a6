"""The tables of annotated boxes, their instances, categories and attributes.

A box that no detector could be trained on or compared with (its place, size or rotation are no numbers, its size is 0
or below, its rotation has no length) is left out and counted; a value of another kind is refused.
"""

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crkd_core.datasets.nuscenes.categories import (
    ATTRIBUTES,
    BICYCLE_RACK,
    CATEGORIES,
    detection_label,
    similar_attribute,
    similar_category,
)
from crkd_core.datasets.nuscenes.notes import TableNotes
from crkd_core.datasets.nuscenes.point_counts import MOST_POINTS, UNKNOWN, may_have_points, total_points
from crkd_core.datasets.nuscenes.poses import are_rotations, odd_lengths
from crkd_core.datasets.nuscenes.records import Record, TableReader
from crkd_core.datasets.nuscenes.velocity import box_velocities
from crkd_core.errors import DatasetError
from crkd_core.progress import format_count

_NOT_A_NUMBER = -(2**31)
_SHORTEST_SIDE_M, _LONGEST_SIDE_M = 1e-3, 100.0
_FARTHEST_M = 1e8
_VISIBILITIES = {"v0-40": 1, "v40-60": 2, "v60-80": 3, "v80-100": 4}
_NAMES_SHOWN = 5
_KNOWN_ATTRIBUTES = frozenset(ATTRIBUTES)
_BOX = {"translation": 3, "size": 3, "rotation": 4}


@dataclass(frozen=True)
class AnnotationColumns:
    """Usable annotations of the ten detection classes, in the global frame, grouped by sample.

    Attributes:
        label: index into ``DETECTION_CLASSES``.
        rotation: quaternions (w, x, y, z); `velocity`: m/s, NaN where undefined.
        visibility: 1 to 4 (0 to 40, 60, 80, 100% visible), 0 where not given.
        lidar_points, radar_points: inside the box, ``point_counts.UNKNOWN`` where nobody knows.
        attribute: name, '' where there is none.
        devkit_agrees: whether the nuScenes devkit, whose evaluation reads the tables itself, treats the box alike.
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
    devkit_agrees: NDArray[np.bool_]


@dataclass(frozen=True)
class RackColumns:
    """Annotated bicycle racks, in the global frame: the benchmark leaves out the cycles that stand in one."""

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
    folder: Path, sample_rows: Mapping[str, int], sample_timestamps_us: NDArray[np.int64]
) -> ReadAnnotations:
    """All annotations.

    Raises:
        DatasetError: a table is damaged, annotations are linked in a loop, none is of a category that is detected, or
            none of those is usable.
    """
    instances = _read_instances(folder)
    attributes = TableReader(folder, "attribute")
    names = attributes.index(lambda record: attributes.text(record, "name"))
    boxes = _read_boxes(folder, sample_rows, instances, names, _read_visibilities(folder))
    links = _linked_rows(boxes, sample_timestamps_us)
    geometry = _matrix(boxes.geometry)
    # A box without a place of its own gives its neighbours no velocity either.
    places = np.where(_is_place(geometry)[:, None], geometry[:, :3], np.nan)
    velocity = box_velocities(places, sample_timestamps_us[_int32(boxes.sample)], *links)
    problems = _unusable(geometry)
    dropped = np.array([problem is not None for problem in problems], dtype=bool)
    _check_something_left(folder, instances, boxes, dropped, problems)
    columns = _columns(boxes, velocity, ~dropped)
    racks, oddities = _racks(boxes)
    ignored = {name: count for name, count in instances.counts(boxes).items() if detection_label(name) is None}
    unknown = Counter(name for name in boxes.unknown_attributes)
    return ReadAnnotations(
        annotations=columns,
        racks=racks,
        others=sum(ignored.values()),
        dropped_sample=_int32(boxes.sample)[dropped],
        notes=TableNotes(
            dropped_boxes=dict(Counter(problem for problem in problems if problem is not None)),
            ignored_categories=ignored,
            similar_categories=_similar(ignored, CATEGORIES, similar_category),
            ignored_attributes=dict(unknown),
            similar_attributes=_similar(unknown, (), similar_attribute),
            boxes_without_counts=int((total_points(columns.lidar_points, columns.radar_points) == UNKNOWN).sum()),
            oddities=(*oddities, *_count_oddities(boxes, columns), *odd_lengths(columns.rotation, "boxes")),
        ),
    )


@dataclass(frozen=True)
class _Instances:
    """Annotated objects: what they are.

    Attributes:
        rows: by token.
        category: index into `names` of every row; `label`: index into ``DETECTION_CLASSES``, -1 if not detected.
    """

    rows: dict[str, int]
    category: list[int]
    names: list[str]
    label: list[int]
    is_rack: list[bool]

    def counts(self, boxes: "_Boxes") -> dict[str, int]:
        """Annotations of every category that has any, the most frequent first."""
        of_category = np.array(self.category, dtype=np.int64)[_int32(boxes.every_instance)]
        counts: Counter[str] = Counter()
        for name, count in zip(self.names, np.bincount(of_category, minlength=len(self.names)).tolist()):
            counts[name] += count
        return {name: count for name, count in counts.most_common() if count}


class _Boxes:
    """What the annotations say, as columns, in the order of the table.

    Those that end in `_count` are as they were read: negative, or ``_NOT_A_NUMBER``.
    """

    def __init__(self, table: TableReader) -> None:
        self.table = table
        self.tokens: list[str] = []
        self.previous: list[str] = []
        self.following: list[str] = []
        self.instance_tokens: list[str] = []
        self.attributes: list[str] = []
        self.unknown_attributes: list[str] = []
        self.single_attribute: list[bool] = []
        self.every_instance, self.instance, self.sample = array("i"), array("i"), array("i")
        self.label, self.visibility = array("b"), array("b")
        self.lidar_count, self.radar_count = array("i"), array("i")
        self.geometry = array("d")
        self.rack_sample, self.rack_geometry = array("i"), array("d")
        self.counted = False


def _read_instances(folder: Path) -> _Instances:
    categories = TableReader(folder, "category")
    name_of = categories.index(lambda record: categories.text(record, "name").strip())
    names, category_rows = list(name_of.values()), {token: row for row, token in enumerate(name_of)}
    labels = [-1 if (label := detection_label(name)) is None else label for name in names]
    table = TableReader(folder, "instance")
    tokens, category = [], []
    for record in table:
        tokens.append(table.token(record))
        category.append(table.find(category_rows, record, "category_token", "category"))
    return _Instances(
        rows=table.rows(tokens),
        category=category,
        names=names,
        label=[labels[row] for row in category],
        is_rack=[names[row] == BICYCLE_RACK for row in category],
    )


def _read_visibilities(folder: Path) -> dict[str, int]:
    """Visibility, 1 to 4, by token: by the name of the level, or the token itself, which nuScenes numbers."""
    table = TableReader(folder, "visibility")

    def level(record: Record) -> int:
        token = table.token(record)
        return _VISIBILITIES.get(table.text(record, "level", ""), int(token) if token in ("1", "2", "3", "4") else 0)

    return table.index(level)


def _read_boxes(
    folder: Path,
    sample_rows: Mapping[str, int],
    instances: _Instances,
    attributes: Mapping[str, str],
    visibilities: Mapping[str, int],
) -> _Boxes:
    table = TableReader(folder, "sample_annotation")
    boxes = _Boxes(table)
    for record in table:
        instance = table.find(instances.rows, record, "instance_token", "instance")
        boxes.every_instance.append(instance)
        lidar, radar = _count(table, record, "num_lidar_pts"), _count(table, record, "num_radar_pts")
        boxes.counted = boxes.counted or lidar > 0 or radar > 0
        label = instances.label[instance]
        if label < 0:
            if instances.is_rack[instance]:
                boxes.rack_sample.append(table.find(sample_rows, record, "sample_token", "sample"))
                table.append_numbers(boxes.rack_geometry, record, _BOX)
            continue
        boxes.tokens.append(table.token(record))
        boxes.instance_tokens.append(table.link(record, "instance_token"))
        boxes.previous.append(table.link(record, "prev"))
        boxes.following.append(table.link(record, "next"))
        boxes.instance.append(instance)
        boxes.sample.append(table.find(sample_rows, record, "sample_token", "sample"))
        boxes.label.append(label)
        boxes.visibility.append(visibilities.get(str(record.get("visibility_token")), 0))
        boxes.lidar_count.append(lidar)
        boxes.radar_count.append(radar)
        _append_attribute(boxes, record, attributes)
        table.append_numbers(boxes.geometry, record, _BOX)
    return boxes


def _append_attribute(boxes: _Boxes, record: Record, names: Mapping[str, str]) -> None:
    """The first attribute counts; one that nuScenes does not know counts as none."""
    tokens = boxes.table.tokens(record, "attribute_tokens")
    if not tokens:
        boxes.attributes.append("")
        boxes.single_attribute.append(True)
        return
    name = names.get(str(tokens[0]))
    if name is None:
        raise boxes.table.no_record(str(tokens[0]), "attribute")
    is_known = name in _KNOWN_ATTRIBUTES
    if not is_known:
        boxes.unknown_attributes.append(name)
    boxes.attributes.append(name if is_known else "")
    boxes.single_attribute.append(is_known and len(tokens) == 1)


def _count(table: TableReader, record: Record, field: str) -> int:
    value = record.get(field)
    if type(value) is int:
        return min(max(value, -MOST_POINTS), MOST_POINTS)
    if value is None or value != value:
        return _NOT_A_NUMBER
    return table.integer(record, field, (-MOST_POINTS, MOST_POINTS))


def _linked_rows(boxes: _Boxes, timestamps_us: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Rows of the annotations before and after, -1 where there is none."""
    rows = boxes.table.rows(boxes.tokens)
    own_us, instance = timestamps_us[_int32(boxes.sample)], _int32(boxes.instance)
    linked_rows = []
    for tokens, sign, word in ((boxes.previous, -1, "before"), (boxes.following, 1, "after")):
        linked = np.full(len(tokens), -1, dtype=np.int64)
        for row, token in enumerate(tokens):
            if token:
                try:
                    linked[row] = rows[token]
                except KeyError:
                    raise boxes.table.no_record(token, boxes.table.name) from None
        wrong = (linked >= 0) & ((instance[linked] != instance) | (sign * (own_us[linked] - own_us) <= 0))
        if wrong.any():
            row = int(wrong.argmax())
            raise DatasetError(
                f"the table {boxes.table.path} is damaged: the annotation {boxes.tokens[row]!r} names {tokens[row]!r} "
                f"as the one {word} it, which is of another instance or not {word} it in time; mend what made it."
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


def _check_something_left(
    folder: Path, instances: _Instances, boxes: _Boxes, dropped: NDArray[np.bool_], problems: Iterable[str | None]
) -> None:
    """Refuse annotations of which nothing is left; a version without any, such as the test set's, is fine."""
    total = len(boxes.every_instance)
    if total and not len(dropped):
        counts = instances.counts(boxes)
        names = ", ".join(f"{name} ({count})" for name, count in list(counts.items())[:_NAMES_SHOWN])
        hints = (
            f"{name} would be {similar}" for name, similar in _similar(counts, CATEGORIES, similar_category).items()
        )
        hint = next(hints, "vehicle.car, human.pedestrian.adult and so on")
        raise DatasetError(
            f"none of the {total} annotations in {folder} is of a category that is detected: found {names}; name the "
            f"categories in category.json as nuScenes does: {hint}."
        )
    if len(dropped) and dropped.all():
        reasons = ", ".join(f"{count} with {reason}" for reason, count in Counter(problems).items())
        raise DatasetError(
            f"none of the {len(dropped)} boxes in {boxes.table.path} is usable: {reasons}; mend what made the table."
        )


def _columns(boxes: _Boxes, velocity: NDArray[np.float64], kept: NDArray[np.bool_]) -> AnnotationColumns:
    order = np.flatnonzero(kept)
    sample, geometry = _int32(boxes.sample), _matrix(boxes.geometry)
    order = order[np.argsort(sample[order], kind="stable")]
    read = [_int32(boxes.lidar_count)[order], _int32(boxes.radar_count)[order]]
    # Where no box of the whole table has a point, nobody counted.
    lidar, radar = (np.where((count < 0) | (not boxes.counted), UNKNOWN, count).astype(np.int32) for count in read)
    readable = (read[0] != _NOT_A_NUMBER) & (read[1] != _NOT_A_NUMBER)
    # Two numbers that are not there would overflow.
    devkit_keeps = np.where(readable, read[0], 0) + np.where(readable, read[1], 0) != 0
    agrees = (
        readable & (devkit_keeps == may_have_points(lidar, radar)) & np.array(boxes.single_attribute, dtype=bool)[order]
    )
    return AnnotationColumns(
        token=[boxes.tokens[row] for row in order],
        instance=[boxes.instance_tokens[row] for row in order],
        sample=sample[order],
        label=np.array(boxes.label, dtype=np.int8)[order],
        translation=geometry[order, :3],
        size_wlh=geometry[order, 3:6],
        rotation=geometry[order, 6:],
        velocity=velocity[order],
        visibility=np.array(boxes.visibility, dtype=np.int8)[order],
        lidar_points=lidar,
        radar_points=radar,
        attribute=[boxes.attributes[row] for row in order],
        devkit_agrees=agrees,
    )


def _racks(boxes: _Boxes) -> tuple[RackColumns, list[str]]:
    rack = _matrix(boxes.rack_geometry)
    usable = np.array([problem is None for problem in _unusable(rack)], dtype=bool)
    oddities = []
    if not usable.all():
        oddities.append(f"{int((~usable).sum())} bicycle racks have an unusable box and are left out")
    rack = rack[usable]
    return RackColumns(_int32(boxes.rack_sample)[usable], rack[:, :3], rack[:, 3:6], rack[:, 6:]), oddities


def _count_oddities(boxes: _Boxes, columns: AnnotationColumns) -> list[str]:
    oddities = []
    if len(columns.token) and not boxes.counted:
        oddities.append(
            "no box has a LiDAR or radar point: they were not counted, and no box is left out for having none"
        )
    linked = any(boxes.previous) or any(boxes.following)
    if len(set(boxes.instance_tokens)) < len(boxes.tokens) and not linked:
        oddities.append("no annotation names the one before or after it, so that all velocities are unknown")
    several = int(np.count_nonzero(~np.array(boxes.single_attribute, dtype=bool))) - len(boxes.unknown_attributes)
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


def _int32(column: array) -> NDArray[np.int32]:
    return np.array(column, dtype=np.int32)


def _matrix(column: array) -> NDArray[np.float64]:
    return np.array(column, dtype=np.float64).reshape(-1, 10)
