"""Detections of many samples as one table, and as a nuScenes submission."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from crkd_core.artifacts.atomic import atomic_path
from crkd_core.artifacts.tables import explain_parquet, read_table
from crkd_core.artifacts.workspace import Artifact
from crkd_core.config.description import DatasetDescription
from crkd_core.errors import DamagedArtifactError
from crkd_core.evaluation.nuscenes.attributes import attribute_names
from crkd_core.geometry.boxes import Boxes3D
from crkd_core.geometry.transforms import (
    multiply_quaternions,
    quaternions_from_rotations,
    quaternions_from_yaws,
    rotations_from_quaternions,
)
from crkd_core.models.decode import SampleDetections
from crkd_core.progress import in_words

TABLE_NAME = "detections.parquet"
SUBMISSION_NAME = "submission.json"

SCHEMA = pa.schema(
    [
        pa.field("sample_token", pa.string(), metadata={"doc": "nuScenes sample"}),
        pa.field("label", pa.int8(), metadata={"doc": "index into the ten detection classes"}),
        pa.field("class_name", pa.string(), metadata={"doc": "detection class"}),
        pa.field("score", pa.float32(), metadata={"doc": "confidence, 0 to 1"}),
        pa.field(
            "box", pa.list_(pa.float32(), 9), metadata={"doc": "x y z w l h yaw vx vy, model frame (m, rad, m/s)"}
        ),
        pa.field("global_translation", pa.list_(pa.float64(), 3), metadata={"doc": "gravity centre, global frame (m)"}),
        pa.field("global_rotation", pa.list_(pa.float64(), 4), metadata={"doc": "quaternion w x y z, global frame"}),
        pa.field("global_velocity", pa.list_(pa.float64(), 2), metadata={"doc": "vx vy, global frame (m/s)"}),
        pa.field("attribute", pa.string(), metadata={"doc": "nuScenes attribute, empty where the class has none"}),
    ]
)
"""Columns of a detection table, as those of nuScenes are documented."""
_LABEL = SCHEMA.get_field_index("label")

_EXACT = {"score": pa.float64(), "box": pa.list_(pa.float64(), 9)}
RESULTS_SCHEMA = pa.schema([field.with_type(_EXACT.get(field.name, field.type)) for field in SCHEMA])
"""The same for detections read from a file: scored as they stand there, not rounded to float32."""


def with_classes(schema: pa.Schema, description: DatasetDescription) -> pa.Schema:
    """A schema of detections whose documentation says how many classes the data set has."""
    doc = f"index into the {in_words(len(description.classes))} detection classes"
    return schema.set(_LABEL, schema.field(_LABEL).with_metadata({"doc": doc}))


@dataclass(frozen=True)
class GlobalBoxes:
    """Boxes in the global frame, as nuScenes writes them.

    Attributes:
        translation: (M, 3) gravity centre (m).
        rotation_wxyz: (M, 4) unit quaternions.
        velocity: (M, 2) horizontal velocity (m/s).
    """

    translation: NDArray[np.float64]
    rotation_wxyz: NDArray[np.float64]
    velocity: NDArray[np.float64]


def to_global(boxes: Boxes3D, global_from_lidar: NDArray[np.float64]) -> GlobalBoxes:
    """Boxes of the model frame in the global frame, through the full rotation (roll and pitch included).

    The velocity is taken as horizontal in the model frame; of the rotated vector the global x and y are kept.
    """
    values = boxes.tensor.detach().cpu().double().numpy()
    matrix = np.asarray(global_from_lidar, dtype=np.float64)
    rotation = matrix[:3, :3]
    velocity = np.nan_to_num(values[:, 7:9], nan=0.0)
    return GlobalBoxes(
        translation=values[:, :3] @ rotation.T + matrix[:3, 3],
        rotation_wxyz=multiply_quaternions(quaternions_from_rotations(rotation), quaternions_from_yaws(values[:, 6])),
        velocity=(velocity @ rotation[:, :2].T)[:, :2],
    )


def to_model_frame(
    boxes: GlobalBoxes, size_wlh: NDArray[np.float64], global_from_lidar: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(M, 9) rows of ``Boxes3D`` in the model frame; yaw and velocity are those of the horizontal directions."""
    matrix = np.asarray(global_from_lidar, dtype=np.float64)
    rotation = matrix[:3, :3]
    heading = rotations_from_quaternions(boxes.rotation_wxyz)[:, :, 0] @ rotation
    return np.concatenate(
        [
            (boxes.translation - matrix[:3, 3]) @ rotation,
            size_wlh,
            np.arctan2(heading[:, 1], heading[:, 0])[:, None],
            (boxes.velocity @ rotation[:2])[:, :2],
        ],
        axis=1,
    )


@dataclass(frozen=True)
class Detections:
    """Detections of many samples: rows of :data:`SCHEMA` or :data:`RESULTS_SCHEMA`, a sample's together, best first.

    Samples in which nothing was detected have no row.
    """

    table: pa.Table
    _rows: dict[str, tuple[int, int]] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        tokens = self.table["sample_token"].to_pylist()
        for row, token in enumerate(tokens):
            first, _ = self._rows.get(token, (row, row))
            self._rows[token] = (first, row + 1)

    def __len__(self) -> int:
        return self.table.num_rows

    @staticmethod
    def collect(
        samples: Iterable[tuple[str, SampleDetections, NDArray[np.float64]]], description: DatasetDescription
    ) -> "Detections":
        """Gather (token, detections, ``global_from_lidar``) of many samples of a data set.

        Of each, as many boxes as its benchmark accepts, by score.
        """
        schema = with_classes(SCHEMA, description)
        batches = [_rows_of(*sample, schema, description) for sample in samples]
        return Detections(pa.Table.from_batches(batches, schema=schema))

    def in_order(self, tokens: Iterable[str], description: DatasetDescription) -> "Detections":
        """The same for samples in this order, laid out as :meth:`collect` does: equal detections make equal files."""
        batches = [batch for token in tokens for batch in self.rows(token).to_batches()]
        # Read from a file, the fields of lists have other names.
        schema = with_classes(SCHEMA, description)
        named = [pa.RecordBatch.from_arrays(batch.columns, schema=schema) for batch in batches]
        return Detections(pa.Table.from_batches(named, schema=schema))

    def rows(self, token: str) -> pa.Table:
        """The rows of one sample, without any where nothing was detected."""
        first, last = self._rows.get(token, (0, 0))
        return self.table.slice(first, last - first)

    def sample(self, token: str) -> SampleDetections:
        """The detections of one sample in its model frame."""
        rows = self.rows(token)
        return SampleDetections(
            boxes=Boxes3D(torch.from_numpy(_fixed_lists(rows["box"], 9).astype(np.float32))),
            scores=torch.from_numpy(rows["score"].to_numpy().astype(np.float32)),
            labels=torch.from_numpy(rows["label"].to_numpy().astype(np.int64)),
        )


def read_parts(folder: Path, parts: Iterable[str]) -> pa.Table:
    """Tables of detections that an unfinished run wrote for some samples each, one after the other.

    Raises:
        DamagedArtifactError: one cannot be read.
    """
    tables = []
    for part in parts:
        try:
            tables.append(pq.read_table(folder / part, columns=SCHEMA.names))
        except (pa.ArrowException, OSError) as error:
            raise DamagedArtifactError(
                f"{folder / part} changed after it was written ({explain_parquet(error)}); run the same command again: "
                "it is made again."
            ) from None
    return pa.concat_tables(tables) if tables else SCHEMA.empty_table()


def read_detections(artifact: Artifact) -> Detections:
    """The detections of a finished ``evaluate`` artifact.

    Raises:
        DamagedArtifactError: the table is missing, unreadable or has other columns.
    """
    table = read_table(artifact, TABLE_NAME)
    if not any(table.schema.equals(schema) for schema in (SCHEMA, RESULTS_SCHEMA)):
        raise artifact.damaged(TABLE_NAME, "its columns are not those of a detection table")
    return Detections(table)


def write_submission(path: Path, detections: Detections, tokens: Sequence[str], modalities: Sequence[str]) -> None:
    """Write the nuScenes result file: every sample of `tokens`, also those without detections.

    Args:
        tokens: all samples of the evaluated split.
        modalities: what the model sees, for the file's ``meta`` entry.

    Raises:
        WriteError: the file cannot be written; an older one stays as it was.
    """
    meta = {f"use_{name}": name in modalities for name in ("camera", "lidar", "radar")}
    meta |= {"use_map": False, "use_external": False}
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        stream.write(f'{{"meta": {json.dumps(meta)},\n"results": {{')
        for index, token in enumerate(tokens):
            stream.write(
                ("," if index else "") + f"\n{json.dumps(token)}: {json.dumps(_result_boxes(detections, token))}"
            )
        stream.write("\n}}\n")


def _rows_of(
    token: str,
    detections: SampleDetections,
    global_from_lidar: NDArray[np.float64],
    schema: pa.Schema,
    description: DatasetDescription,
) -> pa.RecordBatch:
    most, names = description.evaluation.max_boxes, description.class_names
    order = torch.argsort(detections.scores, descending=True, stable=True)[:most]
    boxes = Boxes3D(detections.boxes.tensor[order])
    labels = detections.labels[order].cpu().numpy()
    in_global = to_global(boxes, global_from_lidar)
    columns = [
        pa.array([token] * len(boxes), pa.string()),
        pa.array(labels.astype(np.int8)),
        pa.array([names[label] for label in labels.tolist()], pa.string()),
        pa.array(detections.scores[order].detach().cpu().float().numpy()),
        as_fixed_lists(boxes.tensor.detach().cpu().float().numpy()),
        as_fixed_lists(in_global.translation),
        as_fixed_lists(in_global.rotation_wxyz),
        as_fixed_lists(in_global.velocity),
        pa.array(attribute_names(labels, in_global.velocity, description), pa.string()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _result_boxes(detections: Detections, token: str) -> list[dict[str, object]]:
    rows = detections.rows(token)
    sizes = _fixed_lists(rows["box"], 9)[:, 3:6].astype(np.float64).tolist()
    return [
        {
            "sample_token": token,
            "translation": row["global_translation"],
            "size": size,
            "rotation": row["global_rotation"],
            "velocity": row["global_velocity"],
            "detection_name": row["class_name"],
            "detection_score": row["score"],
            "attribute_name": row["attribute"],
        }
        for row, size in zip(rows.to_pylist(), sizes, strict=True)
    ]


def as_fixed_lists(values: NDArray) -> pa.FixedSizeListArray:
    """Rows of numbers as an Arrow column."""
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])


def _fixed_lists(column: pa.ChunkedArray, width: int) -> NDArray:
    # `flatten` minds the offset of a slice, `values` would not.
    parts = [chunk.flatten().to_numpy(zero_copy_only=False).reshape(-1, width) for chunk in column.chunks]
    return np.concatenate(parts) if parts else np.zeros((0, width))
