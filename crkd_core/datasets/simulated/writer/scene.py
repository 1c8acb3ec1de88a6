"""Makes one scene: script, sensors' files, and the records that describe them."""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from crkd_core.config.classes import LIDAR_CHANNEL
from crkd_core.datasets.nuscenes.radar import encode_radar
from crkd_core.datasets.simulated.arrays import Array
from crkd_core.datasets.simulated.config import SimulationConfig
from crkd_core.datasets.simulated.sensors.assembly import Assembly, Placement, assemble
from crkd_core.datasets.simulated.sensors.backdrop import Backdrop, View, build_backdrop, build_view
from crkd_core.datasets.simulated.sensors.camera import render
from crkd_core.datasets.simulated.sensors.lidar import Beams, build_beams, scan
from crkd_core.datasets.simulated.sensors.photo import Film, jpeg_bytes
from crkd_core.datasets.simulated.sensors.radar import Reflectors, SensorMotion, build_reflectors, detect
from crkd_core.datasets.simulated.sensors.rig import Sensor, build_rig
from crkd_core.datasets.simulated.sensors.shots import Shot, shots
from crkd_core.datasets.simulated.world.ground import Ground, build_ground, map_image, map_size_m
from crkd_core.datasets.simulated.world.motion import Kinematics
from crkd_core.datasets.simulated.world.scenario import Scenario, write_scenario
from crkd_core.datasets.simulated.world.script import World, states
from crkd_core.datasets.simulated.world.surroundings import place_surroundings
from crkd_core.datasets.simulated.world.traffic import populate
from crkd_core.datasets.simulated.writer.annotation import PixelCounts, annotate
from crkd_core.datasets.simulated.writer.table_files import (
    Record,
    SceneRecords,
    calibration_records,
    calibration_token,
    category_token,
    token,
)
from crkd_core.geometry.transforms import (
    compose,
    quaternions_from_yaws,
    rigid_transforms,
    rotations_about_z,
    transform_points,
)

_EXTENSIONS = {"camera": (".jpg", "jpg"), "lidar": (".pcd.bin", "pcd"), "radar": (".pcd", "pcd")}
_FIRST_DAY = datetime(2018, 7, 2, 9, tzinfo=timezone.utc)


@dataclass(frozen=True)
class ScenePlan:
    """Which scene to make: its official name and its place in its split."""

    name: str
    index: int


@dataclass(frozen=True)
class Stage:
    """Everything that stays the same during a scene."""

    config: SimulationConfig
    world: World
    logfile: str
    rig: dict[str, Sensor]
    assembly: Assembly
    ground: Ground
    reflectors: Reflectors
    beams: Beams
    views: dict[str, View]
    backdrop: Backdrop
    film: Film


def generator(seed: int, *names: object) -> np.random.Generator:
    """A random stream of its own for every (seed, names)."""
    digest = hashlib.sha256("/".join(str(n) for n in names).encode()).digest()
    return np.random.default_rng([seed, *np.frombuffer(digest[:16], dtype=np.uint32).tolist()])


def build_world(config: SimulationConfig, plan: ScenePlan) -> tuple[World, Scenario]:
    """The script of a scene."""
    rng = generator(config.seed, plan.name, "scenario")
    duration = config.samples_per_scene * 0.5
    scenario = write_scenario(plan.index, duration, rng)
    agents = populate(scenario, config.density, generator(config.seed, plan.name, "agents"))
    clutter = place_surroundings(scenario.plan, scenario.conditions, generator(config.seed, plan.name, "clutter"))
    yaw = float(rng.uniform(-math.pi, math.pi))
    middle = np.array([np.mean(scenario.plan.x_range), np.mean(scenario.plan.y_range), 0.0])
    global_from_world = rigid_transforms(rotations_about_z(yaw), np.zeros(3))
    global_from_world[:2, 3] = (map_size_m(scenario.plan) / 2 - transform_points(global_from_world, middle))[:2]
    crossing = "" if scenario.manoeuvre == "straight" else "intersection, "
    what = f"{scenario.conditions.label}{crossing}{scenario.manoeuvre}"
    description = f"{what}, road works, parked vehicles, pedestrians (simulated)"
    start = _FIRST_DAY + timedelta(days=int(rng.integers(0, 400)), seconds=int(rng.integers(0, 36000)))
    world = World(
        name=plan.name,
        description=description[0].upper() + description[1:],
        conditions=scenario.conditions,
        plan=scenario.plan,
        ego=scenario.ego,
        things=(*agents, *clutter),
        global_from_world=global_from_world,
        start_us=int(start.timestamp()) * 1_000_000 + int(rng.integers(0, 1_000_000)),
    )
    return world, scenario


def set_stage(config: SimulationConfig, plan: ScenePlan) -> Stage:
    """Everything a scene needs before the first sensor fires."""
    world, _ = build_world(config, plan)
    rig = build_rig(config)
    assembly = assemble(world.things)
    ground = build_ground(world.plan, 0.1 if config.image_width > 800 else 0.16)
    lamps = np.array(
        [(t.motion.path.x, t.motion.path.y) for t in world.things if t.kind is None and 6.9 < t.shape.high[2] < 7]
    )
    oversample = 1 if config.image_width > 800 else 2
    started = datetime.fromtimestamp(world.start_us / 1e6, tz=timezone.utc)
    return Stage(
        config=config,
        world=world,
        logfile=f"sim{plan.name[-4:]}-{started:%Y-%m-%d-%H-%M-%S}+0000",
        rig=rig,
        assembly=assembly,
        ground=ground,
        reflectors=build_reflectors(world.things, assembly),
        beams=build_beams(config.lidar_azimuth_steps),
        views={
            channel: build_view(sensor, config.image_width, config.image_height, oversample)
            for channel, sensor in rig.items()
            if sensor.modality == "camera"
        },
        backdrop=build_backdrop(
            ground, world.conditions, lamps.reshape(-1, 2), generator(config.seed, plan.name, "backdrop")
        ),
        film=Film(
            config.image_width,
            config.image_height,
            world.conditions,
            generator(config.seed, plan.name, "film"),
        ),
    )


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
    tables = SceneRecords()
    _describe_scene(root, stage, tables)
    moments = Timetable(stage.world, {shot.time_us for fired in times.values() for shot in fired})
    annotated: list[list[tuple[int, Record]]] = []
    pending = {channel: list(fired) for channel, fired in times.items()}
    for sample in range(config.samples_per_scene):
        lidar_points: list[Array] = []
        radar_points: list[Array] = []
        pixels = PixelCounts.empty(len(stage.world.things))
        for channel, queue in pending.items():
            while queue and queue[0].sample == sample:
                shot = queue.pop(0)
                points = _fire(root, stage, moments, stage.rig[channel], shot, pixels)
                if shot.is_key_frame and points is not None:
                    (lidar_points if channel == LIDAR_CHANNEL else radar_points).append(points)
        annotated.append(
            _annotate(stage, moments, sample, np.concatenate(lidar_points), np.concatenate(radar_points), pixels)
        )
        sample_done()
    _sensor_records(stage, times, tables)
    _annotation_records(stage, annotated, tables)
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
    target = root / _file_name(stage, sensor, shot)
    if sensor.modality == "camera":
        view = stage.views[sensor.channel]
        picture, drawing = render(view, stage.backdrop, stage.assembly, placement, world_from_ego)
        if shot.is_key_frame:
            pixels.add(view, drawing, len(world.agents))
        target.write_bytes(jpeg_bytes(stage.film.develop(picture, view, rng), stage.config.jpeg_quality))
        return None
    if sensor.modality == "lidar":
        cloud = scan(stage.beams, stage.assembly, placement, world_from_sensor, stage.ground, world.conditions, rng)
        target.write_bytes(cloud.astype("<f4").tobytes())
        local = cloud[:, :3].astype(np.float64)
    else:
        detections = detect(stage.reflectors, placement, _sensor_motion(world_from_sensor, world_from_ego, ego), rng)
        target.write_bytes(encode_radar(detections))
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
    agents = stage.world.agents
    ego_xy = (float(world_from_ego[0, 3]), float(world_from_ego[1, 3]))
    subset = placement.subset(np.arange(len(agents)))
    return annotate(agents, subset, ego_xy, stage.world.global_from_world, lidar_points, radar_points, pixels)


def _file_name(stage: Stage, sensor: Sensor, shot: Shot) -> str:
    folder = "samples" if shot.is_key_frame else "sweeps"
    suffix = _EXTENSIONS[sensor.modality][0]
    return f"{folder}/{sensor.channel}/{stage.logfile}__{sensor.channel}__{stage.world.start_us + shot.time_us}{suffix}"


def _describe_scene(root: Path, stage: Stage, tables: SceneRecords) -> None:
    """Records of the scene itself, its log, map, key frames and calibration; writes the map image."""
    name, world = stage.world.name, stage.world
    count = stage.config.samples_per_scene
    log, plan_map = token("log", name), token("map", name)
    captured = datetime.fromtimestamp(world.start_us / 1e6, tz=timezone.utc)
    tables.add(
        "log",
        {
            "token": log,
            "logfile": stage.logfile,
            "vehicle": "simulated",
            "date_captured": f"{captured:%Y-%m-%d}",
            "location": "simulated-town",
        },
    )
    image = f"maps/{plan_map}.png"
    _, png = cv2.imencode(
        ".png",
        map_image(stage.ground, world.global_from_world, map_size_m(world.plan)),
        [cv2.IMWRITE_PNG_COMPRESSION, 3],
    )
    (root / image).write_bytes(png.tobytes())
    tables.add("map", {"category": "semantic_prior", "token": plan_map, "filename": image, "log_tokens": [log]})
    samples = [token("sample", name, k) for k in range(count)]
    tables.add(
        "scene",
        {
            "token": token("scene", name),
            "log_token": log,
            "nbr_samples": count,
            "first_sample_token": samples[0],
            "last_sample_token": samples[-1],
            "name": name,
            "description": world.description,
        },
    )
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


def _sensor_records(stage: Stage, times: dict[str, list[Shot]], tables: SceneRecords) -> None:
    """sample_data and ego_pose records of all files, chained per channel."""
    name = stage.world.name
    ego_yaw_offset = math.atan2(stage.world.global_from_world[1, 0], stage.world.global_from_world[0, 0])
    for channel, fired in times.items():
        sensor = stage.rig[channel]
        tokens = [token("sample_data", name, channel, shot.time_us) for shot in fired]
        camera = sensor.modality == "camera"
        for k, shot in enumerate(fired):
            ego = stage.world.ego.at(np.array([shot.time_us * 1e-6]))
            translation_m = transform_points(stage.world.global_from_world, np.array([[ego.x[0], ego.y[0], 0.0]]))[0]
            timestamp = stage.world.start_us + shot.time_us
            tables.add(
                "ego_pose",
                {
                    "token": tokens[k],
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
                    "ego_pose_token": tokens[k],
                    "calibrated_sensor_token": calibration_token(name, channel),
                    "timestamp": timestamp,
                    "fileformat": _EXTENSIONS[sensor.modality][1],
                    "is_key_frame": shot.is_key_frame,
                    "height": stage.config.image_height if camera else 0,
                    "width": stage.config.image_width if camera else 0,
                    "filename": _file_name(stage, sensor, shot),
                    "prev": tokens[k - 1] if k else "",
                    "next": tokens[k + 1] if k + 1 < len(tokens) else "",
                },
            )


def _annotation_records(stage: Stage, annotated: list[list[tuple[int, Record]]], tables: SceneRecords) -> None:
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


def channel_folders(config: SimulationConfig) -> list[str]:
    """All folders a data set has for sensor files and maps."""
    return ["maps", *(f"{kind}/{channel}" for kind in ("samples", "sweeps") for channel in build_rig(config))]
