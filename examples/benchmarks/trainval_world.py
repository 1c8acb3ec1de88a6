"""A data set of the size and layout of nuScenes' v1.0-trainval: its tables, and a file for every name in them.

850 scenes of 40 or 41 key frames: 34,000 samples, 2.6 million records of sensor data with a pose each, 1.1 million
boxes of 64,000 instances, written as nuScenes writes them (one value a line, tokens of 32 hexadecimal digits). Sensor
files are hard links to a few hundred distinct ones, so that all of it takes 3 GB of disk, and reading them costs a
processor what it costs with the real ones.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crkd_core.datasets.nuscenes.categories import ATTRIBUTES, CATEGORIES, CLASS_OF_CATEGORY, attributes_of
from crkd_core.datasets.nuscenes.radar import RADAR_RECORD, encode_radar
from crkd_core.datasets.nuscenes.splits import official_scenes
from crkd_core.datasets.simulated.config import SimulationConfig
from crkd_core.datasets.simulated.sensors.rig import Sensor, build_rig

VERSION = "v1.0-trainval"
SCENES = 850
_LOGS = 68
_START_US = 1_531_883_530_412_470
_SCENE_US, _KEY_FRAME_US = 40_000_000, 500_000
_RADAR_FILES, _LIDAR_FILES, _IMAGES = 600, 20, 60
_MEAN_RADAR_POINTS = 62
_LIDAR_POINTS = 34_720
_FORMATS = {"camera": ("jpg", "jpg"), "lidar": ("pcd.bin", "pcd"), "radar": ("pcd", "pcd")}
_INSTANCES, _TRACK_SAMPLES = 76, 18
# Shares of nuScenes' categories, about.
_COMMON = {
    "vehicle.car": 0.42, "human.pedestrian.adult": 0.18, "movable_object.barrier": 0.13, "vehicle.truck": 0.08,
    "movable_object.trafficcone": 0.085,
}  # fmt: skip
_REST = 1.0 - sum(_COMMON.values())


@dataclass(frozen=True)
class _Shot:
    """One firing of a sensor; `key` is the number of the key frame it belongs to."""

    channel: str
    time_us: int
    key: int
    is_key_frame: bool


@dataclass(frozen=True)
class _Links:
    """A folder of sensor files that are hard links to a few."""

    root: Path
    originals: dict[str, list[Path]]
    rng: np.random.Generator

    def add(self, modality: str, name: str) -> None:
        """A file under a name; files of one modality are of different contents."""
        originals = self.originals[modality]
        os.link(originals[int(self.rng.integers(len(originals)))], self.root / name)


class _Tables:
    """JSON lists that are written record by record, a value a line, as nuScenes has them."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._streams: dict[str, TextIO] = {}

    def add(self, table: str, text: str) -> None:
        """One record as JSON."""
        if table in self._streams:
            self._streams[table].write(f",\n{text}")
        else:
            self._streams[table] = (self._folder / f"{table}.json").open("w")
            self._streams[table].write(f"[\n{text}")

    def add_all(self, table: str, records: Sequence[dict]) -> None:
        """Records of a small table."""
        for record in records:
            self.add(table, json.dumps(record, indent=0))

    def close(self) -> None:
        """End all lists."""
        for stream in self._streams.values():
            stream.write("\n]")
            stream.close()


class _Tokens:
    """Tokens of 32 hexadecimal digits, by chance."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def many(self, count: int) -> list[str]:
        text = self._rng.bytes(16 * count).hex()
        return [text[start : start + 32] for start in range(0, len(text), 32)]

    def one(self) -> str:
        return self.many(1)[0]


def write_trainval(root: Path, scale: float = 1.0, seed: int = 0) -> dict[str, int]:
    """Write tables and files; returns the number of records of the large tables.

    Args:
        scale: share of the 850 scenes.
    """
    rng = np.random.default_rng(seed)
    tokens, tables, rig = _Tokens(rng), _Tables(root / VERSION), build_rig(SimulationConfig())
    links = _Links(root, _originals(root / "originals", rng), rng)
    for folder in ("samples", "sweeps"):
        for channel in rig:
            (root / folder / channel).mkdir(parents=True)
    sensors = dict(zip(rig, tokens.many(len(rig))))
    named = _write_names(tables, tokens, rig, sensors)
    logs = _write_logs(root, tables, tokens)
    scenes = max(2, round(SCENES * scale))
    train = round(scenes * len(official_scenes("train")) / SCENES)
    names = [*official_scenes("train")[:train], *official_scenes("val")[: scenes - train]]
    counts = dict.fromkeys(("sample", "sample_data", "sample_annotation", "instance"), 0)
    for number, name in enumerate(names):
        scene = _Scene(rng, tokens, number, 40 + number % 6 // 5)
        scene.write_frames(tables, name, logs[number % len(logs)])
        scene.write_sensors(tables, links, rig, sensors)
        scene.write_annotations(tables, *named)
        for table, count in scene.counts.items():
            counts[table] += count
    tables.close()
    return counts


def _write_names(
    tables: _Tables, tokens: _Tokens, rig: dict[str, Sensor], sensors: dict[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    """The tables of names; returns the tokens of categories and attributes by name."""
    categories = dict(zip(CATEGORIES, tokens.many(len(CATEGORIES))))
    attributes = dict(zip(ATTRIBUTES, tokens.many(len(ATTRIBUTES))))
    for table, by_name in (("category", categories), ("attribute", attributes)):
        records = [{"token": token, "name": name, "description": f"A {name}."} for name, token in by_name.items()]
        tables.add_all(table, records)
    levels = ("v0-40", "v40-60", "v60-80", "v80-100")
    tables.add_all("visibility", [{"description": "", "token": str(n + 1), "level": v} for n, v in enumerate(levels)])
    modalities = {channel: rig[channel].modality for channel in rig}
    tables.add_all("sensor", [{"token": sensors[c], "channel": c, "modality": m} for c, m in modalities.items()])
    return categories, attributes


def _write_logs(root: Path, tables: _Tables, tokens: _Tokens) -> list[str]:
    logs = tokens.many(_LOGS)
    for number, token in enumerate(logs):
        record = {"token": token, "logfile": f"n015-2018-07-18-11-07-57+{number:04d}", "vehicle": "n015"}
        tables.add_all("log", [record | {"date_captured": "2018-07-18", "location": "singapore-onenorth"}])
    picture = {"token": tokens.one(), "category": "semantic_prior", "filename": "maps/map.png", "log_tokens": logs}
    tables.add_all("map", [picture])
    (root / "maps").mkdir()
    Image.fromarray(np.zeros((8, 8), dtype=np.uint8)).save(root / "maps" / "map.png")
    return logs


def _originals(folder: Path, rng: np.random.Generator) -> dict[str, list[Path]]:
    """The distinct files of each modality."""
    folder.mkdir(parents=True)
    contents: dict[str, list[bytes]] = {"radar": [], "lidar": [], "camera": []}
    # Hard links to one file are limited in number by the file system.
    for number in range(_RADAR_FILES):
        count = 0 if number % 200 == 199 else int(rng.integers(1, 2 * _MEAN_RADAR_POINTS))
        contents["radar"].append(encode_radar(_radar_points(rng, count)))
    for _ in range(_LIDAR_FILES):
        contents["lidar"].append(_lidar_points(rng).tobytes())
    paths = {
        modality: [folder / f"{modality}-{number}" for number in range(len(files))]
        for modality, files in contents.items()
    }
    for modality, files in contents.items():
        for path, data in zip(paths[modality], files):
            path.write_bytes(data)
    for number in range(_IMAGES):
        shade = np.linspace(0, 255, 1600)[None, :] * np.linspace(0.2, 1.0, 900)[:, None]
        paths["camera"].append(folder / f"image-{number}.jpg")
        Image.fromarray(shade.astype(np.uint8)).convert("RGB").save(paths["camera"][-1], quality=80)
    return paths


def _radar_points(rng: np.random.Generator, count: int) -> NDArray:
    """Points as a radar quantises them: 0.2 m, 0.25 m/s, 0.5 dBsm."""
    records = np.zeros(count, RADAR_RECORD)
    distance, angle = rng.uniform(2, 120, count), rng.uniform(-0.8, 0.8, count)
    records["x"], records["y"] = np.round(distance * np.cos(angle) * 5) / 5, np.round(distance * np.sin(angle) * 5) / 5
    records["rcs"] = np.round(rng.uniform(-10, 40, count) * 2) / 2
    records["vx"], records["vy"] = (
        np.round(rng.uniform(-12, 12, count) * 4) / 4,
        np.round(rng.normal(size=count) * 4) / 4,
    )
    radial = records["vx"] * np.cos(angle) + rng.normal(size=count)
    records["vx_comp"], records["vy_comp"] = radial * np.cos(angle), radial * np.sin(angle)
    records["dyn_prop"], records["id"] = rng.integers(0, 8, count), np.arange(count)
    records["is_quality_valid"], records["ambig_state"] = 1, rng.choice([3, 3, 3, 4, 1], count)
    records["invalid_state"], records["pdh0"] = rng.choice([0, 0, 0, 0, 4, 8, 11], count), rng.integers(0, 3, count)
    for name in ("x_rms", "y_rms", "vx_rms", "vy_rms"):
        records[name] = rng.integers(15, 22, count)
    return records


def _lidar_points(rng: np.random.Generator) -> NDArray[np.float32]:
    distance, azimuth = rng.gamma(2.0, 8.0, _LIDAR_POINTS), rng.uniform(-np.pi, np.pi, _LIDAR_POINTS)
    points = np.zeros((_LIDAR_POINTS, 5), dtype=np.float32)
    points[:, 0], points[:, 1] = distance * np.cos(azimuth), distance * np.sin(azimuth)
    points[:, 2], points[:, 3] = rng.normal(-1.2, 0.5, _LIDAR_POINTS), rng.integers(0, 256, _LIDAR_POINTS)
    points[:, 4] = np.arange(_LIDAR_POINTS) % 32
    return points


class _Scene:
    """One scene: a car on a gentle curve, its sensors' firings and the things around it."""

    def __init__(self, rng: np.random.Generator, tokens: _Tokens, number: int, samples: int) -> None:
        self._rng, self._tokens = rng, tokens
        self._number, self._samples = number, tokens.many(samples)
        self._start_us = _START_US + number * _SCENE_US
        self._heading, self._speed, self._turn = rng.uniform(-np.pi, np.pi), rng.uniform(0, 12), rng.normal() * 0.03
        self._origin = rng.uniform(300, 2000, 2)
        self.counts = {"sample": samples}

    def write_frames(self, tables: _Tables, name: str, log: str) -> None:
        """Records of the scene and its samples."""
        scene = self._tokens.one()
        ends = {"first_sample_token": self._samples[0], "last_sample_token": self._samples[-1]}
        record = {"token": scene, "log_token": log, "nbr_samples": len(self._samples), **ends, "name": name}
        tables.add_all("scene", [record | {"description": "Parked truck, construction, turn left, many peds"}])
        for index, token in enumerate(self._samples):
            record = {
                "token": token,
                "timestamp": self._start_us + index * _KEY_FRAME_US,
                **_ends(self._samples, index),
            }
            tables.add_all("sample", [record | {"scene_token": scene}])

    def write_sensors(self, tables: _Tables, links: _Links, rig: dict[str, Sensor], sensors: dict[str, str]) -> None:
        """Records of all files and poses, and the files."""
        self.counts["sample_data"] = 0
        for channel, sensor in rig.items():
            calibration = self._tokens.one()
            record = {
                "token": calibration,
                "sensor_token": sensors[channel],
                "translation": sensor.translation,
                "rotation": sensor.rotation,
                "camera_intrinsic": sensor.intrinsic,
            }
            tables.add_all("calibrated_sensor", [record])
            shots = self._shots(sensor)
            self.counts["sample_data"] += len(shots)
            tokens = self._tokens.many(len(shots))
            ending, file_format = _FORMATS[sensor.modality]
            height, width = (900, 1600) if sensor.modality == "camera" else (0, 0)
            for index, (shot, pose) in enumerate(zip(shots, self._poses(shots))):
                token, time_us = tokens[index], shot.time_us
                folder = "samples" if shot.is_key_frame else "sweeps"
                name = f"{folder}/{channel}/n015-2018-07-18-11-07-57+0800__{channel}__{time_us}.{ending}"
                previous, following = _neighbours(tokens, index)
                tables.add(
                    "sample_data",
                    f'{{\n"token": "{token}",\n"sample_token": "{self._samples[shot.key]}",\n'
                    f'"ego_pose_token": "{token}",\n'
                    f'"calibrated_sensor_token": "{calibration}",\n"timestamp": {time_us},\n'
                    f'"fileformat": "{file_format}",\n"is_key_frame": {str(shot.is_key_frame).lower()},\n'
                    f'"height": {height},\n"width": {width},\n"filename": "{name}",\n"prev": "{previous}",\n'
                    f'"next": "{following}"\n}}',
                )
                tables.add(
                    "ego_pose",
                    f'{{\n"token": "{token}",\n"timestamp": {time_us},\n"rotation": {_numbers(pose[:4])},\n'
                    f'"translation": {_numbers(pose[4:])}\n}}',
                )
                links.add(sensor.modality, name)

    def write_annotations(self, tables: _Tables, categories: dict[str, str], attributes: dict[str, str]) -> None:
        """Instances that stay for half of the scene, with a box in every key frame."""
        rng, total = self._rng, 0
        self.counts["instance"] = _INSTANCES
        rare = [name for name in CATEGORIES if name not in _COMMON]
        shares = [*_COMMON.values(), *[_REST / len(rare)] * len(rare)]
        chosen = rng.choice([*_COMMON, *rare], _INSTANCES, p=np.array(shares) / sum(shares))
        for category in chosen.tolist():
            length = int(np.clip(rng.normal(_TRACK_SAMPLES, 8), 1, len(self._samples)))
            first, instance = int(rng.integers(0, len(self._samples) - length + 1)), self._tokens.one()
            tokens = self._tokens.many(length)
            total += length
            ends = {"first_annotation_token": tokens[0], "last_annotation_token": tokens[-1]}
            record = {"token": instance, "category_token": categories[category], "nbr_annotations": length, **ends}
            tables.add_all("instance", [record])
            choices = attributes_of(CLASS_OF_CATEGORY.get(category, ""))
            chosen_attributes = [attributes[choices[int(rng.integers(len(choices)))]]] if choices else []
            centre = self._place((first + length / 2) * _KEY_FRAME_US)[:2] + rng.normal(size=2) * 20
            step, size, yaw = (
                rng.normal(size=2) * 0.5,
                rng.uniform([0.6, 1.0, 1.0], [2.2, 5.0, 2.5]),
                rng.uniform(-1.5, 1.5),
            )
            points = rng.poisson(rng.gamma(1.0, 20.0), (length, 2))
            for index in range(length):
                previous, following = _neighbours(tokens, index)
                position = [*(centre + step * (index - length / 2)).tolist(), 1.0 + 0.001 * index]
                tables.add(
                    "sample_annotation",
                    f'{{\n"token": "{tokens[index]}",\n"sample_token": "{self._samples[first + index]}",\n'
                    f'"instance_token": "{instance}",\n"visibility_token": "{1 + index % 4}",\n'
                    f'"attribute_tokens": {json.dumps(chosen_attributes, indent=0)},\n'
                    f'"translation": {_numbers(position)},\n'
                    f'"size": {_numbers(np.round(size, 3).tolist())},\n'
                    f'"rotation": {_numbers([float(np.cos(yaw / 2)), 0.0, 0.0, float(np.sin(yaw / 2))])},\n'
                    f'"prev": "{previous}",\n"next": "{following}",\n"num_lidar_pts": {points[index, 0]},\n'
                    f'"num_radar_pts": {points[index, 1] // 10}\n}}',
                )
        self.counts["sample_annotation"] = total

    def _shots(self, sensor: Sensor) -> list[_Shot]:
        """A sensor's firings: one at every key frame, and those between at its own rate."""
        keys, shots = len(self._samples), []
        period_us = 1_000_000 / sensor.rate_hz
        between = round(_KEY_FRAME_US / period_us) - 1
        # 13 Hz has 6.5 firings a key frame: one more every second time.
        for key in range(keys):
            time_us = self._start_us + key * _KEY_FRAME_US + round(sensor.offset_s * 1e6)
            sweeps = between + (sensor.modality == "radar" and key % 2) if key else 0
            times = [time_us - round(period_us * (sweeps - index)) for index in range(sweeps)]
            shots += [
                _Shot(sensor.channel, t, key if t > time_us - _KEY_FRAME_US // 2 else key - 1, False) for t in times
            ]
            shots.append(_Shot(sensor.channel, time_us, key, True))
        return shots

    def _place(self, since_us: float | NDArray) -> NDArray[np.float64]:
        """Position (m) and heading (rad) of the car, so long after the start of the scene."""
        seconds = np.asarray(since_us, dtype=np.float64) * 1e-6
        heading = self._heading + self._turn * seconds
        along = self._speed * seconds
        return np.stack(
            [self._origin[0] + along * np.cos(heading), self._origin[1] + along * np.sin(heading), heading], axis=-1
        )

    def _poses(self, shots: list[_Shot]) -> list[list[float]]:
        """Quaternion and position of the car at every firing."""
        places = self._place(np.array([shot.time_us - self._start_us for shot in shots]))
        half = places[:, 2] / 2
        zero, tilt = np.zeros(len(shots)), self._rng.normal(size=(2, len(shots))) * 1e-3
        return np.stack([np.cos(half), *tilt, np.sin(half), places[:, 0], places[:, 1], zero], axis=1).tolist()


def _numbers(values: Sequence[float]) -> str:
    return "[\n" + ",\n".join(map(repr, values)) + "\n]"


def _neighbours(tokens: Sequence[str], index: int) -> tuple[str, str]:
    return tokens[index - 1] if index else "", tokens[index + 1] if index + 1 < len(tokens) else ""


def _ends(tokens: Sequence[str], index: int) -> dict[str, str]:
    return dict(zip(("prev", "next"), _neighbours(tokens, index)))
