"""The made-up car of ``examples/add_a_dataset.py``, without a simulator: for tests of descriptions."""

import json
from pathlib import Path
from typing import Any

from examples.add_a_dataset import record
from tests.support.lidar_cloud import cloud
from tests.support.nuscenes_factory import write_folder

DESCRIPTION: dict[str, Any] = {
    "name": "own",
    "classes": {
        "car": {
            "categories": ["Car"],
            "attributes": ["moving", "standing"],
            "when_moving": "moving",
            "when_standing": "standing",
        },
        "person": {"categories": ["Adult", "Child"], "range_m": 40},
    },
    "cameras": ["front", "left", "right", "rear"],
    "lidars": ["roof_left", "roof_right"],
    "radars": ["bumper", "tail"],
    "radar_points": {"velocity": "relative", "velocity_fields": ["doppler"], "rcs_field": "power"},
}


def write_car(root: Path) -> Path:
    """The car's folder, and in ``world`` beside it the nuScenes folder that it was made from; returns the car's."""
    world = write_folder(root / "world", scenes={"scene-0061": 3, "scene-0103": 2})
    for key_frames in (True, False):
        for seed, path in enumerate(world.files("LIDAR_TOP", key_frames)):
            cloud(seed=seed)[:, :5].tofile(path)
    record(world.root, root / "car")
    return root / "car"


def write_description(path: Path, **changes: Any) -> Path:
    """The car's description with other values; JSON is YAML."""
    path.write_text(json.dumps(DESCRIPTION | changes))
    return path
