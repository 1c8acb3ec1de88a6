"""What some LiDAR or radar files hold, as a first description says it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crkd_core.config.data import NUSCENES_COLUMNS
from crkd_core.config.yaml_reader import yaml_word
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
_RADIAL = ("doppler", "range_rate", "radial_velocity", "radial_speed", "v_r", "vr", "velocity")


@dataclass(frozen=True)
class PointFiles:
    """`values` of ``lidar_points`` or ``radar_points`` in YAML, and what there is to remark."""

    values: str
    remarks: tuple[str, ...]


def look_at_lidars(files: Mapping[str, Sequence[tuple[Path, int]]]) -> PointFiles:
    """What the files of LiDARs hold, by one of each.

    Args:
        files: of every channel, with the time stamp (us) of each.

    Raises:
        DatasetError: one is damaged.
    """
    values, remarks = dict[str, str](), list[str]()
    for channel, own in files.items():
        seen, remark = _look_at_lidar(own)
        remarks.append(f"{channel}: {remark}")
        if "intensity_field" in seen:
            values.pop("columns", None)
        if not ("columns" in seen and "intensity_field" in values):
            # Where one LiDAR's files say themselves what they hold, columns of others are told from the files.
            values |= seen
    return PointFiles(_flow(values), tuple(remarks))


def _look_at_lidar(files: Sequence[tuple[Path, int]]) -> tuple[dict[str, str], str]:
    """What to say of a LiDAR's files in a description, and a remark."""
    for path, timestamp_us in files:
        if not path.is_file():
            continue
        data = read_sensor_file(path, "LiDAR file")
        if is_pcd(data):
            header = _header(bytes(data), path)
            intensity = next((name for name in header.single if name.lower() in _INTENSITIES), None)
            time = _time_field(bytes(data), header, timestamp_us, path)
            values = {"intensity_field": yaml_word(intensity) if intensity else "null"}
            values |= {"time_field": yaml_word(time)} if time else {}
            return values, f"PCD files with the fields {', '.join(header.by_name)} ({header.kind})"
        columns = likely_columns(np.frombuffer(data, "<f4", len(data) // 4))
        if columns is not None:
            return {"columns": str(columns)}, f"bare float32, whose values look like {columns} columns"
        if data:
            guess = f"bare float32, whose values do not tell the columns; nuScenes has {NUSCENES_COLUMNS}: check it"
            return {"columns": str(NUSCENES_COLUMNS)}, guess
    return {}, "no file was found; what it holds is told when the data are prepared"


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
        seen = _radar_fields(data, header, path)
        if header.points > 1:
            break
    return seen or PointFiles(_flow({}), ("no radar file was found: check radar_points",))


def _flow(values: Mapping[str, str]) -> str:
    return "{" + ", ".join(f"{name}: {value}" for name, value in values.items()) + "}"


def _values(data: bytes, header: PcdHeader, name: str, path: Path) -> NDArray[np.float64]:
    try:
        return read_points(data, header, (name,))[name].astype(np.float64)
    except PcdError as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: PcdError) -> DatasetError:
    return DatasetError(f"the file {path} is {error.state}: {error.problem}; {error.remedy}.")


def _radar_fields(data: bytes, header: PcdHeader, path: Path) -> PointFiles:
    single, remarks = header.single, [f"fields {', '.join(header.by_name)} ({header.kind})"]
    velocity: tuple[str, tuple[str, ...]] | None = next(
        (("compensated", names) for names in _OVER_GROUND if single >= {*names}), None
    )
    if velocity is None:
        velocity = next((("relative", names) for names in _RELATIVE if single >= {*names}), None)
        if velocity is not None:
            remarks.append(f"{', '.join(velocity[1])} are taken to be relative to the moving sensor: check it")
    if velocity is None:
        velocity = next((("relative", (name,)) for name in _RADIAL if name in single), None)
        if velocity is not None:
            remarks.append(
                f"{velocity[1][0]} is taken to be relative to the moving sensor, along the line of sight: check it"
            )
    if velocity is None:
        velocity = ("compensated", _OVER_GROUND[1])
        remarks.append("no field is called as a velocity is: name yours in velocity_fields")
    section = next((name for name in _CROSS_SECTIONS if name in single), None)
    has_codes = single >= {*CODE_FIELDS}
    z = _values(data, header, "z", path) if "z" in single else np.zeros(0)
    has_elevation = bool(np.nanmax(np.abs(z), initial=0.0) > 0)
    values = {
        "velocity": velocity[0],
        "velocity_fields": f"[{', '.join(map(yaml_word, velocity[1]))}]",
        "rcs_field": yaml_word(section) if section else "null",
        "codes": str(has_codes).lower(),
        "elevation": str(has_elevation).lower(),
    }
    return PointFiles(_flow(values), tuple(remarks))


def _time_field(data: bytes, header: PcdHeader, timestamp_us: int, path: Path) -> str | None:
    """The field whose values are microseconds near the time stamp of the file."""
    for name in _TIMES:
        if name in header.single:
            times = _values(data, header, name, path)
            if len(times) and np.nanmax(np.abs(times - timestamp_us)) <= _LONGEST_SWEEP_US:
                return name
    return None


def _header(data: bytes, path: Path) -> PcdHeader:
    try:
        return read_header(data)
    except PcdError as error:
        raise _damaged(path, error) from None
