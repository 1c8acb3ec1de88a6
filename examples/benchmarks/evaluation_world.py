"""A data set to score on, and detections as a detector makes them: no sensor files, but the density of nuScenes' val.

Objects stand and drive in groups around the path of the car (rows of parked cars, walkers, lines of barriers), about 34
a sample. Most are found, some decimetres off, and again by weaker detections beside them; the rest of about 170
detections a sample are false alarms with low scores.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from crkd_core.artifacts.manifest import Manifest
from crkd_core.artifacts.prepared_format import FORMAT
from crkd_core.artifacts.tables import write_table
from crkd_core.artifacts.workspace import Artifact
from crkd_core.config.description_files import nuscenes
from crkd_core.datasets.nuscenes.nuscenes_tables import read_tables
from crkd_core.datasets.nuscenes.splits import official_scenes, splits_of_scenes
from crkd_core.datasets.nuscenes.sweeps import choose_files
from crkd_core.datasets.prepared import preparing
from crkd_core.datasets.prepared.prepared_data import PreparedData
from crkd_core.evaluation.io.detections import SCHEMA
from crkd_core.evaluation.nuscenes.attributes import attribute_names

VERSION, SPLIT = "v1.0-trainval", "val"
SCENE_SAMPLES = 41
_GROUPS = 16
_CLASSES = nuscenes().class_names
# By class: share of the objects, width, length, height, speed of those that drive.
_SHARE = np.array([0.42, 0.08, 0.013, 0.014, 0.02, 0.13, 0.011, 0.012, 0.215, 0.085])
_SIZE = np.array(
    [
        [1.95, 4.6, 1.7], [2.5, 6.9, 2.8], [2.8, 6.4, 3.2], [2.9, 11.0, 3.5], [2.9, 12.2, 3.9],
        [2.5, 0.5, 1.0], [0.8, 2.1, 1.5], [0.6, 1.7, 1.3], [0.67, 0.73, 1.77], [0.41, 0.41, 1.07],
    ]
)  # fmt: skip
_SPEED = np.array([7.0, 6.0, 0.5, 6.0, 3.0, 0.0, 6.0, 3.0, 1.3, 0.0])
_CATEGORY = [entry.categories[0] for entry in nuscenes().classes.values()]
_RACK = len(_CLASSES)


@dataclass
class _Scene:
    """Objects of one scene: class (`_RACK`: bicycle rack), box at its first sample, velocity; the car's way."""

    ego: NDArray[np.float64]
    label: NDArray[np.int64]
    start: NDArray[np.float64]
    size: NDArray[np.float64]
    yaw: NDArray[np.float64]
    velocity: NDArray[np.float64]


def write_world(root: Path, samples: int, detections: int, seed: int = 0) -> pa.Table:
    """Write the nuScenes tables of `samples` samples; returns about `detections` detections a sample."""
    rng = np.random.default_rng(seed)
    records: dict[str, list[dict]] = {name: [] for name in ("scene", "sample", "sample_data", "ego_pose", "instance")}
    records["sample_annotation"] = []
    parts, val_scenes = [], official_scenes("val")
    for number in range(-(-samples // SCENE_SAMPLES)):
        count = min(SCENE_SAMPLES, samples - number * SCENE_SAMPLES)
        scene = _scene(rng, count)
        tokens = [f"{number:08x}{index:024x}" for index in range(count)]
        _record_scene(records, val_scenes[number], tokens, scene)
        seen = _annotate(rng, records, tokens, scene)
        parts.append(_detect(rng, tokens, scene, seen, detections))
    _write_tables(root, records)
    return pa.concat_tables(parts).combine_chunks()


def prepare_world(root: Path, folder: Path) -> None:
    """Write what evaluation reads of prepared data, with the functions of ``crkd prepare``."""
    tables = read_tables(root / VERSION, nuscenes())
    files, order = choose_files(tables, 1, 1), preparing.order_samples(tables)
    for name, table in preparing.evaluation_tables(tables, files, order, splits_of_scenes(VERSION)).items():
        write_table(folder / name, table)


def open_world(folder: Path) -> PreparedData:
    """The prepared data that :func:`prepare_world` wrote."""
    facts = {"version": VERSION, "dataroot": str(folder)}
    settings = {"format": FORMAT}
    manifest = Manifest(
        stage="prepare", name=VERSION, created="", command="crkd prepare", settings=settings, facts=facts
    )
    return PreparedData(Artifact(folder, manifest))


def _scene(rng: np.random.Generator, count: int) -> _Scene:
    labels, starts, sizes, yaws, velocities = [], [], [], [], []
    heading = rng.uniform(-np.pi, np.pi)
    forward, left = np.array([np.cos(heading), np.sin(heading)]), np.array([-np.sin(heading), np.cos(heading)])
    origin, way_m = rng.uniform(300, 2000, 2), 2.5 * count
    for _ in range(_GROUPS):
        label = int(rng.choice(len(_SHARE), p=_SHARE / _SHARE.sum()))
        members = int(rng.integers(1, 9))
        gap = _SIZE[label, 1] + rng.uniform(0.5, 3.0)
        start = origin + forward * rng.uniform(-100, way_m + 100) + left * rng.normal() * 18
        row = start + gap * np.arange(members)[:, None] * (forward if rng.random() < 0.7 else left)
        starts.append(np.c_[row + 0.3 * rng.normal(size=(members, 2)), rng.normal(1.0, 0.2, members)])
        labels.append(np.full(members, label))
        sizes.append(_SIZE[label] * rng.uniform(0.85, 1.15, (members, 3)))
        yaws.append(heading + rng.choice([0.0, np.pi]) + 0.05 * rng.normal(size=members))
        moving = rng.random(members) < 0.3
        velocities.append(np.where(moving, _SPEED[label], 0.0)[:, None] * forward * rng.choice([-1, 1]))
    rack = int(rng.random() < 0.3)
    labels.append(np.full(rack, _RACK))
    starts.append(np.tile([*(origin + forward * 30 + left * 8), 1.0], (rack, 1)))
    sizes.append(np.tile([2.0, 8.0, 3.0], (rack, 1)))
    yaws.append(np.full(rack, heading))
    velocities.append(np.zeros((rack, 2)))
    ego = np.c_[origin + np.arange(count)[:, None] * 2.5 * forward, np.zeros(count)]
    return _Scene(ego, *(np.concatenate(part) for part in (labels, starts, sizes, yaws, velocities)))


def _places(scene: _Scene) -> NDArray[np.float64]:
    """(frames, objects, 3) centres."""
    times = 0.5 * np.arange(len(scene.ego))[:, None, None]
    return scene.start + times * np.pad(scene.velocity, ((0, 0), (0, 1)))


def _record_scene(records: dict[str, list[dict]], name: str, tokens: list[str], scene: _Scene) -> None:
    first = len(records["sample"]) * 10_000_000
    records["scene"].append(
        {"token": name, "name": name, "log_token": "log", "description": "", "nbr_samples": len(tokens),
         "first_sample_token": tokens[0], "last_sample_token": tokens[-1]}
    )  # fmt: skip
    for index, token in enumerate(tokens):
        stamp = first + 500_000 * index
        links = {"prev": tokens[index - 1] if index else "", "next": (tokens[index + 1 :] or [""])[0]}
        records["sample"].append({"token": token, "timestamp": stamp, "scene_token": name, **links})
        records["sample_data"].append(
            {"token": f"lidar-{token}", "sample_token": token, "ego_pose_token": f"pose-{token}", "is_key_frame": True,
             "calibrated_sensor_token": "calibrated", "timestamp": stamp, "fileformat": "pcd", "height": 0, "width": 0,
             "filename": f"samples/LIDAR_TOP/{token}.pcd.bin", "prev": "", "next": ""}
        )  # fmt: skip
        pose = {"token": f"pose-{token}", "timestamp": stamp, "rotation": [1, 0, 0, 0]}
        records["ego_pose"].append(pose | {"translation": scene.ego[index].tolist()})


def _annotate(
    rng: np.random.Generator, records: dict[str, list[dict]], tokens: list[str], scene: _Scene
) -> NDArray[np.bool_]:
    """Record the boxes within 75 m; returns (frames, objects) which are seen."""
    places = _places(scene)
    distance = np.linalg.norm(places[..., :2] - scene.ego[:, None, :2], axis=-1)
    seen = distance < 75
    names = [*_CATEGORY, *nuscenes().ignored_inside.categories]
    moving = np.linalg.norm(scene.velocity, axis=1) > 0
    for index in np.flatnonzero(seen.any(axis=0)):
        label = int(scene.label[index])
        instance = f"{tokens[0]}-{index}"
        ends = {"nbr_annotations": int(seen[:, index].sum()), "first_annotation_token": "", "last_annotation_token": ""}
        records["instance"].append({"token": instance, "category_token": names[label], **ends})
        choices = nuscenes().classes[_CLASSES[label]].attributes if label != _RACK else ()
        attribute = [choices[0] if moving[index] else choices[-1]] if choices and rng.random() < 0.99 else []
        half = scene.yaw[index] / 2
        frames = np.flatnonzero(seen[:, index]).tolist()
        points = rng.poisson(400 / np.maximum(distance[:, index], 2))
        for position, frame in enumerate(frames):
            before, after = frames[position - 1 : position] if position else [], frames[position + 1 : position + 2]
            records["sample_annotation"].append(
                {"token": f"{instance}-{frame}", "sample_token": tokens[frame], "instance_token": instance,
                 "visibility_token": "4", "attribute_tokens": attribute, "translation": places[frame, index].tolist(),
                 "size": scene.size[index].tolist(), "rotation": [np.cos(half), 0.0, 0.0, np.sin(half)],
                 "prev": f"{instance}-{before[0]}" if before else "", "next": f"{instance}-{after[0]}" if after else "",
                 "num_lidar_pts": int(points[frame]), "num_radar_pts": 0}
            )  # fmt: skip
    return seen & (scene.label != _RACK)


def _detect(
    rng: np.random.Generator, tokens: list[str], scene: _Scene, seen: NDArray[np.bool_], per_sample: int
) -> pa.Table:
    """Noisy copies of what is seen within 60 m, weaker ones beside them, and false alarms."""
    places = _places(scene)
    near = seen & (np.linalg.norm(places[..., :2] - scene.ego[:, None, :2], axis=-1) < 60)
    frame, index = np.nonzero(near & (rng.random(near.shape) < 0.85))
    copies = 1 + rng.poisson(1.0, len(frame))
    frame, index = np.repeat(frame, copies), np.repeat(index, copies)
    first = np.r_[True, (np.diff(frame) != 0) | (np.diff(index) != 0)] if len(frame) else np.zeros(0, dtype=bool)
    seen_count = len(frame)
    noise = np.where(first, 0.35, 1.5)[:, None] * rng.normal(size=(seen_count, 3)) * [1, 1, 0.2]
    alarms = max(0, per_sample * len(tokens) - seen_count)
    alarm_frame = rng.integers(0, len(tokens), alarms)
    offset = np.c_[rng.uniform(-54, 54, (alarms, 2)), rng.normal(1.0, 0.5, alarms)]
    alarm_label = rng.choice(len(_SHARE), alarms, p=_SHARE / _SHARE.sum())
    label = np.r_[scene.label[index], alarm_label]
    score = np.r_[np.where(first, rng.beta(3, 2, seen_count), rng.beta(1.2, 8, seen_count)), rng.beta(1, 12, alarms)]
    size = np.r_[scene.size[index], _SIZE[alarm_label]] * rng.normal(1, 0.08, (seen_count + alarms, 1)).clip(0.5)
    half = np.r_[scene.yaw[index] + 0.15 * rng.normal(size=seen_count), rng.uniform(-np.pi, np.pi, alarms)] / 2
    velocity = np.r_[scene.velocity[index], np.zeros((alarms, 2))] + 0.3 * rng.normal(size=(seen_count + alarms, 2))
    centre = np.r_[places[frame, index] + noise, scene.ego[alarm_frame] + offset]
    order = np.lexsort((-score, np.r_[frame, alarm_frame]))
    columns = {
        "sample_token": [tokens[row] for row in np.r_[frame, alarm_frame][order]],
        "label": label[order].astype(np.int8),
        "class_name": [_CLASSES[value] for value in label[order]],
        "score": score[order].astype(np.float32),
        "box": _lists(np.c_[np.zeros_like(centre), size, np.zeros((len(size), 3))][order].astype(np.float32)),
        "global_translation": _lists(centre[order]),
        "global_rotation": _lists(np.c_[np.cos(half), np.zeros((len(half), 2)), np.sin(half)][order]),
        "global_velocity": _lists(velocity[order]),
        "attribute": attribute_names(label[order], velocity[order], nuscenes()),
    }
    return pa.table(columns, schema=SCHEMA)


def _lists(values: NDArray) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(values).ravel()), values.shape[1])


def _write_tables(root: Path, records: dict[str, list[dict]]) -> None:
    named = {"category": [*_CATEGORY, *nuscenes().ignored_inside.categories], "attribute": nuscenes().attributes}
    fixed = {
        **{table: [{"token": n, "name": n, "description": ""} for n in names] for table, names in named.items()},
        "calibrated_sensor": [
            {"token": "calibrated", "sensor_token": "sensor", "translation": [0.9, 0, 1.8], "rotation": [1, 0, 0, 0],
             "camera_intrinsic": []}
        ],
        "sensor": [{"token": "sensor", "channel": "LIDAR_TOP", "modality": "lidar"}],
        "visibility": [{"token": "4", "level": "v80-100", "description": ""}],
        "log": [{"token": "log", "logfile": "", "vehicle": "", "date_captured": "2020-01-01", "location": "nowhere"}],
        "map": [{"token": "map", "log_tokens": ["log"], "category": "semantic_prior", "filename": "maps/map.png"}],
    }  # fmt: skip
    (root / VERSION).mkdir(parents=True)
    for name, rows in (records | fixed).items():
        (root / VERSION / f"{name}.json").write_text(json.dumps(rows))
    (root / "maps").mkdir()
    Image.fromarray(np.zeros((8, 8), dtype=np.uint8)).save(root / "maps" / "map.png")
