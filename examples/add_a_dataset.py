"""How to bring data of one's own: a made-up car of four cameras, two LiDARs and two radars, from files to a score.

    python examples/add_a_dataset.py

Five steps, each of which prints what it did:

1. **Files**: nuScenes' tables with one's own names, beside the sensors' files. Here a simulated drive stands for the
   recording: :func:`record` writes it down as this car would have seen it. Its images are of two sizes, one LiDAR's
   files are bare float32 of four columns and the other's are PCD, and the radars measure a speed along the line of
   sight relative to the moving car.
2. **A first description**, which ``crkd prepare --describe`` writes from what is there.
3. **Editing** it: here, which categories make a class, and which classes a head task.
4. **Preparing** with it. What it does not map is told with its counts.
5. **The chain** as for nuScenes: teacher, targets, student, scores.
"""

import json
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from crkd_cli.app import main as crkd_main
from crkd_core.datasets.nuscenes.lidar import read_lidar
from crkd_core.datasets.nuscenes.pcd import encode_points
from crkd_core.datasets.nuscenes.radar import read_radar
from crkd_core.geometry.transforms import inverse_rigid, rigid_transforms, rotations_from_quaternions, transform_points

CAMERAS = {"CAM_FRONT": "front", "CAM_FRONT_LEFT": "left", "CAM_FRONT_RIGHT": "right", "CAM_BACK": "rear"}
HALVED = "rear"
LIDARS = ("roof_left", "roof_right")
RADARS = {"RADAR_FRONT": "bumper", "RADAR_BACK_LEFT": "tail"}
ROOF_RIGHT = {"translation": [0.9, -0.5, 1.7], "rotation": [0.6, 0.0, 0.0, -0.8]}
RADAR_POINT = np.dtype([(name, "<f4") for name in ("x", "y", "z", "power", "doppler")])
CATEGORIES = {
    "vehicle.car": "Car", "vehicle.truck": "Lorry", "vehicle.bus.rigid": "Bus", "vehicle.bus.bendy": "Bus, long",
    "vehicle.bicycle": "Bicycle", "vehicle.motorcycle": "Motorbike", "human.pedestrian.adult": "Adult",
    "human.pedestrian.child": "Child",
}  # fmt: skip
MOVING = ("vehicle.moving", "cycle.with_rider", "pedestrian.moving")


# 1. Files.


def record(world: Path, out: Path) -> None:
    """A simulated world as this car records it: tables in ``tables/``, files in ``samples/`` and ``sweeps/``."""
    source = next(world.glob("v1.0-*"))
    tables = {path.stem: json.loads(path.read_text()) for path in source.glob("*.json")}
    _rename_sensors(tables)
    for index, scene in enumerate(sorted(tables["scene"], key=lambda scene: scene["name"])):
        scene["name"] = f"drive {index + 1}"
    for category in tables["category"]:
        category["name"] = CATEGORIES.get(category["name"], category["name"])
    for attribute in tables["attribute"]:
        attribute["name"] = "moving" if attribute["name"] in MOVING else "standing"
    channel_of, pose_of = _channels_and_poses(tables)
    added: list[dict[str, Any]] = []
    for row in tables["sample_data"]:
        channel, stored = channel_of[row["calibrated_sensor_token"]], world / row["filename"]
        file = Path(row["filename"])
        row["filename"] = f"{file.parts[0]}/{channel}/{row['timestamp']}"
        if channel in CAMERAS.values():
            row["filename"] += ".jpg"
            _write_image(stored, out / row["filename"], row, channel)
        elif channel in RADARS.values():
            row["filename"] += ".pcd"
            _write_radar(stored, out / row["filename"])
        else:
            right = row | {
                "token": f"{row['token']}-right",
                "calibrated_sensor_token": f"{row['calibrated_sensor_token']}-right",
            }
            row["filename"] += ".bin"
            right["filename"] = f"{file.parts[0]}/{LIDARS[1]}/{row['timestamp']}.pcd"
            right_from_left = (
                inverse_rigid(pose_of[right["calibrated_sensor_token"]]) @ pose_of[row["calibrated_sensor_token"]]
            )
            _write_lidars(stored, out / row["filename"], out / right["filename"], right_from_left)
            added.append(right)
    tables["sample_data"] += added
    (out / "tables").mkdir(parents=True)
    for name, records in tables.items():
        (out / "tables" / f"{name}.json").write_text(json.dumps(records))


def _rename_sensors(tables: dict[str, list[dict[str, Any]]]) -> None:
    """Sensors that this car has, under its names; the second LiDAR is where no nuScenes LiDAR is."""
    names = CAMERAS | RADARS | {"LIDAR_TOP": LIDARS[0]}
    sensors = {sensor["token"]: sensor for sensor in tables["sensor"] if sensor["channel"] in names}
    for sensor in sensors.values():
        sensor["channel"] = names[sensor["channel"]]
    mounted = [record for record in tables["calibrated_sensor"] if record["sensor_token"] in sensors]
    for record in list(mounted):
        channel = sensors[record["sensor_token"]]["channel"]
        if channel == HALVED:
            fx, skew, cx = record["camera_intrinsic"][0]
            _, fy, cy = record["camera_intrinsic"][1]
            record["camera_intrinsic"] = [[fx / 2, skew / 2, cx / 2], [0, fy / 2, cy / 2], [0, 0, 1]]
        if channel == LIDARS[0]:
            mounted.append({**record, **ROOF_RIGHT, "token": f"{record['token']}-right", "sensor_token": LIDARS[1]})
    tables["sensor"] = [*sensors.values(), {"token": LIDARS[1], "channel": LIDARS[1], "modality": "lidar"}]
    tables["calibrated_sensor"] = mounted
    kept = {record["token"] for record in mounted}
    tables["sample_data"] = [row for row in tables["sample_data"] if row["calibrated_sensor_token"] in kept]


def _channels_and_poses(tables: dict[str, list[dict[str, Any]]]) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """Channel and ego_from_sensor (4x4) of every calibrated sensor by token."""
    channels = {sensor["token"]: sensor["channel"] for sensor in tables["sensor"]}
    channel_of = {record["token"]: channels[record["sensor_token"]] for record in tables["calibrated_sensor"]}
    pose_of = {
        record["token"]: rigid_transforms(
            rotations_from_quaternions(np.array(record["rotation"])), np.array(record["translation"])
        )
        for record in tables["calibrated_sensor"]
    }
    return channel_of, pose_of


def _write_image(stored: Path, out: Path, row: dict[str, Any], channel: str) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(stored) as image:
        width, height = image.width // 2 * 2, image.height // 2 * 2
        size = (width // 2, height // 2) if channel == HALVED else image.size
        image.resize(size).save(out, quality=95)
    row["width"], row["height"] = size


def _write_lidars(stored: Path, left: Path, right: Path, right_from_left: np.ndarray) -> None:
    """Points to the left as bare float32 x, y, z, intensity; those to the right in the other LiDAR's frame, as PCD."""
    points = read_lidar(stored)[:, :4]
    is_right = points[:, 0] > 0
    for path in (left, right):
        path.parent.mkdir(parents=True, exist_ok=True)
    points[~is_right].astype("<f4").tofile(left)
    moved = np.zeros(int(is_right.sum()), [(name, "<f4") for name in ("x", "y", "z", "intensity")])
    position = transform_points(right_from_left[None], points[is_right, :3].astype(np.float64))
    for axis, name in enumerate("xyz"):
        moved[name] = position[:, axis]
    moved["intensity"] = points[is_right, 3]
    right.write_bytes(encode_points(moved))


def _write_radar(stored: Path, out: Path) -> None:
    """Position, power, and the speed along the line of sight as this radar measures it: relative to itself."""
    out.parent.mkdir(parents=True, exist_ok=True)
    points = read_radar(stored)
    measured = np.zeros(len(points), RADAR_POINT)
    for name in ("x", "y", "z"):
        measured[name] = points[name]
    measured["power"] = points["rcs"]
    distance = np.hypot(points["x"], points["y"])
    measured["doppler"] = (points["vx"] * points["x"] + points["vy"] * points["y"]) / np.maximum(distance, 1e-3)
    out.write_bytes(encode_points(measured))


# 2. to 4. The description.

CLASSES = """\
classes:
  car: {categories: [Car], range_m: 50, attributes: [moving, standing], when_moving: moving, when_standing: standing}
  large: {categories: [Lorry, Bus, "Bus, long"], attributes: [moving, standing], when_moving: moving,
    when_standing: standing}
  bike: {categories: [Bicycle, Motorbike], range_m: 40, attributes: [moving, standing], when_moving: moving,
    when_standing: standing}
  person: {categories: [Adult, Child], range_m: 40, nms_size_factor: 2.5, attributes: [moving, standing],
    when_moving: moving, when_standing: standing}
tasks: [{classes: [car], circle_nms_m2: 4}, {classes: [large]}, {classes: [bike, person]}]
"""


def edited(text: str) -> str:
    """A first description with classes as this car's makers want them: theirs is everything up to the cameras."""
    start, end = text.index("# Detection classes"), text.index("# Cameras")
    return text[:start] + CLASSES + "\n" + text[end:]


def crkd(*arguments: str | Path) -> None:
    """A command, in this process."""
    words = [str(argument) for argument in arguments]
    print(f"$ crkd {shlex.join(words)}", flush=True)
    try:
        crkd_main(words)
    except SystemExit as end:
        if end.code:
            raise


SHORT = ("train.teacher.epochs=1", "train.student.epochs=1", "train.distill.epochs=1", "train.workers=0")


def settings(values: Sequence[str] = SHORT) -> list[str]:
    """Of the network and its training: as small and short as can be."""
    return ["--preset", "tiny", *(word for value in values for word in ("--set", value))]


def main(folder: Path) -> None:
    """All steps, in an empty folder."""
    world, car, description, workspace = folder / "world", folder / "car", folder / "car.yaml", folder / "workspace"
    crkd(
        "simulate", "--size", "tiny", "--scenes", "2", "--val-scenes", "1", "--samples", "2", "--out", world, "--quiet"
    )
    print("1. files")
    record(world, car)
    for path in sorted(car.glob("*/*")):
        files = len(list(path.iterdir())) if path.is_dir() else 0
        print(f"  {path.relative_to(car)}{f': {files} files' if files else ''}")
    print("2. a first description")
    crkd("prepare", "--nuscenes", car, "--describe", "--out", description)
    print("3. edited")
    description.write_text(edited(description.read_text()))
    print("4. prepared")
    (folder / "val.txt").write_text("drive 3\n")
    described = ("--dataset", description, "--val-scenes", folder / "val.txt")
    crkd("prepare", "--nuscenes", car, *described, "--workspace", workspace, "--quiet")
    print("5. the chain")
    for command in (["train-teacher", *settings()], ["extract-teacher"], ["distill", "--init", "none"]):
        crkd(*command, "--workspace", workspace, "--quiet")
    crkd("evaluate", "--split", "val", "--workers", "0", "--workspace", workspace, "--quiet")
    metrics = json.loads((workspace / "evaluate" / "crkd-val" / "metrics.json").read_text())
    print(f"  a score for each of: {', '.join(metrics['label_aps'])}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
