"""Which sensor files belong to a key frame: its cameras, and its LiDAR and radar sweeps, newest first."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from crkd_core.config.classes import CAMERA_CHANNELS, RADAR_CHANNELS
from crkd_core.datasets.nuscenes.nuscenes_tables import CHANNELS, LIDAR_INDEX, NuScenesTables
from crkd_core.geometry.transforms import inverse_rigid

MAX_SWEEP_AGE_S = 0.75
"""Older sweeps are not used: ten LiDAR sweeps span 0.45 s and six radar sweeps 0.39 s unless some are missing."""

_AT_ONCE = 1 << 13
RADAR_INDICES = tuple(CHANNELS.index(channel) for channel in RADAR_CHANNELS)


@dataclass(frozen=True)
class SampleFiles:
    """Rows of :class:`SensorColumns` per sample; -1 where there is none.

    Attributes:
        cameras: (S, 6) in the order of ``CAMERA_CHANNELS``.
        lidar: (S, L), the key frame first, then earlier sweeps, newest first.
        radar: (S, 5, R), likewise for every radar.
        lidar_key: (S,) the LiDAR key frame, whose pose is the model's frame, whether or not its file is there.
    """

    cameras: NDArray[np.int64]
    lidar: NDArray[np.int64]
    radar: NDArray[np.int64]
    lidar_key: NDArray[np.int64]

    def rows(self) -> NDArray[np.int64]:
        """Every row that is used, once, in ascending order."""
        used = np.unique(np.concatenate([part.ravel() for part in (self.cameras, self.lidar, self.radar)]))
        return used[used >= 0]

    def without(self, absent: NDArray[np.bool_]) -> "SampleFiles":
        """The files that are there: rows marked in `absent` are left out and later sweeps move up.

        :attr:`lidar_key` stays: its pose is known without the file.
        """
        return replace(
            self,
            cameras=_drop(self.cameras, absent, compact=False),
            lidar=_drop(self.lidar, absent, compact=True),
            radar=_drop(self.radar, absent, compact=True),
        )


def choose_files(tables: NuScenesTables, lidar_sweeps: int, radar_sweeps: int) -> SampleFiles:
    """The files of every sample, the key frame counting as the first of at most `lidar_sweeps` and `radar_sweeps`.

    Earlier sweeps are those of the same scene and sensor before the key frame in time, earlier key frames included.
    """
    sensors = tables.sensors
    keys = np.full((len(tables.samples.tokens), len(CHANNELS)), -1, dtype=np.int64)
    key_rows = np.flatnonzero(sensors.is_key_frame)
    keys[sensors.sample[key_rows], sensors.channel[key_rows]] = key_rows
    scenes = tables.samples.scene[sensors.sample]
    lidar = _earlier(tables, scenes, LIDAR_INDEX, keys[:, LIDAR_INDEX], lidar_sweeps)
    radar = [_earlier(tables, scenes, index, keys[:, index], radar_sweeps) for index in RADAR_INDICES]
    return SampleFiles(keys[:, : len(CAMERA_CHANNELS)], lidar, np.stack(radar, axis=1), keys[:, LIDAR_INDEX])


def global_from_sensor(tables: NuScenesTables, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """(N, 4, 4) sensor poses at the time of each of the (N,) rows."""
    sensors = tables.sensors
    return tables.global_from_ego[sensors.pose[rows]] @ tables.ego_from_sensor[sensors.calibration[rows]]


def lidar_from_sensor(
    tables: NuScenesTables, lidar_rows: NDArray[np.int64], rows: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(N, 4, 4), each row's sensor frame to that of its key frame's LiDAR in `lidar_rows`, through both ego poses."""
    transforms = np.empty((len(rows), 4, 4))
    for start in range(0, len(rows), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        lidar_from_global = inverse_rigid(global_from_sensor(tables, lidar_rows[part]))
        transforms[part] = lidar_from_global @ global_from_sensor(tables, rows[part])
    return transforms


def repeat_oldest(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Fill missing sweeps at the end of the last axis with the oldest one that is there.

    The released data preparation does so for radar at the start of a scene, and the published weights expect
    that number of points.
    """
    filled = rows.copy()
    for sweep in range(1, rows.shape[-1]):
        filled[..., sweep] = np.where(filled[..., sweep] >= 0, filled[..., sweep], filled[..., sweep - 1])
    return filled


def _earlier(
    tables: NuScenesTables, scenes: NDArray[np.int32], channel: int, keys: NDArray[np.int64], count: int
) -> NDArray[np.int64]:
    sensors = tables.sensors
    rows = np.flatnonzero(sensors.channel == channel)
    rows = rows[np.lexsort((sensors.timestamp_us[rows], scenes[rows]))]
    rank_of_row = np.full(len(sensors.path), -1, dtype=np.int64)
    rank_of_row[rows] = np.arange(len(rows))
    chosen = np.full((len(keys), count), -1, dtype=np.int64)
    has_key = keys >= 0
    for sweep in range(count):
        ranks = rank_of_row[keys[has_key]] - sweep
        earlier = rows[np.maximum(ranks, 0)]
        age_us = sensors.timestamp_us[keys[has_key]] - sensors.timestamp_us[earlier]
        valid = (ranks >= 0) & (scenes[earlier] == scenes[keys[has_key]]) & (age_us <= MAX_SWEEP_AGE_S * 1e6)
        chosen[has_key, sweep] = np.where(valid, earlier, -1)
    return chosen


def _drop(rows: NDArray[np.int64], absent: NDArray[np.bool_], compact: bool) -> NDArray[np.int64]:
    if not len(absent):
        return rows
    kept = np.where((rows >= 0) & ~absent[rows], rows, -1)
    if not compact:
        return kept
    order = np.argsort(kept < 0, axis=-1, kind="stable")
    return np.take_along_axis(kept, order, axis=-1)
