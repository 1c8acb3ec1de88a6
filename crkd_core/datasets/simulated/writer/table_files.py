"""The 13 nuScenes tables: fixed ones, records of one scene, and how they are written."""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from crkd_core.datasets.simulated.sensors.rig import Sensor

Record = dict[str, Any]

TABLES = (
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


def token(*parts: object) -> str:
    """A 32-digit hexadecimal name that depends on its parts alone."""
    return hashlib.md5("/".join(str(part) for part in parts).encode(), usedforsecurity=False).hexdigest()


def category_token(name: str) -> str:
    """Token of a category."""
    return token("category", name)


def attribute_token(name: str) -> str:
    """Token of an attribute."""
    return token("attribute", name)


@dataclass
class SceneRecords:
    """What one scene adds to the tables."""

    records: dict[str, list[Record]] = field(default_factory=lambda: {name: [] for name in TABLES})

    def add(self, table: str, record: Record) -> None:
        """Append a record to a table."""
        self.records[table].append(record)


def fixed_tables(rig: dict[str, Sensor]) -> dict[str, list[Record]]:
    """The tables that do not depend on the scenes."""
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
        "sensor": [
            {"token": token("sensor", channel), "channel": channel, "modality": sensor.modality}
            for channel, sensor in rig.items()
        ],
    }


def calibration_token(scene: str, channel: str) -> str:
    """Token of a sensor's calibration in a scene."""
    return token("calibrated_sensor", scene, channel)


def calibration_records(scene: str, rig: dict[str, Sensor]) -> list[Record]:
    """One calibrated_sensor record per channel; real data has them per log, and so a log and a scene are one here."""
    return [
        {
            "token": calibration_token(scene, channel),
            "sensor_token": token("sensor", channel),
            "translation": list(sensor.translation),
            "rotation": list(sensor.rotation),
            "camera_intrinsic": [list(row) for row in sensor.intrinsic],
        }
        for channel, sensor in rig.items()
    ]


def table_text(records: list[Record]) -> str:
    """JSON of a table, one record a line."""
    return "[\n" + ",\n".join(json.dumps(record) for record in records) + "\n]\n"
