"""The tables of instances, visibilities and annotations, decoded in batches to columns."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import compress
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from crkd_core.datasets.nuscenes.categories import (
    ATTRIBUTES,
    BICYCLE_RACK,
    detection_label,
)
from crkd_core.datasets.nuscenes.growing_column import GrowingColumn
from crkd_core.datasets.nuscenes.point_counts import MOST_POINTS
from crkd_core.datasets.nuscenes.records import TableReader
from crkd_core.datasets.nuscenes.table_records import AnnotationRecord, InstanceRecord, NameRecord, VisibilityRecord
from crkd_core.datasets.nuscenes.text_column import TextColumn
from crkd_core.datasets.nuscenes.token_keys import token_keys

NOT_A_NUMBER = -(2**31)
"""Of a count of points that the table does not have or that is NaN."""
_VISIBILITIES = {"v0-40": 1, "v40-60": 2, "v60-80": 3, "v80-100": 4}
_KNOWN_ATTRIBUTES = frozenset(ATTRIBUTES)
_BOX = {"translation": 3, "size": 3, "rotation": 4}
_BOX_COLUMNS: dict[str, tuple[type, int]] = {
    "keys": (np.uint64, 2), "previous": (np.uint64, 2), "following": (np.uint64, 2), "has_previous": (np.bool_, 0),
    "has_following": (np.bool_, 0), "instance": (np.int32, 0), "every_instance": (np.int32, 0), "sample": (np.int32, 0),
    "label": (np.int8, 0), "visibility": (np.int8, 0), "lidar_count": (np.int32, 0), "radar_count": (np.int32, 0),
    "geometry": (np.float64, 10), "rack_sample": (np.int32, 0), "rack_geometry": (np.float64, 10),
}  # fmt: skip


@dataclass(frozen=True)
class Instances:
    """Annotated objects: what they are.

    Attributes:
        rows: by token.
        category: index into `names` of every row; `label`: index into ``DETECTION_CLASSES``, -1 if not detected.
    """

    tokens: list[str]
    rows: dict[str, int]
    category: NDArray[np.int64]
    names: list[str]
    label: NDArray[np.int8]
    is_rack: NDArray[np.bool_]

    def counts(self, boxes: "AnnotatedBoxes") -> dict[str, int]:
        """Annotations of every category that has any, the most frequent first."""
        of_category = self.category[boxes.every_instance]
        counts: Counter[str] = Counter()
        for name, count in zip(self.names, np.bincount(of_category, minlength=len(self.names)).tolist()):
            counts[name] += count
        return {name: count for name, count in counts.most_common() if count}


@dataclass(frozen=True)
class AnnotatedBoxes:
    """What the annotations of detected classes say, as columns, in the order of the table.

    Attributes:
        keys, previous, following: (N, 2) keys of the own token and of the linked ones.
        has_previous, has_following: whether there is such a link.
        instance: row of the instance; `every_instance`: that of all annotations.
        lidar_count, radar_count: as they were read: negative, or ``NOT_A_NUMBER``.
        geometry: (N, 10) centre, size, rotation.
        single_attribute: whether there is one known attribute, or none.
        unknown_attributes: names of first attributes that nuScenes does not know.
        counted: whether any annotation at all has a point.
    """

    table: TableReader[AnnotationRecord]
    tokens: TextColumn
    keys: NDArray[np.uint64]
    previous: NDArray[np.uint64]
    following: NDArray[np.uint64]
    has_previous: NDArray[np.bool_]
    has_following: NDArray[np.bool_]
    instance: NDArray[np.int32]
    every_instance: NDArray[np.int32]
    sample: NDArray[np.int32]
    label: NDArray[np.int8]
    visibility: NDArray[np.int8]
    lidar_count: NDArray[np.int32]
    radar_count: NDArray[np.int32]
    geometry: NDArray[np.float64]
    rack_sample: NDArray[np.int32]
    rack_geometry: NDArray[np.float64]
    attributes: list[str]
    single_attribute: NDArray[np.bool_]
    unknown_attributes: list[str]
    counted: bool


def read_instances(folder: Path) -> Instances:
    """All instances.

    Raises:
        DatasetError: a table is damaged, or a category is missing.
    """
    categories = TableReader(folder, "category", NameRecord)
    name_of = categories.index(lambda record: categories.text(record, "name").strip())
    names, category_rows = list(name_of.values()), {token: row for row, token in enumerate(name_of)}
    labels = [-1 if (label := detection_label(name)) is None else label for name in names]
    table = TableReader(folder, "instance", InstanceRecord)
    tokens, parts = list[str](), [np.empty(0, np.int64)]
    for batch in table.batches():
        tokens += table.own_tokens(batch)
        parts.append(table.find_rows(category_rows, batch, "category_token", "category"))
    category = np.concatenate(parts)
    return Instances(
        tokens=tokens,
        rows=table.rows(tokens),
        category=category,
        names=names,
        label=np.array(labels, dtype=np.int8)[category],
        is_rack=np.array([name == BICYCLE_RACK for name in names], dtype=bool)[category],
    )


def read_visibilities(folder: Path) -> dict[str, int]:
    """Visibility, 1 to 4, by token: by the name of the level, or the token itself, which nuScenes numbers."""
    table = TableReader(folder, "visibility", VisibilityRecord)

    def level(record: VisibilityRecord) -> int:
        token = table.token(record)
        return _VISIBILITIES.get(table.text(record, "level", ""), int(token) if token in ("1", "2", "3", "4") else 0)

    return table.index(level)


def read_boxes(
    folder: Path,
    sample_rows: Mapping[str, int],
    instances: Instances,
    attributes: Mapping[str, str],
    visibilities: Mapping[str, int],
) -> AnnotatedBoxes:
    """The annotations of detected classes.

    Args:
        sample_rows: row of every sample, by token.
        attributes, visibilities: name and level (1 to 4) by token.

    Raises:
        DatasetError: the table is damaged, or names what is not there.
    """
    table = TableReader(folder, "sample_annotation", AnnotationRecord)
    growing = {name: GrowingColumn(*kind) for name, kind in _BOX_COLUMNS.items()}
    tokens, first_attributes = TextColumn(), _FirstAttributes(table, attributes)
    counted = False
    for batch in table.batches():
        instance = table.find_rows(instances.rows, batch, "instance_token", "instance")
        lidar, radar = _counts(table, batch, "num_lidar_pts"), _counts(table, batch, "num_radar_pts")
        counted = counted or bool((lidar > 0).any() or (radar > 0).any())
        label = instances.label[instance]
        racks = list(compress(batch, ((label < 0) & instances.is_rack[instance]).tolist()))
        detected = label >= 0
        boxes = list(compress(batch, detected.tolist()))
        own_tokens = table.own_tokens(boxes)
        tokens.extend(own_tokens)
        previous, has_previous = _link_keys(table.links(boxes, "prev"))
        following, has_following = _link_keys(table.links(boxes, "next"))
        columns = {
            "keys": token_keys(own_tokens),
            "previous": previous,
            "following": following,
            "has_previous": has_previous,
            "has_following": has_following,
            "instance": instance[detected],
            "every_instance": instance,
            "sample": table.find_rows(sample_rows, boxes, "sample_token", "sample"),
            "label": label[detected],
            "visibility": np.array([visibilities.get(str(box.visibility_token), 0) for box in boxes], dtype=np.int8),
            "lidar_count": lidar[detected],
            "radar_count": radar[detected],
            "geometry": table.numbers(boxes, _BOX),
            "rack_sample": table.find_rows(sample_rows, racks, "sample_token", "sample"),
            "rack_geometry": table.numbers(racks, _BOX),
        }
        for name, column in columns.items():
            growing[name].extend(column)
        first_attributes.add(boxes)
    return AnnotatedBoxes(
        table=table,
        tokens=tokens,
        **{name: column.finish() for name, column in growing.items()},
        attributes=first_attributes.names,
        single_attribute=np.array(first_attributes.single, dtype=bool),
        unknown_attributes=first_attributes.unknown,
        counted=counted,
    )


def _link_keys(tokens: list[str]) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    """Keys of linked tokens, and whether there is a link."""
    linking = np.array(list(map(bool, tokens)), dtype=bool)
    keys = np.zeros((len(tokens), 2), dtype=np.uint64)
    keys[linking] = token_keys(list(filter(None, tokens)))
    return keys, linking


class _FirstAttributes:
    """Attributes of boxes: the first one counts, and one that nuScenes does not know counts as none."""

    def __init__(self, table: TableReader[AnnotationRecord], name_of: Mapping[str, str]) -> None:
        self._table, self._name_of = table, name_of
        self._known = {token: name for token, name in name_of.items() if name in _KNOWN_ATTRIBUTES}
        self.names, self.unknown = list[str](), list[str]()
        self.single = list[bool]()

    def add(self, boxes: list[AnnotationRecord]) -> None:
        """Those of some more boxes."""
        for box in boxes:
            listed: Any = box.attribute_tokens
            if type(listed) is list and len(listed) == 1 and listed[0] in self._known:  # nearly all are so
                self.names.append(self._known[listed[0]])
                self.single.append(True)
                continue
            tokens = self._table.tokens(box, "attribute_tokens")
            if not tokens:
                self.names.append("")
                self.single.append(True)
                continue
            name = self._name_of.get(str(tokens[0]))
            if name is None:
                raise self._table.no_record(str(tokens[0]), "attribute")
            is_known = name in _KNOWN_ATTRIBUTES
            if not is_known:
                self.unknown.append(name)
            self.names.append(name if is_known else "")
            self.single.append(is_known and len(tokens) == 1)


def _counts(table: TableReader[AnnotationRecord], records: list[AnnotationRecord], field: str) -> NDArray[np.int64]:
    values = list(map(attrgetter(field), records))
    try:
        counts = np.array(values, dtype=np.int64) if set(map(type, values)) <= {int} else None
    except OverflowError:
        counts = None
    if counts is None:
        counts = np.array([_count(table, record, field) for record in records], dtype=np.int64)
    return np.where(counts == NOT_A_NUMBER, counts, np.clip(counts, -MOST_POINTS, MOST_POINTS))


def _count(table: TableReader[AnnotationRecord], record: AnnotationRecord, field: str) -> int:
    value = getattr(record, field)
    if type(value) is int:
        return min(max(value, -MOST_POINTS), MOST_POINTS)
    if value in (None, UNSET) or value != value:
        return NOT_A_NUMBER
    return table.integer(record, field, (-MOST_POINTS, MOST_POINTS))
