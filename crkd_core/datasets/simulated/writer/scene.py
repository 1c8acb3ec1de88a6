"""Makes one scene: script, sensors' files, and the records that describe them."""

import math
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from crkd_core.datasets.simulated.arrays import Array
from crkd_core.datasets.simulated.config import SimulationConfig
from crkd_core.datasets.simulated.sensors.assembly import Placement
from crkd_core.datasets.simulated.sensors.camera import render
from crkd_core.datasets.simulated.sensors.lidar import scan
from crkd_core.datasets.simulated.sensors.photo import jpeg_bytes
from crkd_core.datasets.simulated.sensors.radar import detect
from crkd_core.datasets.simulated.sensors.radar_points import SensorMotion, encode_sweep
from crkd_core.datasets.simulated.sensors.rig import Sensor
from crkd_core.datasets.simulated.sensors.shots import Shot, shots
from crkd_core.datasets.simulated.world.motion import Kinematics
from crkd_core.datasets.simulated.world.script import states
from crkd_core.datasets.simulated.world.setting import World
from crkd_core.datasets.simulated.world.streams import generator
from crkd_core.datasets.simulated.writer.annotation import PixelCounts, annotate
from crkd_core.datasets.simulated.writer.scene_records import (
    add_annotation_records,
    add_sensor_records,
    describe_scene,
    file_name,
)
from crkd_core.datasets.simulated.writer.stage import ScenePlan, Stage, set_stage
from crkd_core.datasets.simulated.writer.table_files import Record, SceneRecords
from crkd_core.geometry.transforms import compose, rigid_transforms, rotations_about_z, transform_points

_NO_POINTS = np.zeros((0, 3))


def simulate_scene(
    root: Path, config: SimulationConfig, plan: ScenePlan, sample_done: Callable[[], None]
) -> dict[str, list[Record]]:
    """Write all sensor files of a scene below `root` and return its table records.

    Raises:
        OSError: if a file cannot be written.
    """
    cv2.setNumThreads(1)
    stage = set_stage(config, plan)
    times = {channel: shots(sensor, config) for channel, sensor in stage.rig.items()}
    tables = SceneRecords(stage.format.tables)
    describe_scene(root, stage, tables)
    moments = Timetable(stage.world, {shot.time_us for fired in times.values() for shot in fired})
    annotated: list[list[tuple[int, Record]]] = []
    pending = {channel: list(fired) for channel, fired in times.items()}
    for sample in range(config.samples_per_scene):
        points: dict[str, list[Array]] = {"lidar": [_NO_POINTS], "radar": [_NO_POINTS]}
        pixels = PixelCounts.empty(len(stage.world.things))
        for channel, queue in pending.items():
            while queue and queue[0].sample == sample:
                shot = queue.pop(0)
                measured = _fire(root, stage, moments, stage.rig[channel], shot, pixels)
                if shot.is_key_frame and measured is not None:
                    points[stage.rig[channel].modality].append(measured)
        lidar, radar = (np.concatenate(points[modality]) for modality in ("lidar", "radar"))
        annotated.append(_annotate(stage, moments, sample, lidar, radar, pixels))
        sample_done()
    add_sensor_records(stage, times, tables)
    add_annotation_records(stage, annotated, tables)
    return tables.records


class Timetable:
    """States of all things and of the ego vehicle at every moment at which something fires."""

    def __init__(self, world: World, times_us: set[int]) -> None:
        ordered = sorted(times_us)
        self._index = {time: k for k, time in enumerate(ordered)}
        seconds = np.array(ordered) * 1e-6
        self._things = np.stack(states(world.things, seconds))
        self._ego = np.stack(world.ego.at(seconds))

    def at(self, time_us: int) -> tuple[Placement, Array, Kinematics]:
        """The things, world_from_ego, and the ego vehicle's motion."""
        k = self._index[time_us]
        ego = Kinematics(*self._ego[:, k : k + 1])
        x, y, yaw = self._ego[:3, k]
        world_from_ego = rigid_transforms(rotations_about_z(yaw), np.array([x, y, 0.0]))
        return Placement(*self._things[:, :, k]), world_from_ego, ego


def _fire(
    root: Path, stage: Stage, moments: Timetable, sensor: Sensor, shot: Shot, pixels: PixelCounts
) -> NDArray[np.float64] | None:
    """Make and write one sensor file; returns the points in the global frame as written (None for a camera)."""
    world = stage.world
    placement, world_from_ego, ego = moments.at(shot.time_us)
    rng = generator(stage.config.seed, world.name, sensor.channel, shot.time_us)
    world_from_sensor = compose(world_from_ego, sensor.ego_from_sensor)
    target = root / file_name(stage, sensor, shot)
    timestamp_us = world.start_us + shot.time_us
    if sensor.modality == "camera":
        view = stage.views[sensor.channel]
        picture, drawing = render(view, stage.backdrop, stage.assembly, placement, world_from_ego)
        if shot.is_key_frame:
            pixels.add(view, drawing, len(world.agents))
        target.write_bytes(jpeg_bytes(stage.film(sensor).develop(picture, view, rng), stage.config.jpeg_quality))
        return None
    if sensor.modality == "lidar":
        beams = stage.beams[sensor.channel]
        cloud = scan(beams, stage.assembly, placement, world_from_sensor, stage.ground, world.conditions, rng)
        target.write_bytes(stage.format.encode_lidar(cloud, timestamp_us, 1 / sensor.rate_hz))
        local = cloud[:, :3].astype(np.float64)
    else:
        motion = _sensor_motion(world_from_sensor, world_from_ego, ego)
        detections = detect(stage.radars[sensor.channel], stage.reflectors, placement, motion, rng)
        target.write_bytes(encode_sweep(detections))
        local = np.stack([detections[name].astype(np.float64) for name in ("x", "y", "z")], axis=1)
    return transform_points(compose(world.global_from_world, world_from_sensor), local)


def _sensor_motion(world_from_sensor: Array, world_from_ego: Array, ego: Kinematics) -> SensorMotion:
    arm = world_from_sensor[:2, 3] - world_from_ego[:2, 3]
    rate = float(ego.yaw_rate[0])
    return SensorMotion(
        x=float(world_from_sensor[0, 3]),
        y=float(world_from_sensor[1, 3]),
        yaw=math.atan2(world_from_sensor[1, 0], world_from_sensor[0, 0]),
        vx=float(ego.vx[0]) - rate * float(arm[1]),
        vy=float(ego.vy[0]) + rate * float(arm[0]),
        yaw_rate=rate,
        z=float(world_from_sensor[2, 3]),
    )


def _annotate(
    stage: Stage,
    moments: Timetable,
    sample: int,
    lidar_points: Array,
    radar_points: Array,
    pixels: PixelCounts,
) -> list[tuple[int, Record]]:
    placement, world_from_ego, _ = moments.at(sample * 500_000)
    ego_xy = (float(world_from_ego[0, 3]), float(world_from_ego[1, 3]))
    subset = placement.subset(np.arange(len(stage.world.agents)))
    return annotate(stage.world, subset, ego_xy, lidar_points, radar_points, pixels)
