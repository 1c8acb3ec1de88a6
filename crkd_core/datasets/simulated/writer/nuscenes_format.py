"""The nuScenes format: 13 tables, a map and a log of every scene."""

from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from crkd_core.datasets.simulated.arrays import Array
from crkd_core.datasets.simulated.sensors.rig import Sensor
from crkd_core.datasets.simulated.sensors.rig_description import RigDescription
from crkd_core.datasets.simulated.world.ground import map_image, map_size_m
from crkd_core.datasets.simulated.world.setting import Setting, World
from crkd_core.datasets.simulated.world.streams import Streams
from crkd_core.datasets.simulated.world.street import street
from crkd_core.datasets.simulated.writer.table_files import (
    Record,
    SceneRecords,
    attribute_token,
    category_token,
    sensor_records,
    token,
)
from crkd_core.datasets.simulated.writer.table_format import FIRST_DAY, TableFormat

if TYPE_CHECKING:
    from crkd_core.datasets.simulated.writer.stage import ScenePlan, Stage

_TABLES = (
    "category",
    "attribute",
    "visibility",
    "instance",
    "sensor",
    "calibrated_sensor",
    "ego_pose",
    "log",
    "scene",
    "sample",
    "sample_data",
    "sample_annotation",
    "map",
)
CATEGORIES = {
    "human.pedestrian.adult": "A grown-up person.",
    "human.pedestrian.child": "A child.",
    "human.pedestrian.wheelchair": "A person in a wheelchair.",
    "human.pedestrian.stroller": "A pram.",
    "human.pedestrian.personal_mobility": "A person on a small vehicle that is ridden standing.",
    "human.pedestrian.police_officer": "A police officer.",
    "human.pedestrian.construction_worker": "A construction worker.",
    "animal": "An animal.",
    "vehicle.car": "A car for private use.",
    "vehicle.motorcycle": "A motorcycle or scooter.",
    "vehicle.bicycle": "A bicycle.",
    "vehicle.bus.bendy": "One section of an articulated bus.",
    "vehicle.bus.rigid": "A bus in one piece.",
    "vehicle.truck": "A lorry, pickup or tractor unit.",
    "vehicle.construction": "A construction machine.",
    "vehicle.emergency.ambulance": "An ambulance.",
    "vehicle.emergency.police": "A police vehicle.",
    "vehicle.trailer": "A trailer.",
    "movable_object.barrier": "A temporary barrier at road works.",
    "movable_object.trafficcone": "A traffic cone.",
    "movable_object.pushable_pullable": "Something that a person may push or pull.",
    "movable_object.debris": "Something on the road that should not be driven over.",
    "static_object.bicycle_rack": "A stand for bicycles with all that is parked in it.",
}
ATTRIBUTES = {
    "vehicle.moving": "The vehicle moves.",
    "vehicle.stopped": "The vehicle stands but means to move on.",
    "vehicle.parked": "The vehicle is parked.",
    "cycle.with_rider": "Someone rides it.",
    "cycle.without_rider": "Nobody rides it.",
    "pedestrian.sitting_lying_down": "The person sits or lies.",
    "pedestrian.standing": "The person stands.",
    "pedestrian.moving": "The person moves.",
}
VISIBILITIES = {"1": "v0-40", "2": "v40-60", "3": "v60-80", "4": "v80-100"}


class NuScenesFormat(TableFormat):
    """Tables and files as nuScenes has them."""

    tables = _TABLES
    trailer_kind = "trailer"
    other_folders = ("maps",)

    def setting(self, index: int, duration_s: float, rig: RigDescription, density: float, streams: Streams) -> Setting:
        return street(index, duration_s, rig, density, streams)

    def fixed_tables(self, rig: dict[str, Sensor]) -> dict[str, list[Record]]:
        return {
            "category": [{"token": category_token(n), "name": n, "description": d} for n, d in CATEGORIES.items()],
            "attribute": [{"token": attribute_token(n), "name": n, "description": d} for n, d in ATTRIBUTES.items()],
            "visibility": [
                {
                    "description": f"visibility of whole object is between {level[1:].replace('-', ' and ')}%",
                    "token": key,
                    "level": level,
                }
                for key, level in VISIBILITIES.items()
            ],
            "sensor": sensor_records(rig),
        }

    def start_us(self, plan: "ScenePlan", rng: np.random.Generator) -> int:
        seconds = int(FIRST_DAY.timestamp()) + int(rng.integers(0, 400)) * 86_400 + int(rng.integers(0, 36000))
        return seconds * 1_000_000 + int(rng.integers(0, 1_000_000))

    def origin(self, setting: Setting, plan: "ScenePlan") -> Array:
        return np.full(2, map_size_m(setting.x_range, setting.y_range) / 2)

    def file_name(self, world: World, channel: str, timestamp_us: int) -> str:
        return f"{_logfile(world)}__{channel}__{timestamp_us}"

    def suffix(self, sensor: Sensor) -> str:
        return {"camera": ".jpg", "lidar": ".pcd.bin", "radar": ".pcd"}[sensor.modality]

    def encode_lidar(self, cloud: NDArray[np.float32], timestamp_us: int, period_s: float) -> bytes:
        return cloud[:, :5].astype("<f4").tobytes()

    def describe_scene(self, root: Path, stage: "Stage", scene: Record, tables: SceneRecords) -> None:
        world, name = stage.world, stage.world.name
        log, plan_map = token("log", name), token("map", name)
        captured = datetime.fromtimestamp(world.start_us / 1e6, tz=timezone.utc)
        tables.add(
            "log",
            {
                "token": log,
                "logfile": _logfile(world),
                "vehicle": "simulated",
                "date_captured": f"{captured:%Y-%m-%d}",
                "location": "simulated-town",
            },
        )
        image = f"maps/{plan_map}.png"
        size_m = map_size_m(world.setting.x_range, world.setting.y_range)
        picture = map_image(stage.ground, world.global_from_world, size_m)
        _, png = cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 3])
        (root / image).write_bytes(png.tobytes())
        tables.add("map", {"category": "semantic_prior", "token": plan_map, "filename": image, "log_tokens": [log]})
        tables.add("scene", {**scene, "log_token": log, "description": world.setting.description})

    def pose_token(self, world: World, channel: str, time_us: int) -> str:
        return token("sample_data", world.name, channel, time_us)


def _logfile(world: World) -> str:
    started = datetime.fromtimestamp(world.start_us / 1e6, tz=timezone.utc)
    return f"sim{world.name[-4:]}-{started:%Y-%m-%d-%H-%M-%S}+0000"
