"""What some LiDAR or radar files hold, as a first description says it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crkd_core.config.data import NUSCENES_COLUMNS
from crkd_core.datasets.nuscenes.files import read_sensor_file
from crkd_core.datasets.nuscenes.lidar_columns import likely_columns
from crkd_core.datasets.nuscenes.pcd import PcdError, PcdHeader, is_pcd, read_header, read_points
from crkd_core.datasets.nuscenes.radar import CODE_FIELDS
from crkd_core.errors import DatasetError

_INTENSITIES = ("intensity", "i", "reflectivity", "reflectance")
_TIMES = ("timestamp", "time_stamp", "time", "t")
_LONGEST_SWEEP_US = 2e6
_CROSS_SECTIONS = ("rcs", "rcs_dbsm", "power", "intensity", "snr")
_OVER_GROUND = (("vx_comp", "vy_comp", "vz_comp"), ("vx_comp", "vy_comp"))
_RELATIVE = (("vrel_x", "vrel_y", "vrel_z"), ("vx", "vy", "vz"), ("vrel_x", "vrel_y"), ("vx", "vy"))


@dataclass(frozen=True)
class PointFiles:
    """`values` of ``lidar_points`` or ``radar_points`` in YAML, and what there is to remark."""

    values: str
    remarks: tuple[str, ...]


def look_at_lidars(files: Sequence[tuple[Path, int]]) -> PointFiles:
    """What LiDAR files hold, by one of them; with the time stamp (us) of each.

    Raises:
        DatasetError: it is damaged.
    """
    for path, timestamp_us in files:
        if not path.is_file():
            continue
        data = read_sensor_file(path, "LiDAR file")
        if is_pcd(data):
            header = _header(bytes(data), path)
            intensity = next((name for name in header.single if name.lower() in _INTENSITIES), None)
            time = _time_field(bytes(data), header, timestamp_us)
            times = f", time_field: {time}" if time else ""
            fields = f"PCD files with the fields {', '.join(header.by_name)} ({header.kind})"
            return PointFiles(f"{{intensity_field: {intensity or 'null'}{times}}}", (fields,))
        columns = likely_columns(np.frombuffer(data, "<f4", len(data) // 4))
        if columns is not None:
            return PointFiles(f"{{columns: {columns}}}", (f"bare float32; values look like {columns} columns",))
        if data:
            guess = f"bare float32 whose values do not tell the columns; nuScenes has {NUSCENES_COLUMNS}: check it"
            return PointFiles(f"{{columns: {NUSCENES_COLUMNS}}}", (guess,))
    return PointFiles("{}", ("no LiDAR file was found: what they hold is told when the data are prepared",))


def look_at_radars(files: Sequence[Path]) -> PointFiles:
    """What radar files hold, by the first that has points.

    Raises:
        DatasetError: it is damaged.
    """
    seen: PointFiles | None = None
    for path in files:
        if not path.is_file():
            continue
        data = bytes(read_sensor_file(path, "radar file"))
        header = _header(data, path)
        seen = _radar_fields(data, header)
        if header.points > 1:
            break
    return seen or PointFiles("{}", ("no radar file was found: check radar_points",))


def _radar_fields(data: bytes, header: PcdHeader) -> PointFiles:
    single, remarks = header.single, [f"fields {', '.join(header.by_name)} ({header.kind})"]
    velocity = next((("compensated", names) for names in _OVER_GROUND if single >= {*names}), None)
    if velocity is None:
        velocity = next((("relative", names) for names in _RELATIVE if single >= {*names}), None)
        if velocity is not None:
            remarks.append(f"{', '.join(velocity[1])} are taken to be relative to the moving sensor: check it")
    if velocity is None:
        velocity = ("compensated", _OVER_GROUND[1])
        remarks.append("no field is called as a velocity is: name yours in velocity_fields")
    section = next((name for name in _CROSS_SECTIONS if name in single), None)
    has_codes = single >= {*CODE_FIELDS}
    z = read_points(data, header, ("z",))["z"] if "z" in single else np.zeros(0)
    has_elevation = bool(np.nanmax(np.abs(z), initial=0.0) > 0)
    values = {
        "velocity": velocity[0],
        "velocity_fields": list(velocity[1]),
        "rcs_field": section,
        "codes": has_codes,
        "elevation": has_elevation,
    }
    return PointFiles(
        "{" + ", ".join(f"{name}: {json.dumps(value)}" for name, value in values.items()) + "}", tuple(remarks)
    )


def _time_field(data: bytes, header: PcdHeader, timestamp_us: int) -> str | None:
    """The field whose values are microseconds near the time stamp of the file."""
    for name in _TIMES:
        if name in header.single:
            times = read_points(data, header, (name,))[name].astype(np.float64)
            if len(times) and np.nanmax(np.abs(times - timestamp_us)) <= _LONGEST_SWEEP_US:
                return name
    return None


def _header(data: bytes, path: Path) -> PcdHeader:
    try:
        return read_header(data)
    except PcdError as error:
        raise DatasetError(f"the file {path} is {error.state}: {error.problem}; {error.remedy}.") from None
