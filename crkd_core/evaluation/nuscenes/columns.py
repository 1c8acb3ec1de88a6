"""Annotated and detected boxes of a whole split as columns, for metrics without a loop over boxes."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float64, Int8, Int32, Int64
from numpy.typing import NDArray

from crkd_core.artifacts.prepared_format import check_format
from crkd_core.artifacts.tables import numbers_of, read_table
from crkd_core.config.description import DatasetDescription
from crkd_core.datasets.nuscenes.point_counts import total_points
from crkd_core.datasets.prepared import preparing
from crkd_core.datasets.prepared.prepared_data import PreparedData
from crkd_core.errors import DatasetError, UsageError

_GT_COLUMNS = (
    "token",
    "instance",
    "sample",
    "label",
    "box",
    "translation",
    "rotation",
    "velocity",
    "visibility",
    "lidar_points",
    "radar_points",
    "attribute",
)
_DETECTION_COLUMNS = (
    "sample_token",
    "label",
    "score",
    "box",
    "global_translation",
    "global_rotation",
    "global_velocity",
    "attribute",
)
_Boxes = TypeVar("_Boxes", bound="BoxColumns")


@dataclass(frozen=True)
class BoxColumns:
    """Boxes of many samples in the global frame, those of a sample together; one row a box.

    Attributes:
        row: where the box is in the table it was read from (``annotations.parquet`` or ``detections.parquet``).
        sample: index into :attr:`SplitSamples.tokens`.
        label: detection class.
        translation: gravity centre (m).
        size_wlh: width, length, height (m).
        rotation: quaternion (w, x, y, z).
        velocity: vx, vy (m/s), NaN where unknown.
        attribute: index into the description's attributes, -1 for none.
        ego_distance: horizontal distance from the car (m).
        score: 0 to 1; -1 for annotations.
        points: LiDAR and radar points inside; -1 where nobody knows, and for detections.
        visibility: 1 to 4 (0 to 40, 60, 80, 100% visible), 0 where not given and for detections.
    """

    row: Int64[np.ndarray, " n"]
    sample: Int32[np.ndarray, " n"]
    label: Int8[np.ndarray, " n"]
    translation: Float64[np.ndarray, "n 3"]
    size_wlh: Float64[np.ndarray, "n 3"]
    rotation: Float64[np.ndarray, "n 4"]
    velocity: Float64[np.ndarray, "n 2"]
    attribute: Int8[np.ndarray, " n"]
    ego_distance: Float64[np.ndarray, " n"]
    score: Float64[np.ndarray, " n"]
    points: Int32[np.ndarray, " n"]
    visibility: Int8[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.row)

    def __getitem__(self: _Boxes, chosen: Any) -> _Boxes:
        """Some of the boxes, by mask, slice or indices."""
        return type(self)(**{field.name: getattr(self, field.name)[chosen] for field in fields(self)})

    @cached_property
    def speed_mps(self) -> Float64[np.ndarray, " n"]:
        """Horizontal speed; NaN where the velocity is unknown."""
        return np.hypot(self.velocity[:, 0], self.velocity[:, 1])


@dataclass(frozen=True)
class GtColumns(BoxColumns):
    """Annotated boxes (gt), and what is known of their objects.

    Attributes:
        token: nuScenes annotation token.
        instance: token of the object, the same in all of its annotations.
        lidar_points, radar_points: points of each sensor inside; -1 where nobody knows.
    """

    token: NDArray[np.object_]
    instance: NDArray[np.object_]
    lidar_points: Int32[np.ndarray, " n"]
    radar_points: Int32[np.ndarray, " n"]


@dataclass(frozen=True)
class SplitSamples:
    """The samples that are evaluated, and what the benchmark's filters need of them.

    Attributes:
        tokens: nuScenes sample tokens; boxes refer to them by index.
        ego_xy: (S, 2) position of the car at the key frame's LiDAR time, global frame (m).
        rack_sample: (R,) sample of each annotated bicycle rack (or what else the description says); its box in the
            global frame follows.
        description: of the data set.
    """

    tokens: tuple[str, ...]
    ego_xy: Float64[np.ndarray, "s 2"]
    rack_sample: Int32[np.ndarray, " r"]
    rack_translation: Float64[np.ndarray, "r 3"]
    rack_size_wlh: Float64[np.ndarray, "r 3"]
    rack_rotation: Float64[np.ndarray, "r 4"]
    description: DatasetDescription


def read_samples(prepared: PreparedData, tokens: Sequence[str]) -> SplitSamples:
    """The samples `tokens` of a prepared data set.

    Raises:
        StaleArtifactError: the data were prepared in an older format.
        DatasetError: a token is unknown.
        DamagedArtifactError: a table cannot be read.
    """
    artifact = prepared.artifact
    check_format(artifact)
    racks = read_table(artifact, preparing.BICYCLE_RACKS)
    sample, kept = _samples_of(numbers_of(racks["sample"]), prepared.rows(tokens))
    return SplitSamples(
        tokens=tuple(tokens),
        ego_xy=prepared.ego_positions(tokens)[:, :2],
        rack_sample=sample,
        rack_translation=numbers_of(racks["translation"])[kept],
        rack_size_wlh=numbers_of(racks["size"])[kept],
        rack_rotation=numbers_of(racks["rotation"])[kept],
        description=prepared.description,
    )


def read_gt(prepared: PreparedData, samples: SplitSamples) -> GtColumns:
    """Every annotated box of the detection classes in the samples, in the order of the tables within a sample.

    Raises:
        DatasetError: an attribute is not one of the description's.
        DamagedArtifactError: the table cannot be read.
    """
    table = read_table(prepared.artifact, preparing.ANNOTATIONS, _GT_COLUMNS)
    sample, kept = _samples_of(numbers_of(table["sample"]), prepared.rows(samples.tokens))
    table = table.take(kept)
    description = samples.description
    attribute, unknown = _attribute_ids(table["attribute"], description.attributes)
    if unknown is not None:
        raise DatasetError(
            f"an annotation of {prepared.version} has the attribute {unknown!r}, which {description.text_name} lacks."
        )
    translation = numbers_of(table["translation"])
    lidar_points, radar_points = numbers_of(table["lidar_points"]), numbers_of(table["radar_points"])
    return GtColumns(
        row=kept,
        sample=sample,
        label=numbers_of(table["label"]),
        translation=translation,
        size_wlh=numbers_of(table["box"])[:, 3:6],
        rotation=numbers_of(table["rotation"]),
        velocity=numbers_of(table["velocity"])[:, :2],
        attribute=attribute,
        ego_distance=_ego_distance(translation, samples.ego_xy[sample]),
        score=np.full(len(kept), -1.0),
        points=total_points(lidar_points, radar_points),
        visibility=numbers_of(table["visibility"]),
        token=table["token"].to_numpy(),
        instance=table["instance"].to_numpy(),
        lidar_points=lidar_points,
        radar_points=radar_points,
    )


def detection_columns(table: pa.Table, samples: SplitSamples) -> BoxColumns:
    """Detections (rows of ``evaluation.io.detections.SCHEMA``), in the order of the table within a sample.

    Raises:
        UsageError: a sample is not in the split or has more than 500 boxes, or a number is NaN that must not be: what
            the devkit refuses too.
    """
    table = table.select(_DETECTION_COLUMNS)
    index = pc.index_in(table["sample_token"], value_set=pa.array(samples.tokens, pa.string()))
    if index.null_count:
        token = table["sample_token"].filter(pc.is_null(index))[0]
        raise UsageError(
            f"the detections have the sample {token}, which is not among the {len(samples.tokens)} to score."
        )
    sample = numbers_of(index)
    crowded = np.bincount(sample, minlength=1).argmax()
    count = int((sample == crowded).sum())
    if count > (most := samples.description.evaluation.max_boxes):
        raise UsageError(f"the sample {samples.tokens[crowded]} has {count} detections; the benchmark accepts {most}.")
    order = np.argsort(sample, kind="stable")
    if (order[:-1] > order[1:]).any():
        table, sample = table.take(order), sample[order]
    description = samples.description
    attribute, unknown = _attribute_ids(table["attribute"], description.attributes)
    if unknown is not None:
        known = ", ".join(description.attributes) or "none"
        raise UsageError(f"a detection has the attribute {unknown!r}; {description.text_name} knows {known}.")
    translation = numbers_of(table["global_translation"])
    boxes = BoxColumns(
        row=order,
        sample=sample,
        label=numbers_of(table["label"]),
        translation=translation,
        size_wlh=numbers_of(table["box"])[:, 3:6].astype(np.float64),
        rotation=numbers_of(table["global_rotation"]),
        velocity=numbers_of(table["global_velocity"]),
        attribute=attribute,
        ego_distance=_ego_distance(translation, samples.ego_xy[sample]),
        score=numbers_of(table["score"]).astype(np.float64),
        points=np.full(len(sample), -1, dtype=np.int32),
        visibility=np.zeros(len(sample), dtype=np.int8),
    )
    _check_numbers(boxes, samples)
    return boxes


def _samples_of(
    prepared_rows: NDArray[np.int32], evaluated_rows: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Of records that refer to prepared samples, those of the evaluated ones, grouped: new sample index, record."""
    new_index = np.full(max(prepared_rows.max(initial=-1), evaluated_rows.max(initial=-1)) + 1, -1, dtype=np.int32)
    new_index[evaluated_rows] = np.arange(len(evaluated_rows), dtype=np.int32)
    sample = new_index[prepared_rows]
    kept = np.flatnonzero(sample >= 0)
    kept = kept[np.argsort(sample[kept], kind="stable")]
    return sample[kept], kept


def _attribute_ids(column: pa.ChunkedArray, known: Sequence[str]) -> tuple[NDArray[np.int8], str | None]:
    """Indices into the known attributes, -1 for none, and the first name that is not there."""
    index = pc.index_in(column, value_set=pa.array(["", *known]))
    if index.null_count:
        return np.zeros(0, dtype=np.int8), column.filter(pc.is_null(index))[0].as_py()
    return (numbers_of(index) - 1).astype(np.int8), None


def _ego_distance(translation: NDArray[np.float64], ego_xy: NDArray[np.float64]) -> NDArray[np.float64]:
    offset = translation[:, :2] - ego_xy
    return np.sqrt(offset[:, 0] ** 2 + offset[:, 1] ** 2)


def _check_numbers(boxes: BoxColumns, samples: SplitSamples) -> None:
    for name, values in (
        ("translation", boxes.translation),
        ("size", boxes.size_wlh),
        ("rotation", boxes.rotation),
        ("score", boxes.score[:, None]),
    ):
        wrong = np.isnan(values).any(axis=1)
        if wrong.any():
            token = samples.tokens[boxes.sample[wrong.argmax()]]
            raise UsageError(f"a detection of the sample {token} has a {name} that is not a number.")
