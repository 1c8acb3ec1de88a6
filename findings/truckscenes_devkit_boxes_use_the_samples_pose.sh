#!/usr/bin/env bash
# truckscenes-devkit 1.2.0: get_sample_data moves boxes into an image by the car's pose at the key frame, not at the image.
#
# Expected, as in nuscenes-devkit: the pose that the image's own record names by `ego_pose_token`, at the image's time stamp.
# Seen: the pose nearest in time to the *sample*, whatever the record names. Cameras fire up to some 50 ms from the key frame;
# at 25 m/s an image of 40 ms later shows a standing car one metre nearer than the box that is drawn on it. The pose is looked
# up by time over the whole table, too: where two scenes share time stamps (anonymised recordings that start at zero), it can
# be the other scene's.
# What follows: project boxes by the image's `ego_pose_token`, and do not take the devkit's pictures for a calibration check.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/environment"
"$folder/environment/bin/pip" install --quiet --disable-pip-version-check "truckscenes-devkit==1.2.0" "numpy==1.26.4"
cd "$folder"

"$folder/environment/bin/python" - <<'PYTHON'
import json
from pathlib import Path

import numpy as np
from truckscenes import TruckScenes

# A truck at 25 m/s along x, facing x; a car stands 40 m ahead of it at the key frame. The camera looks along x.
key_frame_us, image_us = 1_000_000_000_000_000, 1_000_000_000_040_000
LOOKS_ALONG_X = [0.5, -0.5, 0.5, -0.5]
UPRIGHT = [1.0, 0.0, 0.0, 0.0]


def pose(token, timestamp, x):
    return {"token": token, "timestamp": timestamp, "rotation": UPRIGHT, "translation": [x, 0.0, 0.0]}


def write_tables(name, other_scene):
    poses = [pose("at-key-frame", key_frame_us, 0.0), pose("at-image", image_us, 1.0)]
    if other_scene:  # recorded at the same (anonymised) time, somewhere else
        poses.append(pose("elsewhere", key_frame_us, 5000.0))
    tables = {
        "attribute": [],
        "calibrated_sensor": [
            {
                "token": "calibration", "sensor_token": "camera", "translation": [0.0, 0.0, 0.0],
                "rotation": LOOKS_ALONG_X, "camera_intrinsic": [[1000, 0, 960], [0, 1000, 540], [0, 0, 1]],
            }
        ],
        "category": [{"token": "car", "name": "vehicle.car", "description": "", "index": 0}],
        "ego_motion_cabin": [],
        "ego_motion_chassis": [],
        "ego_pose": poses,
        "instance": [
            {
                "token": "instance", "category_token": "car", "nbr_annotations": 1,
                "first_annotation_token": "annotation", "last_annotation_token": "annotation",
            }
        ],
        "sample": [{"token": "sample", "timestamp": key_frame_us, "prev": "", "next": "", "scene_token": "scene"}],
        "sample_annotation": [
            {
                "token": "annotation", "sample_token": "sample", "instance_token": "instance", "visibility_token": "4",
                "attribute_tokens": [], "translation": [40.0, 0.0, 0.0], "size": [2.0, 4.5, 1.5], "rotation": UPRIGHT,
                "num_lidar_pts": 9, "num_radar_pts": 1, "prev": "", "next": "",
            }
        ],
        "sample_data": [
            {
                "token": "image", "sample_token": "sample", "ego_pose_token": "at-image",
                "calibrated_sensor_token": "calibration", "timestamp": image_us, "fileformat": "jpg",
                "is_key_frame": True, "height": 1080, "width": 1920, "filename": "image.jpg", "prev": "", "next": "",
            }
        ],
        "scene": [
            {
                "token": "scene", "log_token": "", "nbr_samples": 1, "first_sample_token": "sample",
                "last_sample_token": "sample", "name": "scene-1", "description": "",
                "weather_annotation_token": "weather",
            }
        ],
        "sensor": [{"token": "camera", "channel": "CAMERA_LEFT_FRONT", "modality": "camera"}],
        "visibility": [{"token": "4", "level": 4, "description": ""}],
        "weather_annotation": [
            {"token": "weather", "precipitation": 0.0, "temperature": 280.0, "wind_speed": 0.0, "wind_direction": 0.0}
        ],
    }
    root = Path(name) / "v1.2-mini"
    root.mkdir(parents=True)
    for table, records in tables.items():
        (root / f"{table}.json").write_text(json.dumps(records))


def depth(name):
    """Depth of the car in the image as the devkit gives it (m)."""
    truckscenes = TruckScenes("v1.2-mini", name, verbose=False)
    _, boxes, _ = truckscenes.get_sample_data("image", box_vis_level=0)
    return [float(box.center[2]) for box in boxes]


write_tables("one", other_scene=False)
write_tables("two", other_scene=True)
(drawn,) = depth("one")
print(f"the image's pose has the car at 39.0 m, the devkit's box is at {drawn:.1f} m")
elsewhere = depth("two")
print(f"with a pose of another scene at the same time: {elsewhere or 'the car is not in the image'}")
assert np.isclose(drawn, 40.0), "changed: boxes are moved by the image's own pose"
assert not elsewhere or not np.isclose(elsewhere[0], 39.0), "changed: poses are looked up within the scene"
PYTHON
