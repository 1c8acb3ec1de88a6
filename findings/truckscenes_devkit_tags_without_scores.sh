#!/usr/bin/env bash
# truckscenes-devkit 1.2.0: with evaluate_tags, seven scene tags never have a score, and absent ones score like missed ones.
#
# Expected: a tag is scored on the scenes that have it, and a tag without scenes has nan, as errors that cannot be measured do.
# Seen: the other way round. Detections equal to the annotations of one scene, tagged `weather.snow;area.city`: AP of cars is 1
# for `area.city`, but nan for `weather.snow`; `weather.rain`, which no scene has, gets mAP 0.0. The seven that are nan whatever
# the data are weather.other_weather, .snow, .hail, area.parking, .other_area, season.spring and lighting.other_lighting.
# What follows: a break-down by tags has to count each tag's objects itself, and cannot take the devkit's nan for "absent" or
# its 0 for "missed"; recordings of one's own in snow or on parking places get no score from it.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/environment"
"$folder/environment/bin/pip" install --quiet --disable-pip-version-check "truckscenes-devkit==1.2.0" "numpy==1.26.4"
cd "$folder"

"$folder/environment/bin/python" - <<'PYTHON'
import json
import math
from pathlib import Path

from truckscenes import TruckScenes
from truckscenes.eval.common.constants import TAG_NAMES
from truckscenes.eval.detection.config import config_factory
from truckscenes.eval.detection.evaluate import DetectionEval
from truckscenes.utils.splits import create_splits_scenes

# One key frame in snow with one car 20 m ahead.
UPRIGHT = [1.0, 0.0, 0.0, 0.0]
time_us = 1_000_000_000_000_000
car = {"translation": [20.0, 0.0, 0.0], "size": [2.0, 4.5, 1.5], "rotation": UPRIGHT}
tables = {
    "attribute": [{"token": "parked", "name": "vehicle.parked", "description": ""}],
    "calibrated_sensor": [
        {
            "token": "calibration", "sensor_token": "lidar", "translation": [0.0, 0.0, 2.0], "rotation": UPRIGHT,
            "camera_intrinsic": [],
        }
    ],
    "category": [{"token": "car", "name": "vehicle.car", "description": "", "index": 0}],
    "ego_motion_cabin": [],
    "ego_motion_chassis": [],
    "ego_pose": [{"token": "pose", "timestamp": time_us, "rotation": UPRIGHT, "translation": [0.0, 0.0, 0.0]}],
    "instance": [
        {
            "token": "instance", "category_token": "car", "nbr_annotations": 1, "first_annotation_token": "annotation",
            "last_annotation_token": "annotation",
        }
    ],
    "sample": [{"token": "sample", "timestamp": time_us, "prev": "", "next": "", "scene_token": "scene"}],
    "sample_annotation": [
        {
            **car, "token": "annotation", "sample_token": "sample", "instance_token": "instance",
            "visibility_token": "4", "attribute_tokens": ["parked"], "num_lidar_pts": 9, "num_radar_pts": 1,
            "prev": "", "next": "",
        }
    ],
    "sample_data": [
        {
            "token": "cloud", "sample_token": "sample", "ego_pose_token": "pose", "timestamp": time_us,
            "calibrated_sensor_token": "calibration", "fileformat": "pcd", "is_key_frame": True, "height": 0,
            "width": 0, "filename": "cloud.pcd", "prev": "", "next": "",
        }
    ],
    "scene": [
        {
            "token": "scene", "log_token": "", "nbr_samples": 1, "first_sample_token": "sample",
            "last_sample_token": "sample", "name": create_splits_scenes()["mini_val"][0],
            "description": "weather.snow;area.city", "weather_annotation_token": "weather",
        }
    ],
    "sensor": [{"token": "lidar", "channel": "LIDAR_LEFT", "modality": "lidar"}],
    "visibility": [{"token": "4", "level": 4, "description": ""}],
    "weather_annotation": [
        {"token": "weather", "precipitation": 0.0, "temperature": 280.0, "wind_speed": 0.0, "wind_direction": 0.0}
    ],
}
root = Path("data/v1.2-mini")
root.mkdir(parents=True)
for table, records in tables.items():
    (root / f"{table}.json").write_text(json.dumps(records))
detection = {
    **car, "sample_token": "sample", "velocity": [0.0, 0.0], "detection_name": "car", "detection_score": 1.0,
    "attribute_name": "vehicle.parked",
}
meta = {f"use_{name}": True for name in ("camera", "lidar", "radar", "map", "external")}
Path("result.json").write_text(json.dumps({"meta": meta, "results": {"sample": [detection]}}))
truckscenes = TruckScenes("v1.2-mini", "data", verbose=False)
config = config_factory("detection_cvpr_2024")
evaluation = DetectionEval(truckscenes, config, "result.json", "mini_val", "scores", verbose=False)
scores = evaluation.main(render_curves=False, evaluate_tags=True)
print()
for tag in ("all", "area.city", "weather.snow", "weather.rain"):
    print(f"{tag}: mAP {scores[tag]['mean_ap']:.4f}, AP of cars {scores[tag]['mean_dist_aps']['car']:.4f}")
never = [tag for tag in TAG_NAMES if math.isnan(scores[tag]["mean_ap"])]
print("never scored:", *never)
assert scores["area.city"]["mean_dist_aps"]["car"] > 0.99
assert len(never) == 7 and "weather.snow" in never, "changed: a tag that the scene has is scored"
assert scores["weather.rain"]["mean_ap"] == 0.0, "changed: a tag without scenes has no score"
PYTHON
