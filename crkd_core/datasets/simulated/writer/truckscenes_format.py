"""The MAN TruckScenes format: 14 tables, UTM coordinates, scene tags and clouds as PCD files."""

import math
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from crkd_core.datasets.nuscenes.pcd import encode_points
from crkd_core.datasets.simulated.arrays import Array
from crkd_core.datasets.simulated.config import KEY_FRAME_PERIOD_S
from crkd_core.datasets.simulated.sensors.rig import Sensor
from crkd_core.datasets.simulated.sensors.rig_description import RigDescription
from crkd_core.datasets.simulated.world.setting import Setting, World
from crkd_core.datasets.simulated.world.streams import Streams, generator
from crkd_core.datasets.simulated.world.truck_roads import truck_road
from crkd_core.datasets.simulated.writer.nuscenes_format import VISIBILITIES
from crkd_core.datasets.simulated.writer.table_files import (
    Record,
    SceneRecords,
    attribute_token,
    category_token,
    sensor_records,
    token,
)
from crkd_core.datasets.simulated.writer.table_format import FIRST_DAY, TableFormat
from crkd_core.datasets.truckscenes.splits import official_scenes

if TYPE_CHECKING:
    from crkd_core.datasets.simulated.writer.stage import ScenePlan, Stage

CATEGORIES = (
    "animal",
    "human.pedestrian.adult",
    "human.pedestrian.child",
    "human.pedestrian.construction_worker",
    "human.pedestrian.personal_mobility",
    "human.pedestrian.police_officer",
    "human.pedestrian.stroller",
    "human.pedestrian.wheelchair",
    "movable_object.barrier",
    "movable_object.debris",
    "movable_object.pushable_pullable",
    "movable_object.trafficcone",
    "static_object.bicycle_rack",
    "static_object.traffic_sign",
    "vehicle.bicycle",
    "vehicle.bus.bendy",
    "vehicle.bus.rigid",
    "vehicle.car",
    "vehicle.construction",
    "vehicle.ego_trailer",
    "vehicle.emergency.ambulance",
    "vehicle.emergency.police",
    "vehicle.motorcycle",
    "vehicle.other",
    "vehicle.trailer",
    "vehicle.train",
    "vehicle.truck",
)
ATTRIBUTES = (
    "cycle.with_rider",
    "cycle.without_rider",
    "pedestrian.moving",
    "pedestrian.sitting_lying_down",
    "pedestrian.standing",
    "traffic_sign.overhanging",
    "traffic_sign.pole_mounted",
    "traffic_sign.temporary",
    "vehicle.moving",
    "vehicle.parked",
    "vehicle.stopped",
)
LIDAR_POINT = np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("intensity", "<f4"), ("timestamp", "<u8")])
_TABLES = (
    "attribute",
    "calibrated_sensor",
    "category",
    "ego_motion_cabin",
    "ego_motion_chassis",
    "ego_pose",
    "instance",
    "sample",
    "sample_annotation",
    "sample_data",
    "scene",
    "sensor",
    "visibility",
    "weather_annotation",
)
_EAST_M, _NORTH_M = 691_000.0, 5_335_000.0
"""Munich in UTM zone 32U."""
_SCENE_S = 60
"""A drive's scenes begin this many seconds apart, so that no two overlap: the devkit looks poses up by time alone."""
_MOTION_STEP_S = 0.05


class TruckScenesFormat(TableFormat):
    """Tables and files as MAN TruckScenes has them."""

    tables = _TABLES
    trailer_kind = "ego_trailer"

    def setting(self, index: int, duration_s: float, rig: RigDescription, density: float, streams: Streams) -> Setting:
        return truck_road(index, duration_s, rig, density, streams)

    def fixed_tables(self, rig: dict[str, Sensor]) -> dict[str, list[Record]]:
        return {
            "category": [
                {"token": category_token(name), "name": name, "description": _words(name), "index": index}
                for index, name in enumerate(CATEGORIES)
            ],
            "attribute": [{"token": attribute_token(n), "name": n, "description": _words(n)} for n in ATTRIBUTES],
            "visibility": [
                {"token": key, "level": int(key), "description": f"{level[1:].replace('-', ' to ')}% can be seen"}
                for key, level in VISIBILITIES.items()
            ],
            "sensor": sensor_records(rig),
        }

    def start_us(self, plan: "ScenePlan", rng: np.random.Generator) -> int:
        drive, number = _drive(plan.name)
        day, hour = _drives().index(drive) * 9, int(generator(0, drive).integers(0, 10))
        seconds = int(FIRST_DAY.timestamp()) + 86_400 * day + 3600 * hour + _SCENE_S * number
        return seconds * 1_000_000 + int(rng.integers(0, 1_000_000))

    def origin(self, setting: Setting, plan: "ScenePlan") -> Array:
        drive, number = _drive(plan.name)
        start_of_drive = generator(0, drive).uniform(-20_000, 20_000, 2)
        return np.array([_EAST_M, _NORTH_M]) + start_of_drive + 400.0 * number

    def file_name(self, world: World, channel: str, timestamp_us: int) -> str:
        return f"{channel}_{timestamp_us}"

    def suffix(self, sensor: Sensor) -> str:
        return ".jpg" if sensor.modality == "camera" else ".pcd"

    def encode_lidar(self, cloud: NDArray[np.float32], timestamp_us: int, period_s: float) -> bytes:
        points = np.zeros(len(cloud), LIDAR_POINT)
        for column, name in enumerate(("x", "y", "z", "intensity")):
            points[name] = cloud[:, column]
        ago_us = np.round((1.0 - cloud[:, 5].astype(np.float64)) * period_s * 1e6)
        points["timestamp"] = timestamp_us - ago_us.astype(np.int64)
        return encode_points(points)

    def describe_scene(self, root: Path, stage: "Stage", scene: Record, tables: SceneRecords) -> None:
        world, name = stage.world, stage.world.name
        weather = token("weather_annotation", name)
        tables.add(
            "scene",
            {
                **scene,
                "log_token": "",
                "description": ";".join(_tags(world)),
                "weather_annotation_token": weather,
            },
        )
        rng = generator(stage.config.seed, name, "weather")
        night, rain = world.conditions.night, world.conditions.rain
        tables.add(
            "weather_annotation",
            {
                "token": weather,
                "precipitation": round(float(rng.uniform(0.5, 4.0)), 2) if rain else 0.0,
                "temperature": round(float(rng.uniform(276, 284) if night else rng.uniform(281, 298)), 2),
                "wind_speed": round(float(rng.uniform(0.3, 9.0)), 2),
                "wind_direction": round(float(rng.uniform(0, 360)), 1),
            },
        )
        _ego_motion(stage, tables)

    def pose_token(self, world: World, channel: str, time_us: int) -> str:
        return token("ego_pose", world.name, time_us)


def _ego_motion(stage: "Stage", tables: SceneRecords) -> None:
    """Velocities, accelerations and angles of cabin and chassis.

    As in the real data, the chassis of some scenes says that it stands still, whatever it does.
    """
    world = stage.world
    rng = generator(stage.config.seed, world.name, "ego motion")
    is_stuck = bool(rng.random() < 0.3)
    times = np.arange(-0.5, KEY_FRAME_PERIOD_S * stage.config.samples_per_scene, _MOTION_STEP_S)
    ego = world.ego.at(times)
    speed = np.hypot(ego.vx, ego.vy)
    ahead = world.ego.profile.speed(times + 0.01)
    along, across = (ahead - world.ego.profile.speed(times - 0.01)) / 0.02, speed * ego.yaw_rate
    turn = math.atan2(world.global_from_world[1, 0], world.global_from_world[0, 0])
    for table in ("ego_motion_cabin", "ego_motion_chassis"):
        sway = (
            0.004 * rng.standard_normal((3, len(times))) if table == "ego_motion_cabin" else np.zeros((3, len(times)))
        )
        stands = is_stuck and table == "ego_motion_chassis"
        for k, time in enumerate(times):
            tables.add(
                table,
                {
                    "token": token(table, world.name, k),
                    "timestamp": world.start_us + round(float(time) * 1e6),
                    "vx": 0.0 if stands else round(float(speed[k]), 4),
                    "vy": 0.0,
                    "vz": 0.0,
                    "ax": round(float(along[k]), 4),
                    "ay": round(float(across[k]), 4),
                    "az": 0.0,
                    "yaw": round((float(ego.yaw[k]) + turn + math.pi) % (2 * math.pi) - math.pi, 6),
                    "pitch": round(float(sway[0, k]), 5),
                    "roll": round(float(sway[1, k]), 5),
                    "yaw_rate": round(float(ego.yaw_rate[k] + sway[2, k]), 5),
                    "pitch_rate": 0.0,
                    "roll_rate": 0.0,
                },
            )


def _tags(world: World) -> tuple[str, ...]:
    """One tag of each of the seven kinds."""
    conditions, setting = world.conditions, world.setting
    moment = datetime.fromtimestamp(world.start_us / 1e6, tz=timezone.utc)
    weather = "rain" if conditions.rain else ("overcast" if conditions.overcast else "clear")
    hour = "morning" if moment.hour < 11 else ("noon" if moment.hour < 15 else "evening")
    season = ("winter", "spring", "summer", "autumn")[moment.month % 12 // 3]
    is_lit = not conditions.night or setting.area == "terminal"
    return (
        f"weather.{weather}",
        f"area.{setting.area}",
        f"daytime.{'night' if conditions.night else hour}",
        f"season.{season}",
        f"lighting.{'illuminated' if is_lit else 'dark'}",
        "structure.regular",
        f"construction.{'roadworks' if setting.has_road_works else 'unchanged'}",
    )


def _drive(scene: str) -> tuple[str, int]:
    """The drive that a scene belongs to, and its number there."""
    drive, _, number = scene.removeprefix("scene-").rpartition("-")
    return drive, int(number)


@cache
def _drives() -> list[str]:
    """All drives, each of which has days of its own."""
    splits = ("train", "val", "test", "mini_train", "mini_val")
    return sorted({_drive(scene)[0] for split in splits for scene in official_scenes(split)})


def _words(name: str) -> str:
    return " ".join(reversed(name.replace("_", " ").split(".")))
