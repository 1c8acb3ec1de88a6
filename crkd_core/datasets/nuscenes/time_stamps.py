"""Whether time stamps are in microseconds, by how far apart key frames and sweeps lie.

In another unit, velocities come out as thousands of metres a second or as nothing, and sweeps are too old to be used.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crkd_core.datasets.nuscenes.scenes import SampleColumns
from crkd_core.datasets.nuscenes.sensor_tables import SensorColumns
from crkd_core.errors import DatasetError

_KEY_FRAMES_APART_S = (0.02, 20.0)
"""50 Hz to one in 20 s; nuScenes has 2 Hz."""
_SWEEPS_APART_S = (0.002, 60.0)
"""How far sweeps lie from the key frame of their sample: the lower bound goes by the median, the upper by all."""
_LONGEST_GAP_S = 30 * 86400.0
_MOST_DRIFT_S = 5.0
_LATEST_US = 10**17
"""The year 5138; in nanoseconds, 1973."""
_UNITS_US = {"microseconds": 1.0, "nanoseconds": 1e-3, "milliseconds": 1e3, "seconds": 1e6}
_NO_UNIT = "no usual unit, or several"


def check_time_stamps(folder: Path, samples: SampleColumns, sensors: SensorColumns) -> None:
    """Refuse time stamps whose spacing is implausible.

    Raises:
        DatasetError: naming the table, what was found, and the unit it looks like.
    """
    _check_latest(folder / "sample.json", samples.timestamp_us)
    _check_latest(folder / "sample_data.json", sensors.timestamp_us)
    _check_key_frames(folder / "sample.json", samples.timestamp_us, samples.scene, "samples")
    keys = np.flatnonzero(sensors.is_key_frame)
    for channel in np.unique(sensors.channel[keys]).tolist():
        rows = keys[sensors.channel[keys] == channel]
        scenes = samples.scene[sensors.sample[rows]]
        _check_key_frames(folder / "sample_data.json", sensors.timestamp_us[rows], scenes, "key frames of a sensor")
        _check_drift(folder, samples, sensors, rows)
    _check_sweeps(folder / "sample_data.json", samples, sensors, keys)


def _check_latest(table: Path, times_us: NDArray[np.int64]) -> None:
    if len(times_us) and (latest := int(times_us.max())) >= _LATEST_US:
        raise _implausible(table, f"{latest} would be the year {1970 + int(latest / 3.15576e13)}", "nanoseconds")


def _check_key_frames(table: Path, times_us: NDArray[np.int64], scenes: NDArray[np.int32], called: str) -> None:
    """Refuse a scene whose key frames are, by the median, implausibly far apart, or one far from all others."""
    order = np.lexsort((times_us, scenes))
    same_scene = np.diff(scenes[order]) == 0
    apart_us, scene = np.diff(times_us[order])[same_scene], scenes[order][1:][same_scene]
    for part in np.split(apart_us, np.flatnonzero(np.diff(scene)) + 1) if len(scene) else ():
        usual_us, widest_us = float(np.median(part)), float(part.max())
        unit = _unit_of(usual_us, _KEY_FRAMES_APART_S)
        if unit != "microseconds":
            raise _implausible(table, f"{called} of a scene would be {_seconds(usual_us)} apart", unit)
        if widest_us > 1e6 * _LONGEST_GAP_S:
            gap = f"a scene has a gap of {_seconds(widest_us)} where {_seconds(usual_us)} is usual"
            raise _implausible(table, gap, "a mixture of units")


def _check_drift(folder: Path, samples: SampleColumns, sensors: SensorColumns, rows: NDArray[np.int64]) -> None:
    """Refuse two tables that run at different rates; a clock that is set differently does no harm."""
    sample = sensors.sample[rows]
    offset_us = sensors.timestamp_us[rows] - samples.timestamp_us[sample]
    scenes = samples.scene[sample]
    order = np.argsort(scenes, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(scenes[order]) != 0])
    drift_us = np.maximum.reduceat(offset_us[order], starts) - np.minimum.reduceat(offset_us[order], starts)
    if (largest_us := float(drift_us.max())) > 1e6 * _MOST_DRIFT_S:
        raise _implausible(
            folder / "sample_data.json",
            f"within a scene they drift from those of sample.json by {_seconds(largest_us)}",
            "another unit, or another clock",
        )


def _check_sweeps(table: Path, samples: SampleColumns, sensors: SensorColumns, keys: NDArray[np.int64]) -> None:
    """Refuse sweeps that lie far from the key frame of their sensor, or where there is none, of any."""
    channels = int(sensors.channel.max(initial=0)) + 1
    key_of = np.full((len(samples.tokens), channels), -1, dtype=np.int64)
    key_of[sensors.sample[keys], sensors.channel[keys]] = keys
    any_key = key_of.max(axis=1, initial=-1)
    key = key_of[sensors.sample, sensors.channel]
    key = np.where(key >= 0, key, any_key[sensors.sample])
    known = np.flatnonzero((key >= 0) & ~sensors.is_key_frame)
    if not len(known):
        return
    apart_us = np.abs(sensors.timestamp_us[known] - sensors.timestamp_us[key[known]])
    usual_us, row = float(np.median(apart_us)), int(apart_us.argmax())
    unit = _unit_of(usual_us, _SWEEPS_APART_S)
    if unit != "microseconds":
        raise _implausible(table, f"sweeps would be {_seconds(usual_us)} from the key frame of their sample", unit)
    if apart_us[row] > 1e6 * _SWEEPS_APART_S[1]:
        far = f"the sweep {sensors.path[known[row]]} would be {_seconds(float(apart_us[row]))} from its key frame"
        raise _implausible(table, far, "a mixture of units")


def _unit_of(apart_us: float, plausible_s: tuple[float, float]) -> str:
    """The unit in which what seems so far apart would be plausibly far apart; microseconds if they can be it."""
    shortest_us, longest_us = (1e6 * limit for limit in plausible_s)
    fitting = [name for name, unit_us in _UNITS_US.items() if shortest_us <= apart_us * unit_us <= longest_us]
    return fitting[0] if fitting else _NO_UNIT


def _seconds(time_us: float) -> str:
    return f"{time_us * 1e-6:.3g} s"


def _implausible(table: Path, finding: str, unit: str) -> DatasetError:
    looks = f"fits {unit}" if unit == _NO_UNIT else f"looks like {unit}"
    return DatasetError(
        f"the time stamps of {table} are implausible: {finding}, which {looks}; expected microseconds: convert them."
    )
