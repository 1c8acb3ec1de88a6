"""Checking that the sensor files the tables speak of are on disk, before hours of work depend on them."""

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from crkd_core.config.classes import CAMERA_CHANNELS, LIDAR_CHANNEL, RADAR_CHANNELS
from crkd_core.config.data import NUSCENES_COLUMNS
from crkd_core.datasets.nuscenes.lidar import explain_size, refuse_other_columns
from crkd_core.datasets.nuscenes.nuscenes_tables import CHANNELS, LIDAR_INDEX, NuScenesTables
from crkd_core.datasets.nuscenes.regular_files import kind_of_file
from crkd_core.datasets.nuscenes.sweeps import RADAR_INDICES, SampleFiles
from crkd_core.errors import DatasetError

ALLOWABLE = ("samples", "lidar", "radar", "sweeps")
"""What may be missing when the user says so: whole key frames, the LiDAR or radars as a whole, and sweeps between key
frames."""
_EFFECTIVE = os.access in os.supports_effective_ids


@dataclass(frozen=True)
class Missing:
    """What is not there.

    Attributes:
        absent: per row of ``sample_data``: the file is missing (or of a LiDAR that is missing as a whole).
        incomplete: per sample: an image or the LiDAR file is missing, or has no record. Not for the LiDAR where it is
            missing as a whole.
        without_lidar: the LiDAR file of every key frame is missing.
        essential: one line per sensor for what every sample needs; likewise `lidar`, `radar` (key frames) and
            `sweeps`, the last two for the complete samples only.
        lacking: sample row to the channels it lacks, for incomplete samples.
        hint: where files of every sample are under other names; empty where they are not.
    """

    absent: NDArray[np.bool_]
    incomplete: NDArray[np.bool_]
    without_lidar: bool = False
    essential: list[str] = field(default_factory=list)
    lidar: list[str] = field(default_factory=list)
    radar: list[str] = field(default_factory=list)
    sweeps: list[str] = field(default_factory=list)
    lacking: dict[int, list[str]] = field(default_factory=dict)
    hint: str = ""

    def lines(self) -> list[str]:
        """Everything that is missing."""
        return [*self.essential, *self.lidar, *self.radar, *self.sweeps]

    def check(self, allowed: frozenset[str], dataroot: Path) -> None:
        """Refuse what is missing and was not allowed to be.

        Raises:
            DatasetError: listing what is missing and how to go on.
        """
        by_kind = dict(zip(ALLOWABLE, (self.essential, self.lidar, self.radar, self.sweeps), strict=True))
        needed = [name for name, lines in by_kind.items() if lines]
        refused = [name for name in needed if name not in allowed]
        if not refused and not self.incomplete.all():
            return
        if self.incomplete.all():
            raise DatasetError(
                f"{dataroot} lacks files of every key frame: {_first(self.lines(), 2)}. "
                f"{self.hint or 'Unpack the missing archives, or point to a complete folder.'}"
            )
        lines = "; ".join(_first(by_kind[name]) for name in refused)
        left_out = ""
        if "samples" in refused:
            left_out = f" (leaves out {int(self.incomplete.sum())} of {len(self.incomplete)} key frames)"
        raise DatasetError(
            f"{dataroot} is incomplete: {lines}. Unpack the missing archives, or go on without them with "
            f"--allow-missing {','.join(needed)}{left_out}."
        )


def _elsewhere(dataroot: Path, path: str) -> str:
    """Where a missing file is after all, as a hint; empty where it is not."""
    *folders, name = PurePosixPath(path).parts
    for count in range(1, len(folders) + 1):
        rest = "/".join((*folders[count:], name))
        if (dataroot / rest).is_file():
            return f"{rest} is there: take {'/'.join(folders[:count])}/ out of the file names in sample_data.json."
    for other in _list(dataroot.joinpath(*folders)):
        if other.lower() == name.lower():
            return f"{other} is there: write its name alike in sample_data.json."
    return ""


def find_missing(
    dataroot: Path, tables: NuScenesTables, files: SampleFiles, lidar_columns: int = NUSCENES_COLUMNS
) -> Missing:
    """Compare the files that samples need with what is on disk.

    Images must exist and not be empty; LiDAR files must hold whole points; radar files must exist (they are read, and
    checked, while preparing). A link to nothing is a missing file.

    Args:
        lidar_columns: float32 values a LiDAR point.

    Raises:
        DatasetError: a LiDAR file or image is damaged or must not be read, or the tables have no LiDAR key frame at
            all.
    """
    if (files.lidar_key < 0).all():
        raise DatasetError(
            f"sample_data.json of {dataroot} has no key frame of {LIDAR_CHANNEL}, whose pose is the frame that boxes "
            "are predicted in; expected its records, even where its files are missing."
        )
    absent = _absent_rows(dataroot, tables, files.rows(), lidar_columns)
    key_files = {LIDAR_CHANNEL: files.lidar_key} | dict(zip(CAMERA_CHANNELS, files.cameras.T, strict=True))
    without_lidar = bool(absent[files.lidar_key[files.lidar_key >= 0]].all())
    lidar = _file_lines(tables, LIDAR_CHANNEL, files.lidar_key, absent) if without_lidar else []
    incomplete = np.zeros(len(files.lidar_key), dtype=bool)
    essential, lacking = [], dict[int, list[str]]()
    for channel in (*CAMERA_CHANNELS, LIDAR_CHANNEL):
        rows = key_files[channel]
        gone = rows < 0
        essential += _record_lines(channel, rows)
        if not (channel == LIDAR_CHANNEL and without_lidar):
            gone |= absent[rows]
            essential += _file_lines(tables, channel, rows, absent)
        incomplete |= gone
        for sample in np.flatnonzero(gone).tolist():
            lacking.setdefault(sample, []).append(channel)
    if without_lidar:
        # Sweeps that are there are of no use without the key frames between them.
        absent |= tables.sensors.channel == LIDAR_INDEX
    radar, sweeps, kept = [], [], ~incomplete
    for index, channel in enumerate(RADAR_CHANNELS):
        rows = files.radar[kept, index, 0]
        radar += _record_lines(channel, rows) + _file_lines(tables, channel, rows, absent)
    for channel, index in ((LIDAR_CHANNEL, LIDAR_INDEX), *zip(RADAR_CHANNELS, RADAR_INDICES, strict=True)):
        if not (index == LIDAR_INDEX and without_lidar):
            chosen = files.lidar if index == LIDAR_INDEX else files.radar[:, RADAR_INDICES.index(index)]
            sweeps += _sweep_lines(tables, channel, index, chosen[kept], absent)
    gone = np.flatnonzero(absent).tolist() if incomplete.all() else []
    hint = _elsewhere(dataroot, tables.sensors.path[gone[0]]) if gone else ""
    return Missing(absent, incomplete, without_lidar, essential, lidar, radar, sweeps, lacking, hint)


def _absent_rows(
    dataroot: Path, tables: NuScenesTables, rows: NDArray[np.int64], lidar_columns: int
) -> NDArray[np.bool_]:
    sensors = tables.sensors
    absent = np.zeros(len(sensors.path), dtype=bool)
    damaged: dict[int, str] = {}
    # A sensor at a time: the listings of all of them together would take more memory than the tables.
    for channel in range(len(CHANNELS)):
        of_channel = rows[sensors.channel[rows] == channel]
        listings: dict[str, dict[str, os.DirEntry]] = {}
        for row, path in zip(of_channel.tolist(), sensors.path.each(of_channel)):
            folder, _, name = path.rpartition("/")
            if folder not in listings:
                listings[folder] = _list(dataroot / folder)
            entry = listings[folder].get(name)
            if entry is None:
                absent[row] = True
            elif not _is_file(entry):
                absent[row], problem = _look_at(entry)
                damaged |= {row: problem} if problem else {}
            elif channel <= LIDAR_INDEX and (problem := _problem(entry, channel == LIDAR_INDEX, lidar_columns)):
                damaged[row] = problem
    if damaged:
        shown = "; ".join(f"{sensors.path[row]} ({damaged[row]})" for row in sorted(damaged)[:3])
        more = f" and {len(damaged) - 3} more" if len(damaged) > 3 else ""
        raise DatasetError(f"{dataroot} has damaged files: {shown}{more}; mend them or unpack them again.")
    return absent


def _problem(entry: os.DirEntry, is_lidar: bool, lidar_columns: int) -> str | None:
    """What is wrong with an image or LiDAR file, by its permissions and size."""
    status = entry.stat()
    # Asking whether a file may be read costs a call of its own; what all may read needs none.
    if not status.st_mode & stat.S_IROTH and not os.access(entry.path, os.R_OK, effective_ids=_EFFECTIVE):
        return "no permission to read it"
    if status.st_size == 0:
        return "empty"
    problem = explain_size(status.st_size, lidar_columns) if is_lidar else None
    if problem:
        refuse_other_columns(Path(entry.path), lidar_columns)
    return problem


def _look_at(entry: os.DirEntry) -> tuple[bool, str | None]:
    """Whether something that is no regular file is missing after all (a dangling link), and what else it is."""
    try:
        return False, f"{kind_of_file(entry.stat().st_mode)} and not a regular file"
    except OSError:
        return True, None


def _is_file(entry: os.DirEntry) -> bool:
    """False for a folder, a pipe, a device, and a link that leads nowhere."""
    try:
        return entry.is_file()
    except OSError:  # links in a circle
        return False


def _first(lines: list[str], shown: int = 3) -> str:
    more = f"; and {len(lines) - shown} more sensors" if len(lines) > shown else ""
    return "; ".join(lines[:shown]) + more


def _list(folder: Path) -> dict[str, os.DirEntry]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name: entry for entry in entries}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise DatasetError(f"the folder {folder} cannot be read: {error.strerror or error}.") from None


def _record_lines(channel: str, rows: NDArray[np.int64]) -> list[str]:
    unlisted = int((rows < 0).sum())
    return [f"{channel}: {unlisted} of {len(rows)} key frames have no record in sample_data.json"] if unlisted else []


def _file_lines(tables: NuScenesTables, channel: str, rows: NDArray[np.int64], absent: NDArray[np.bool_]) -> list[str]:
    listed = rows[rows >= 0]
    gone = listed[absent[listed]]
    if not len(gone):
        return []
    return [f"{channel}: {len(gone)} of {len(rows)} key-frame files (such as {tables.sensors.path[gone[0]]})"]


def _sweep_lines(
    tables: NuScenesTables, channel: str, index: int, rows: NDArray[np.int64], absent: NDArray[np.bool_]
) -> list[str]:
    sensors = tables.sensors
    if rows.shape[1] < 2 or (rows[:, 0] < 0).all():
        return []
    of_channel = sensors.channel == index
    if not (of_channel & ~sensors.is_key_frame).any():
        return [f"{channel}: sample_data.json lists no sweeps"]
    used = np.unique(rows)
    used = used[used >= 0]
    used = used[~sensors.is_key_frame[used]]
    gone = used[absent[used]]
    if not len(gone):
        return []
    return [f"{channel}: {len(gone)} of {len(used)} sweep files (such as {sensors.path[gone[0]]})"]
