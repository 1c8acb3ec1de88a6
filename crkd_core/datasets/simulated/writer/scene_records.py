"""Table records of one scene: the scene itself, its sensors' files and its annotations."""

import math
from pathlib import Path

import numpy as np

from crkd_core.datasets.simulated.config import SimulationConfig
from crkd_core.datasets.simulated.sensors.rig import Sensor, build_rig
from crkd_core.datasets.simulated.sensors.shots import Shot
from crkd_core.datasets.simulated.writer.formats import format_of
from crkd_core.datasets.simulated.writer.stage import Stage
from crkd_core.datasets.simulated.writer.table_files import (
    Record,
    SceneRecords,
    calibration_records,
    calibration_token,
    category_token,
    token,
)
from crkd_core.geometry.transforms import quaternions_from_yaws, transform_points


def channel_folders(config: SimulationConfig) -> list[str]:
    """All folders a data set has for sensor files and maps."""
    channels = [f"{kind}/{channel}" for kind in ("samples", "sweeps") for channel in build_rig(config)]
    return [*format_of(config).other_folders, *channels]


def file_name(stage: Stage, sensor: Sensor, shot: Shot) -> str:
    """Where the file of a firing is, from the root of the data set."""
    folder = "samples" if shot.is_key_frame else "sweeps"
    name = stage.format.file_name(stage.world, sensor.channel, stage.world.start_us + shot.time_us)
    return f"{folder}/{sensor.channel}/{name}{stage.format.suffix(sensor)}"


def describe_scene(root: Path, stage: Stage, tables: SceneRecords) -> None:
    """Add the records of the scene itself, its key frames and calibration; write what the format has besides."""
    name, world = stage.world.name, stage.world
    count = stage.config.samples_per_scene
    samples = [token("sample", name, k) for k in range(count)]
    scene: Record = {
        "token": token("scene", name),
        "log_token": "",
        "nbr_samples": count,
        "first_sample_token": samples[0],
        "last_sample_token": samples[-1],
        "name": name,
    }
    stage.format.describe_scene(root, stage, scene, tables)
    for k, sample in enumerate(samples):
        tables.add(
            "sample",
            {
                "token": sample,
                "timestamp": world.start_us + k * 500_000,
                "prev": samples[k - 1] if k else "",
                "next": samples[k + 1] if k + 1 < count else "",
                "scene_token": token("scene", name),
            },
        )
    for record in calibration_records(name, stage.rig):
        tables.add("calibrated_sensor", record)


def add_sensor_records(stage: Stage, times: dict[str, list[Shot]], tables: SceneRecords) -> None:
    """sample_data and ego_pose records of all files, chained per channel."""
    name = stage.world.name
    poses: set[str] = set()
    ego_yaw_offset = math.atan2(stage.world.global_from_world[1, 0], stage.world.global_from_world[0, 0])
    for channel, fired in times.items():
        sensor = stage.rig[channel]
        tokens = [token("sample_data", name, channel, shot.time_us) for shot in fired]
        for k, shot in enumerate(fired):
            ego = stage.world.ego.at(np.array([shot.time_us * 1e-6]))
            translation_m = transform_points(stage.world.global_from_world, np.array([[ego.x[0], ego.y[0], 0.0]]))[0]
            timestamp = stage.world.start_us + shot.time_us
            pose = stage.format.pose_token(stage.world, channel, shot.time_us)
            if pose not in poses:
                poses.add(pose)
                tables.add(
                    "ego_pose",
                    {
                        "token": pose,
                        "timestamp": timestamp,
                        "rotation": quaternions_from_yaws(float(ego.yaw[0]) + ego_yaw_offset).tolist(),
                        "translation": [float(translation_m[0]), float(translation_m[1]), 0.0],
                    },
                )
            tables.add(
                "sample_data",
                {
                    "token": tokens[k],
                    "sample_token": token("sample", name, shot.sample),
                    "ego_pose_token": pose,
                    "calibrated_sensor_token": calibration_token(name, channel),
                    "timestamp": timestamp,
                    "fileformat": "jpg" if sensor.modality == "camera" else "pcd",
                    "is_key_frame": shot.is_key_frame,
                    "height": sensor.height_px,
                    "width": sensor.width_px,
                    "filename": file_name(stage, sensor, shot),
                    "prev": tokens[k - 1] if k else "",
                    "next": tokens[k + 1] if k + 1 < len(tokens) else "",
                },
            )


def add_annotation_records(stage: Stage, annotated: list[list[tuple[int, Record]]], tables: SceneRecords) -> None:
    """instance and sample_annotation records; a chain goes on over key frames in which nobody saw the object."""
    name = stage.world.name
    seen: dict[int, list[int]] = {}
    for sample, annotations in enumerate(annotated):
        for thing, _ in annotations:
            seen.setdefault(thing, []).append(sample)
    for thing, samples in sorted(seen.items()):
        kind = stage.world.things[thing].kind
        tables.add(
            "instance",
            {
                "token": token("instance", name, thing),
                "category_token": category_token(kind.category) if kind else "",
                "nbr_annotations": len(samples),
                "first_annotation_token": token("annotation", name, thing, samples[0]),
                "last_annotation_token": token("annotation", name, thing, samples[-1]),
            },
        )
    for sample, annotations in enumerate(annotated):
        for thing, record in annotations:
            chain = seen[thing]
            position = chain.index(sample)
            tables.add(
                "sample_annotation",
                {
                    "token": token("annotation", name, thing, sample),
                    "sample_token": token("sample", name, sample),
                    "instance_token": token("instance", name, thing),
                    **record,
                    "prev": token("annotation", name, thing, chain[position - 1]) if position else "",
                    "next": token("annotation", name, thing, chain[position + 1]) if position + 1 < len(chain) else "",
                },
            )
