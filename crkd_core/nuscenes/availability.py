"""Checking that the sensor files the tables speak of are on disk, before hours of work depend on them."""

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crkd_core.config.classes import CAMERA_CHANNELS, RADAR_CHANNELS
from crkd_core.config.data import NUSCENES_COLUMNS
from crkd_core.errors import DatasetError
from crkd_core.nuscenes.lidar import explain_size, refuse_other_columns
from crkd_core.nuscenes.regular_files import kind_of_file
from crkd_core.nuscenes.sweeps import RADAR_INDICES, SampleFiles
from crkd_core.nuscenes.tables import LIDAR_INDEX, NuScenesTables

ALLOWABLE = ("radar", "sweeps")
"""What may be missing when the user says so: radars as a whole, and sweeps between key frames."""


@dataclass(frozen=True)
class Missing:
    """What is not there.

    Attributes:
        absent: per row of ``sample_data``: the file is missing.
        essential, radar, sweeps: one line per sensor for what cannot be done without, for radar key frames, and for
            sweeps.
    """

    absent: NDArray[np.bool_]
    essential: list[str] = field(default_factory=list)
    radar: list[str] = field(default_factory=list)
    sweeps: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Everything that is missing."""
        return [*self.essential, *self.radar, *self.sweeps]

    def check(self, allowed: frozenset[str], dataroot: Path) -> None:
        """Refuse what is missing and was not allowed to be.

        Raises:
            DatasetError: listing what is missing and how to go on.
        """
        if self.essential:
            raise DatasetError(
                f"{dataroot} lacks files that every sample needs: {_first(self.essential)}. "
                "Unpack the missing archives, or point to a complete folder."
            )
        refused = {"radar": self.radar, "sweeps": self.sweeps}
        needed = [name for name, lines in refused.items() if lines and name not in allowed]
        if needed:
            lines = "; ".join(_first(refused[name]) for name in needed)
            raise DatasetError(
                f"{dataroot} is incomplete: {lines}. Unpack the missing archives, or go on without "
                f"them with --allow-missing {','.join(name for name in ALLOWABLE if refused[name])}."
            )


def find_missing(
    dataroot: Path, tables: NuScenesTables, files: SampleFiles, lidar_columns: int = NUSCENES_COLUMNS
) -> Missing:
    """Compare the files that samples need with what is on disk.

    Images must exist and not be empty; LiDAR files must hold whole points; radar files must exist (they are read, and
    checked, while preparing).

    Args:
        lidar_columns: float32 values a LiDAR point.

    Raises:
        DatasetError: a LiDAR file or image is damaged.
    """
    absent = _absent_rows(dataroot, tables, files.rows(), lidar_columns)
    essential, radar, sweeps = [], [], []
    for index, channel in enumerate(CAMERA_CHANNELS):
        essential += _key_frame_lines(tables, channel, files.cameras[:, index], absent)
    essential += _key_frame_lines(tables, "LIDAR_TOP", files.lidar[:, 0], absent)
    for index, channel in enumerate(RADAR_CHANNELS):
        radar += _key_frame_lines(tables, channel, files.radar[:, index, 0], absent)
    for channel, index in (("LIDAR_TOP", LIDAR_INDEX), *zip(RADAR_CHANNELS, RADAR_INDICES, strict=True)):
        wanted = files.lidar if index == LIDAR_INDEX else files.radar[:, RADAR_INDICES.index(index)]
        sweeps += _sweep_lines(tables, channel, index, wanted, absent)
    return Missing(absent, essential, radar, sweeps)


def _absent_rows(
    dataroot: Path, tables: NuScenesTables, rows: NDArray[np.int64], lidar_columns: int
) -> NDArray[np.bool_]:
    sensors = tables.sensors
    absent = np.zeros(len(sensors.path), dtype=bool)
    listings: dict[str, dict[str, os.DirEntry]] = {}
    damaged: list[str] = []
    for row in rows.tolist():
        folder, _, name = sensors.path[row].rpartition("/")
        if folder not in listings:
            listings[folder] = _list(dataroot / folder)
        entry = listings[folder].get(name)
        if entry is None:
            absent[row] = True
        elif not entry.is_file():
            absent[row], problem = _look_at(entry)
            damaged += [f"{sensors.path[row]} ({problem})"] if problem else []
        elif sensors.channel[row] <= LIDAR_INDEX:
            size = entry.stat().st_size
            if size == 0:
                damaged.append(f"{sensors.path[row]} (empty)")
            elif sensors.channel[row] == LIDAR_INDEX and (problem := explain_size(size, lidar_columns)):
                refuse_other_columns(dataroot / sensors.path[row], lidar_columns)
                damaged.append(f"{sensors.path[row]} ({problem})")
    if damaged:
        more = f" and {len(damaged) - 3} more" if len(damaged) > 3 else ""
        raise DatasetError(f"{dataroot} has damaged files: {'; '.join(damaged[:3])}{more}; unpack them again.")
    return absent


def _look_at(entry: os.DirEntry) -> tuple[bool, str | None]:
    """Whether something that is no regular file is missing after all (a dangling link), and what else it is."""
    try:
        return False, f"{kind_of_file(entry.stat().st_mode)} and not a regular file"
    except OSError:
        return True, None


def _first(lines: list[str]) -> str:
    more = f"; and {len(lines) - 3} more sensors" if len(lines) > 3 else ""
    return "; ".join(lines[:3]) + more


def _list(folder: Path) -> dict[str, os.DirEntry]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name: entry for entry in entries}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise DatasetError(f"the folder {folder} cannot be read: {error.strerror or error}.") from None


def _key_frame_lines(
    tables: NuScenesTables, channel: str, rows: NDArray[np.int64], absent: NDArray[np.bool_]
) -> list[str]:
    lines = []
    unlisted = int((rows < 0).sum())
    if unlisted:
        lines.append(f"{channel}: {unlisted} of {len(rows)} key frames have no record in sample_data.json")
    listed = rows[rows >= 0]
    gone = listed[absent[listed]]
    if len(gone):
        lines.append(f"{channel}: {len(gone)} of {len(rows)} key-frame files (such as {tables.sensors.path[gone[0]]})")
    return lines


def _sweep_lines(
    tables: NuScenesTables, channel: str, index: int, wanted: NDArray[np.int64], absent: NDArray[np.bool_]
) -> list[str]:
    sensors = tables.sensors
    if wanted.shape[1] < 2 or (wanted[:, 0] < 0).all():
        return []
    of_channel = sensors.channel == index
    if not (of_channel & ~sensors.is_key_frame).any():
        return [f"{channel}: sample_data.json lists no sweeps"]
    used = np.unique(wanted)
    used = used[used >= 0]
    used = used[~sensors.is_key_frame[used]]
    gone = used[absent[used]]
    if not len(gone):
        return []
    return [f"{channel}: {len(gone)} of {len(used)} sweep files (such as {sensors.path[gone[0]]})"]
