"""Small random data sets on disk, with what the benchmark's filters look at, and detections on them."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from crkd_core.artifacts.manifest import Manifest
from crkd_core.artifacts.prepared_format import FORMAT
from crkd_core.artifacts.tables import write_table
from crkd_core.artifacts.workspace import Artifact
from crkd_core.config.description_files import nuscenes
from crkd_core.datasets.nuscenes.nuscenes_tables import read_tables
from crkd_core.datasets.nuscenes.splits import splits_of_scenes
from crkd_core.datasets.nuscenes.sweeps import choose_files
from crkd_core.datasets.prepared import preparing
from crkd_core.datasets.prepared.prepared_data import PreparedData
from crkd_core.evaluation.io.detections import SCHEMA
from tests.support.described import CLASSES
from tests.support.tiny_world import VERSION, write_tiny_world

_LABELS = nuscenes().label_of_category
_CATEGORIES = (*_LABELS, *nuscenes().ignored_inside.categories, "animal")
_RACK = len(_LABELS)
_CYCLES = [list(_LABELS).index(name) for name in ("vehicle.bicycle", "vehicle.motorcycle")]


@dataclass(frozen=True)
class WorldCase:
    """Knobs of a random data set; `score_step` above 0 makes equal scores frequent."""

    seed: int
    frames: int = 3
    objects: int = 40
    cycles: float = 0.4
    score_step: float = 0.05
    false_alarms: int = 30
    silent: float = 0.1


def write_random_world(root: Path, case: WorldCase) -> pa.Table:
    """Write the tables of a data set below `root`; returns detections on it."""
    rng = np.random.default_rng(case.seed)
    write_tiny_world(root, case.frames)
    ego = np.round(rng.normal(size=(case.frames, 3)) * 3 + 600)
    stamps = np.cumsum(rng.choice([500_000, 1_600_000, 2_900_000, 4_000_000], case.frames))
    categories = rng.integers(0, len(_CATEGORIES), case.objects)
    categories[: max(1, case.objects // 8)] = _RACK
    cycles = rng.random(case.objects) < case.cycles
    categories[cycles & (categories != _RACK)] = _CYCLES[0]
    categories[-1] = 0
    annotations = _annotations(rng, case, categories, ego)
    for table in ("sample", "sample_data"):
        _change(root, table, lambda row, i: {**row, "timestamp": int(stamps[i])})
    _change(root, "ego_pose", lambda row, i: {**row, "translation": ego[i].tolist()})
    _write(root, "category", [{"token": name, "name": name, "description": ""} for name in _CATEGORIES])
    _write(root, "attribute", [{"token": name, "name": name, "description": ""} for name in nuscenes().attributes])
    instances = [{"token": f"object{i}", "category_token": _CATEGORIES[c]} for i, c in enumerate(categories)]
    ends = {"first_annotation_token": "", "last_annotation_token": "", "nbr_annotations": 0}
    _write(root, "instance", [instance | ends for instance in instances])
    _write(root, "sample_annotation", annotations)
    return _detections(rng, case, annotations, categories, ego)


def prepare_world(root: Path, folder: Path) -> PreparedData:
    """What evaluation reads of prepared data, by the functions of the stage."""
    tables = read_tables(root / VERSION, nuscenes())
    files, order = choose_files(tables, 1, 1), preparing.order_samples(tables)
    for name, table in preparing.evaluation_tables(tables, files, order, splits_of_scenes(VERSION)).items():
        write_table(folder / name, table)
    facts = {"version": VERSION, "dataroot": str(root), "samples_per_split": {}}
    settings = {"format": FORMAT}
    manifest = Manifest(
        stage="prepare", name="tiny", created="", command="crkd prepare", settings=settings, facts=facts
    )
    return PreparedData(Artifact(folder, manifest))


def detection_table(rows: list[dict]) -> pa.Table:
    """Detections as the stage writes them."""
    filled = [{"class_name": CLASSES[row["label"]], **row} for row in rows]
    return pa.Table.from_pylist(filled, schema=SCHEMA)


def _annotations(rng: np.random.Generator, case: WorldCase, categories: np.ndarray, ego: np.ndarray) -> list[dict]:
    rows: list[dict] = []
    racks: list[dict] = []
    for index, category in enumerate(categories):
        centre = ego[0] + rng.uniform(-1, 1, 3) * rng.choice([8.0, 45.0])
        if rng.random() < 0.1:
            # As far away as the benchmark looks, to the last bit.
            centre = ego[0] + rng.choice([[30.0, 40.0, 0.0], [24.0, 32.0, 0.0], [18.0, 24.0, 1.0]])
        size = rng.uniform(0.5, 3, 3) if category != _RACK else np.array([2.0, 6.0, 4.0])
        rotation = [1.0, 0.0, 0.0, 0.0] if rng.random() < 0.3 else rng.normal(size=4) * [1, 0.02, 0.02, 1]
        if category in _CYCLES and racks and rng.random() < 0.6:
            rack = racks[rng.integers(len(racks))]
            offset = rng.choice([0.0, 0.5, -0.5, 0.3, 0.7], 3) * np.array(rack["size"])[[1, 0, 2]]
            centre = np.array(rack["translation"]) + offset
        drift = np.array([0.7, 0.1, 0.0]) * (category not in (_RACK, *_CYCLES))
        present = np.flatnonzero(rng.random(case.frames) < 0.8)
        if index == case.objects - 1:
            present = np.arange(case.frames)
        tokens = [f"box{index}-{frame}" for frame in present]
        for position, frame in enumerate(present):
            attribute = str(rng.choice(nuscenes().attributes))
            rows.append(
                {
                    "token": tokens[position],
                    "sample_token": f"sample{frame}",
                    "instance_token": f"object{index}",
                    "visibility_token": "4",
                    "attribute_tokens": [attribute] if rng.random() < 0.7 else [],
                    "translation": (centre + frame * drift).tolist(),
                    "size": size.tolist(),
                    "rotation": list(rotation),
                    "prev": tokens[position - 1] if position else "",
                    "next": (tokens[position + 1 :] or [""])[0],
                    "num_lidar_pts": int(rng.choice([0, 4])),
                    "num_radar_pts": int(rng.choice([0, 1])),
                }
            )
        if category == _RACK:
            racks += rows[len(rows) - len(present) :]
    if not any(row["num_lidar_pts"] + row["num_radar_pts"] for row in rows):
        rows[0]["num_lidar_pts"] = 4  # without any point at all, nobody would have counted
    return [rows[index] for index in rng.permutation(len(rows))]


def _detections(
    rng: np.random.Generator, case: WorldCase, annotations: list[dict], categories: np.ndarray, ego: np.ndarray
) -> pa.Table:
    labels = [_LABELS.get(_CATEGORIES[category]) for category in categories]
    boxes = []
    for row in annotations:
        label = labels[int(row["instance_token"].removeprefix("object"))]
        if label is not None and rng.random() < 0.8:
            noise = rng.normal(size=3) * rng.choice([0.0, 0.2, 1.0])
            frame = int(row["sample_token"].removeprefix("sample"))
            boxes.append((frame, label, row["translation"] + noise, row["size"]))
    for _ in range(case.false_alarms):
        frame = int(rng.integers(case.frames))
        boxes.append((frame, int(rng.integers(10)), ego[frame] + rng.uniform(-60, 60, 3), rng.uniform(0.5, 4, 3)))
    quiet = rng.random(case.frames) < case.silent
    rows = []
    for frame, label, centre, size in boxes:
        attribute = str(rng.choice(["", *nuscenes().attributes]))
        velocity = [math.nan, 0.0] if rng.random() < 0.1 else rng.normal(size=2)
        score = rng.random()
        rows.append(
            {
                "sample_token": f"sample{frame}",
                "label": label,
                "score": round(score / case.score_step) * case.score_step if case.score_step else score,
                "box": [0.0, 0.0, 0.0, *size, 0.0, 0.0, 0.0],
                "global_translation": centre,
                "global_rotation": rng.normal(size=4) * [1, 0.02, 0.02, 1],
                "global_velocity": velocity,
                "attribute": attribute,
            }
        )
    kept = [row for row in rows if not quiet[int(row["sample_token"].removeprefix("sample"))]]
    return detection_table(sorted(kept, key=lambda row: row["sample_token"]))


def _change(root: Path, table: str, change) -> None:
    rows = json.loads((root / VERSION / f"{table}.json").read_text())
    _write(root, table, [change(row, index) for index, row in enumerate(rows)])


def _write(root: Path, table: str, rows: list[dict]) -> None:
    (root / VERSION / f"{table}.json").write_text(json.dumps(rows))
