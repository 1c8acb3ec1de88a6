"""Records of the tables: tokens, what all formats have in common, and how a table is written."""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from crkd_core.datasets.simulated.sensors.rig import Sensor

Record = dict[str, Any]


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

    tables: tuple[str, ...]
    records: dict[str, list[Record]] = field(init=False)

    def __post_init__(self) -> None:
        self.records = {name: [] for name in self.tables}

    def add(self, table: str, record: Record) -> None:
        """Append a record to a table."""
        self.records[table].append(record)


def sensor_records(rig: dict[str, Sensor]) -> list[Record]:
    """The sensor table."""
    return [
        {"token": token("sensor", channel), "channel": channel, "modality": sensor.modality}
        for channel, sensor in rig.items()
    ]


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
