"""A tiny nuScenes folder with sensor files, for tests: a turning car drives past one landmark that all its sensors see.

Every LiDAR and radar sweep holds the landmark where it is as seen from that sweep, so that sweeps agree only where the
ego motion was taken out. One car drives ahead, one pedestrian has no points inside, one animal is not detected.
"""

import json
import struct
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from crkd_core.config.description_files import nuscenes
from crkd_core.geometry.transforms import inverse_rigid, multiply_quaternions, quaternions_from_yaws
from tests.support.poses import pose

LANDMARK = np.array([30.0, 12.0, 1.0])
CAR_VELOCITY = np.array([4.0, 1.0, 0.0])
START_US = 1_600_000_000_000_000
_KEY_FRAME_US = 500_000
_PERIOD_US = {"lidar": 50_000, "radar": 77_000}
_CAMERA_YAWS = (0.0, -0.96, 0.96, np.pi, 1.92, -1.92)
_RADAR_YAWS = (0.0, 1.57, -1.57, 3.05, -3.05)
_RADAR_FIELDS = (
    "x y z dyn_prop id rcs vx vy vx_comp vy_comp is_quality_valid "
    "ambig_state x_rms y_rms invalid_state pdh0 vx_rms vy_rms"
)
_RADAR_TYPES = ["f4"] * 3 + ["i1", "i2"] + ["f4"] * 5 + ["i1"] * 8
RADAR_DTYPE = np.dtype(list(zip(_RADAR_FIELDS.split(), _RADAR_TYPES, strict=True)))
_CATEGORIES = {"car": "vehicle.car", "walker": "human.pedestrian.adult", "animal": "animal"}


@dataclass
class TinyFolder:
    """The tables of a folder that :func:`write_folder` made; change them and :meth:`save` to make broken ones."""

    root: Path
    version: str
    tables: dict[str, list[dict]] = field(default_factory=dict)

    def save(self) -> None:
        """Write the JSON tables."""
        (self.root / self.version).mkdir(parents=True, exist_ok=True)
        for name, records in self.tables.items():
            (self.root / self.version / f"{name}.json").write_text(json.dumps(records, indent=0))

    def files(self, channel: str, key_frames: bool = True) -> list[Path]:
        """Files of a channel: of its key frames, or of its sweeps."""
        folder = self.root / ("samples" if key_frames else "sweeps") / channel
        return sorted(folder.iterdir()) if folder.is_dir() else []


def ego_pose(timestamp_us: int) -> tuple[np.ndarray, float]:
    """Position and heading of the car."""
    seconds = (timestamp_us - START_US) * 1e-6
    return np.array([100.0 + 5 * seconds, 50.0 + 0.5 * seconds, 0.0]), 0.3 + 0.2 * seconds


def global_from_ego(timestamp_us: int) -> np.ndarray:
    """4x4 pose of the car."""
    position, yaw = ego_pose(timestamp_us)
    return pose(quaternions_from_yaws(yaw), position)


def landmark(timestamp_us: int) -> np.ndarray:
    """The landmark in the global frame: it stands still."""
    return (global_from_ego(START_US) @ [*LANDMARK, 1])[:3]


def radar_bytes(points: np.ndarray, trailing: bytes = b"\0" * 17) -> bytes:
    """A radar PCD file as nuScenes has them, bytes after the points included."""
    return pcd_bytes(points.astype(RADAR_DTYPE)) + trailing


def pcd_bytes(points: np.ndarray, kind: str = "binary", end: str = "\n") -> bytes:
    """A structured array as a PCD file, with the fields, their types and their order.

    Args:
        kind: ``ascii``, ``binary`` or ``binary_compressed`` (of literal bytes only).
        end: of the header's lines.
    """
    columns = [(name, points.dtype[name]) for name in points.dtype.names]
    header = [
        "# .PCD v0.7 - Point Cloud Data file format",
        "VERSION 0.7",
        "FIELDS " + " ".join("_" if name.startswith("_") else name for name, _ in columns),
        "SIZE " + " ".join(str(dtype.base.itemsize) for _, dtype in columns),
        "TYPE " + " ".join(dtype.base.kind.upper() for _, dtype in columns),
        "COUNT " + " ".join(str(int(np.prod(dtype.shape))) for _, dtype in columns),
        f"WIDTH {len(points)}",
        "HEIGHT 1",
        "VIEWPOINT 0 0 0 1 0 0 0",
        f"POINTS {len(points)}",
        f"DATA {kind}",
    ]
    if kind == "ascii":
        numbers = [np.concatenate([np.ravel(value) for value in point]) for point in points]
        body = "".join(" ".join(str(number) for number in row) + "\n" for row in numbers).encode()
    elif kind == "binary":
        body = points.tobytes()
    else:
        raw = b"".join(np.ascontiguousarray(points[name]).tobytes() for name, _ in columns if not name.startswith("_"))
        runs = [raw[start : start + 32] for start in range(0, len(raw), 32)]
        packed = b"".join(bytes([len(run) - 1]) + run for run in runs)
        body = struct.pack("<II", len(packed), len(raw)) + packed
    return "".join(line + end for line in header).encode() + body


def write_folder(
    root: Path,
    version: str = "v1.0-mini",
    scenes: dict[str, int] | None = None,
    sweeps: int = 2,
    image_px: tuple[int, int] = (160, 90),
) -> TinyFolder:
    """Write a folder.

    Args:
        scenes: scene name to number of key frames.
        sweeps: LiDAR and radar sweeps before every key frame but the first.
    """
    folder = TinyFolder(root, version, {name: [] for name in _TABLES})
    mounts = _mounts()
    for channel, mount in mounts.items():
        modality = {"C": "camera", "L": "lidar", "R": "radar"}[channel[0]]
        folder.tables["sensor"].append({"token": f"sensor-{channel}", "channel": channel, "modality": modality})
        matrix = [[image_px[0] * 0.8, 0, image_px[0] / 2], [0, image_px[0] * 0.8, image_px[1] / 2], [0, 0, 1]]
        folder.tables["calibrated_sensor"].append(
            {
                "token": f"calibration-{channel}",
                "sensor_token": f"sensor-{channel}",
                "translation": mount[0],
                "rotation": mount[1],
                "camera_intrinsic": matrix if modality == "camera" else [],
            }
        )
    folder.tables["log"].append({"token": "log", "location": "singapore-onenorth"})
    folder.tables["attribute"].append({"token": "attribute-moving", "name": "vehicle.moving"})
    folder.tables["visibility"] += [{"token": str(level), "level": ""} for level in range(1, 5)]
    folder.tables["category"] += [{"token": f"category-{key}", "name": name} for key, name in _CATEGORIES.items()]
    for number, (name, samples) in enumerate((scenes or {"scene-0061": 3, "scene-0103": 2}).items()):
        _write_scene(folder, number, name, samples, sweeps, image_px, mounts)
    folder.save()
    return folder


_TABLES = (
    "log", "scene", "sample", "sensor", "calibrated_sensor", "sample_data", "ego_pose", "category", "attribute",
    "visibility", "instance", "sample_annotation",
)  # fmt: skip


def _mounts() -> dict[str, tuple[list[float], list[float]]]:
    """Sensor to ego: translation and quaternion."""
    mounts = {nuscenes().reference: ([0.9, 0.0, 1.8], quaternions_from_yaws(-np.pi / 2).tolist())}
    for channel, yaw in zip(nuscenes().cameras, _CAMERA_YAWS, strict=True):
        # Camera axes x right, y down, z forward, then turned about the car's z axis.
        turned = multiply_quaternions(quaternions_from_yaws(yaw), np.array([0.5, -0.5, 0.5, -0.5])).tolist()
        mounts[channel] = ([1.2 * float(np.cos(yaw)), 0.5 * float(np.sin(yaw)), 1.5], turned)
    for channel, yaw in zip(nuscenes().radars, _RADAR_YAWS, strict=True):
        mounts[channel] = (
            [3.0 * float(np.cos(yaw)), 0.8 * float(np.sin(yaw)), 0.6],
            quaternions_from_yaws(yaw).tolist(),
        )
    return mounts


def _write_scene(folder, number, name, samples, sweeps, image_px, mounts) -> None:
    begin = START_US + number * 100_000_000
    tokens = [f"{name}-sample-{index}" for index in range(samples)]
    folder.tables["scene"].append(
        {"token": f"scene-token-{name}", "name": name, "description": "Night, rain, test", "log_token": "log"}
    )
    for kind in _CATEGORIES:
        folder.tables["instance"].append({"token": f"{name}-{kind}", "category_token": f"category-{kind}"})
    for index, token in enumerate(tokens):
        time_us = begin + index * _KEY_FRAME_US
        links = {"prev": tokens[index - 1] if index else "", "next": (tokens[index + 1 :] or [""])[0]}
        folder.tables["sample"].append(
            {"token": token, "timestamp": time_us, "scene_token": f"scene-token-{name}", **links}
        )
        for channel in mounts:
            _write_sensor(folder, token, channel, time_us, sweeps if index else 0, image_px, mounts[channel])
        _annotate(folder, name, index, samples, token, time_us)


def _write_sensor(folder, token, channel, time_us, sweeps, image_px, mount) -> None:
    modality = {"C": "camera", "L": "lidar", "R": "radar"}[channel[0]]
    offset = {"camera": -20_000, "lidar": 0, "radar": 10_000}[modality]
    for back in range(sweeps if modality != "camera" else 0, -1, -1):
        stamp = time_us + offset - back * _PERIOD_US.get(modality, 0)
        suffix = {"camera": "jpg", "lidar": "pcd.bin", "radar": "pcd"}[modality]
        path = f"{'sweeps' if back else 'samples'}/{channel}/{channel}__{stamp}.{suffix}"
        (folder.root / path).parent.mkdir(parents=True, exist_ok=True)
        sensor_from_global = inverse_rigid(global_from_ego(stamp) @ pose(mount[1], mount[0]))
        seen = (sensor_from_global @ [*landmark(stamp), 1])[:3]
        _write_file(folder.root / path, modality, seen, image_px)
        record = f"{channel}-{stamp}"
        position, yaw = ego_pose(stamp)
        row = {
            "token": f"pose-{record}",
            "translation": position.tolist(),
            "rotation": quaternions_from_yaws(yaw).tolist(),
        }
        folder.tables["ego_pose"].append(row)
        folder.tables["sample_data"].append(
            {
                "token": record,
                "sample_token": token,
                "ego_pose_token": row["token"],
                "calibrated_sensor_token": f"calibration-{channel}",
                "timestamp": stamp,
                "is_key_frame": back == 0,
                "width": image_px[0] if modality == "camera" else 0,
                "height": image_px[1] if modality == "camera" else 0,
                "filename": path,
            }
        )


def _write_file(path: Path, modality: str, seen: np.ndarray, image_px: tuple[int, int]) -> None:
    if modality == "camera":
        u, v = np.meshgrid(np.arange(image_px[0]), np.arange(image_px[1]))
        image = np.stack([255 * u / image_px[0], 255 * v / image_px[1], 0 * u + 90], axis=-1)
        Image.fromarray(image.astype(np.uint8)).save(path, quality=95)
    elif modality == "lidar":
        near, far = [0.5, -0.5, 0.0, 1.0, 3.0], [300.0, 0.0, 0.0, 1.0, 4.0]
        np.array([[*seen, 7.0, 9.0], near, far], dtype=np.float32).tofile(path)
    else:
        points = np.zeros(2, dtype=RADAR_DTYPE)
        points["x"][0], points["y"][0], points["z"][0] = seen
        points["x"][1], points["vx_comp"][1], points["dyn_prop"][1], points["pdh0"][1] = 20.0, 2.0, 6, 3
        points["rcs"] = 12.5
        path.write_bytes(radar_bytes(points))


def _annotate(folder, name, index, samples, token, time_us) -> None:
    begin_us = time_us - index * _KEY_FRAME_US
    start, _ = ego_pose(begin_us)
    beside = np.array([10.0, 5.0, 1.0])
    car = start + np.array([15.0, 10.0, 1.0]) + CAR_VELOCITY * (time_us - begin_us) * 1e-6
    places = {"car": (car, [1.9, 4.5, 1.6], 0.4, 5), "walker": (start + beside, [0.7, 0.7, 1.8], 0.0, 0),
              "animal": (start - beside, [0.4, 0.8, 0.5], 0.0, 3)}  # fmt: skip
    for kind, (position, size, yaw, points) in places.items():
        before, after = f"{name}-{kind}-{index - 1}", f"{name}-{kind}-{index + 1}"
        folder.tables["sample_annotation"].append(
            {
                "token": f"{name}-{kind}-{index}",
                "sample_token": token,
                "instance_token": f"{name}-{kind}",
                "visibility_token": "3",
                "attribute_tokens": ["attribute-moving"] if kind == "car" else [],
                "translation": [float(value) for value in position],
                "size": size,
                "rotation": quaternions_from_yaws(yaw).tolist(),
                "prev": before if index else "",
                "next": after if index + 1 < samples else "",
                "num_lidar_pts": points,
                "num_radar_pts": 0,
            }
        )
