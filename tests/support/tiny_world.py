"""A minimal nuScenes folder for the devkit: one scene, three key frames, one object of every class; no sensor files."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from crkd_core.geometry.transforms import quaternions_from_yaws
from tests.support.described import CLASSES

VERSION = "v1.0-tiny-mini"
SPLIT = "mini_val"
_SCENE = "scene-0103"
_CATEGORIES = (
    "vehicle.car",
    "vehicle.truck",
    "vehicle.construction",
    "vehicle.bus.rigid",
    "vehicle.trailer",
    "movable_object.barrier",
    "vehicle.motorcycle",
    "vehicle.bicycle",
    "human.pedestrian.adult",
    "movable_object.trafficcone",
)
_ATTRIBUTES = ("vehicle.moving", "cycle.with_rider", "pedestrian.moving")
_FRAMES = 3


def write_tiny_world(root: Path, frames: int = _FRAMES) -> list[dict]:
    """Write the folder; returns its annotated objects as result boxes, which score perfectly as detections."""
    annotations = [_annotation(frame, label, frames) for frame in range(frames) for label in range(10)]
    samples = [f"sample{frame}" for frame in range(frames)]
    tables = {
        "scene": [
            {"token": "scene", "name": _SCENE, "log_token": "log", "nbr_samples": frames, "description": "tiny",
             "first_sample_token": samples[0], "last_sample_token": samples[-1]}
        ],
        "sample": [
            {"token": token, "timestamp": 500_000 * i, "scene_token": "scene",
             "prev": samples[i - 1] if i else "", "next": samples[i + 1] if i + 1 < frames else ""}
            for i, token in enumerate(samples)
        ],
        "sample_data": [
            {"token": f"lidar{i}", "sample_token": token, "ego_pose_token": f"pose{i}", "is_key_frame": True,
             "calibrated_sensor_token": "calibrated", "timestamp": 500_000 * i, "fileformat": "pcd", "height": 0,
             "width": 0, "filename": f"samples/LIDAR_TOP/{i}.pcd.bin", "prev": "", "next": ""}
            for i, token in enumerate(samples)
        ],
        "ego_pose": [
            {"token": f"pose{i}", "timestamp": 500_000 * i, "rotation": [1, 0, 0, 0], "translation": [2.0 * i, 0, 0]}
            for i in range(frames)
        ],
        "calibrated_sensor": [
            {"token": "calibrated", "sensor_token": "sensor", "translation": [0.9, 0, 1.8], "rotation": [1, 0, 0, 0],
             "camera_intrinsic": []}
        ],
        "sensor": [{"token": "sensor", "channel": "LIDAR_TOP", "modality": "lidar"}],
        "sample_annotation": annotations,
        "instance": [
            {"token": f"object{label}", "category_token": f"category{label}", "nbr_annotations": frames,
             "first_annotation_token": f"box0-{label}", "last_annotation_token": f"box{frames - 1}-{label}"}
            for label in range(10)
        ],
        "category": [
            {"token": f"category{i}", "name": name, "description": ""} for i, name in enumerate(_CATEGORIES)
        ],
        "attribute": [{"token": name, "name": name, "description": ""} for name in _ATTRIBUTES],
        "visibility": [{"token": "4", "level": "v80-100", "description": ""}],
        "log": [{"token": "log", "logfile": "", "vehicle": "", "date_captured": "2020-01-01", "location": "nowhere"}],
        "map": [{"token": "map", "log_tokens": ["log"], "category": "semantic_prior", "filename": "maps/map.png"}],
    }  # fmt: skip
    (root / VERSION).mkdir(parents=True)
    for name, rows in tables.items():
        (root / VERSION / f"{name}.json").write_text(json.dumps(rows))
    (root / "maps").mkdir()
    Image.fromarray(np.zeros((8, 8), dtype=np.uint8)).save(root / "maps" / "map.png")
    return [_result_box(row, label % 10) for label, row in enumerate(annotations)]


def write_results(path: Path, boxes: list[dict], frames: int = _FRAMES) -> Path:
    """A submission of these boxes that names every sample."""
    results: dict[str, list] = {f"sample{frame}": [] for frame in range(frames)}
    for box in boxes:
        results[box["sample_token"]].append(box)
    path.write_text(json.dumps({"meta": {"use_camera": True}, "results": results}))
    return path


def _annotation(frame: int, label: int, frames: int) -> dict:
    angle = 2 * np.pi * label / 10
    attribute = _attribute(label)
    return {
        "token": f"box{frame}-{label}",
        "sample_token": f"sample{frame}",
        "instance_token": f"object{label}",
        "visibility_token": "4",
        "attribute_tokens": [attribute] if attribute else [],
        "translation": [15 * np.cos(angle) + 0.5 * frame, 15 * np.sin(angle), 1.0],
        "size": [1.0 + 0.1 * label, 2.0, 1.5],
        "rotation": quaternions_from_yaws(0.3 * label).tolist(),
        "prev": f"box{frame - 1}-{label}" if frame else "",
        "next": f"box{frame + 1}-{label}" if frame + 1 < frames else "",
        "num_lidar_pts": 5,
        "num_radar_pts": 1,
    }


def _attribute(label: int) -> str:
    name = CLASSES[label]
    if name in ("barrier", "traffic_cone"):
        return ""
    if name == "pedestrian":
        return "pedestrian.moving"
    return "cycle.with_rider" if name in ("motorcycle", "bicycle") else "vehicle.moving"


def _result_box(row: dict, label: int) -> dict:
    return {
        "sample_token": row["sample_token"],
        "translation": row["translation"],
        "size": row["size"],
        "rotation": row["rotation"],
        "velocity": [1.0, 0.0],
        "detection_name": CLASSES[label],
        "detection_score": 0.9,
        "attribute_name": _attribute(label),
    }
