"""A version of a nuScenes folder as it is on disk: its tables, its splits, and which of its files are there."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crkd_core.config.data import NUSCENES_COLUMNS
from crkd_core.config.description import DatasetDescription
from crkd_core.config.description_files import known_description, nuscenes
from crkd_core.datasets.nuscenes.availability import Missing, find_missing
from crkd_core.datasets.nuscenes.described_radar import read_described_sweeps
from crkd_core.datasets.nuscenes.image_files import measure_images, sizes_by_camera
from crkd_core.datasets.nuscenes.lidar import look_at_lidar
from crkd_core.datasets.nuscenes.lidar_format import LidarFormat, tell_columns
from crkd_core.datasets.nuscenes.nuscenes_tables import NuScenesTables, read_tables
from crkd_core.datasets.nuscenes.recognition import check_channels, recognise
from crkd_core.datasets.nuscenes.splits import SPLITS_NAME, SceneSplits, read_splits
from crkd_core.datasets.nuscenes.sweeps import SampleFiles, choose_files
from crkd_core.datasets.nuscenes.version_folder import digest_tables, find_version
from crkd_core.errors import DatasetError
from crkd_core.progress import Progress

_SPARE_LIDAR_SWEEPS = 1


@dataclass(frozen=True)
class VersionTables:
    """The tables of one version, with or without sensor files beside them.

    Attributes:
        digest: of the tables.
    """

    dataroot: Path
    version: str
    digest: str
    tables: NuScenesTables
    splits: SceneSplits


@dataclass(frozen=True)
class Survey:
    """Tables, and what there is of the files they speak of.

    Attributes:
        files: those of every sample that are there.
        kept: (S,) samples that have all they need.
        image_sizes: for every camera the number of its images by size.
        sizes_are_recorded: the tables say so themselves; otherwise other images would make another data set.
        lidar_format: what LiDAR files hold.
    """

    source: VersionTables
    files: SampleFiles
    missing: Missing
    kept: NDArray[np.bool_]
    image_sizes: dict[str, dict[str, int]]
    sizes_are_recorded: bool
    lidar_format: LidarFormat


def read_version(
    dataroot: Path,
    version: str | None,
    description: DatasetDescription | None,
    progress: Progress,
    *,
    allow_outside: bool = False,
    val_scenes: Path | None = None,
) -> VersionTables:
    """Read the tables and splits of a version; None for the only one that is there.

    Args:
        description: of the data set; None to tell it from the sensors.
        allow_outside: sensor files whose names lead out of the folder are read too.
        val_scenes: file with the names of the scenes that are ``val``.

    Raises:
        DatasetError: the folder is not a usable nuScenes folder, a table is damaged, or no sample is in any split.
        UsageError: several versions are there and none was asked for.
    """
    version = find_version(dataroot, version)
    folder = dataroot / version
    progress.message(f"reading the tables of {version} in {dataroot}")
    description = recognise(folder) if description is None else description
    check_channels(folder, description)
    digest = digest_tables(folder, description.format)
    tables = read_tables(folder, description, allow_outside)
    splits = read_splits(folder, [scene.name for scene in tables.scenes], description, val_scenes)
    if not any(splits.of_scene.get(tables.scenes[scene].name) for scene in np.unique(tables.samples.scene)):
        names = ", ".join(scene.name for scene in tables.scenes[:5]) or "no scene at all"
        if description.official_splits is None:
            raise DatasetError(
                f"{folder} has no sample in any split: found scenes {names}; name the validation scenes with "
                f"--val-scenes FILE, or write {SPLITS_NAME} there."
            )
        raise DatasetError(
            f"{folder} has no sample in any split: expected scenes of "
            f"{known_description(description.official_splits).text_name}' own lists, or of lists in "
            f"{folder / SPLITS_NAME}, found {names}; write that file for own scenes "
            '({"my_train": ["scene name", ...], "my_val": [...]}), or check that the version\'s name ends in '
            "trainval, mini or test as its scenes do."
        )
    return VersionTables(dataroot, version, digest, tables, splits)


def survey_files(
    source: VersionTables,
    lidar_sweeps: int,
    radar_sweeps: int,
    allow_missing: frozenset[str],
    lidar_columns: int | None,
    progress: Progress,
) -> Survey:
    """Choose the files of every sample, look for them, and measure images and LiDAR files.

    Args:
        lidar_sweeps, radar_sweeps: of each sample, the key frame included; of LiDAR one more is listed where there are
            several, so that random choice has something to choose from.
        allow_missing: of ``availability.ALLOWABLE``, what may be missing.
        lidar_columns: float32 values a LiDAR point; None: as the description says, or else as the files tell.

    Raises:
        DatasetError: files are missing that may not be, or are damaged.
    """
    listed = lidar_sweeps + _SPARE_LIDAR_SWEEPS if lidar_sweeps > 1 else 1
    chosen = choose_files(source.tables, listed, radar_sweeps)
    lidar_format = _lidar_format(source, chosen, lidar_columns)
    missing = find_missing(source.dataroot, source.tables, chosen, lidar_format)
    missing.check(allow_missing, source.dataroot)
    present = chosen.without(missing.absent)
    measured = measure_images(source.dataroot, source.tables, present, progress)
    look_at_lidar(_some_lidar_files(source, present), lidar_format, progress)
    if source.tables.description != nuscenes():
        # A wrong description is told before anything is written that its mended version could not go on with.
        read_described_sweeps(_some_radar_files(source, present), source.tables.description.radar_points, None)
    recorded, sizes = sizes_by_camera(source.tables, present), sizes_by_camera(measured, present)
    return Survey(
        source=replace(source, tables=measured),
        files=present,
        missing=missing,
        kept=~missing.incomplete,
        image_sizes=sizes,
        sizes_are_recorded=recorded == sizes,
        lidar_format=lidar_format,
    )


def _lidar_format(source: VersionTables, files: SampleFiles, columns: int | None) -> LidarFormat:
    """What LiDAR files hold, by the configuration, the description or the files themselves."""
    description = source.tables.description
    is_said = columns is not None or description.lidar_points.columns is not None
    if not is_said:
        columns = tell_columns([path for path in _some_lidar_files(source, files) if path.is_file()])
    return LidarFormat.of(description, columns or description.lidar_points.columns or NUSCENES_COLUMNS)


def first_lidar_samples(tables: NuScenesTables, files: SampleFiles) -> NDArray[np.int64]:
    """Rows of the samples that are the first of their scene to have a file of the reference LiDAR."""
    samples = np.flatnonzero(files.lidar[:, 0, 0] >= 0)
    return samples[np.unique(tables.samples.scene[samples], return_index=True)[1]]


def _some_lidar_files(source: VersionTables, files: SampleFiles) -> list[Path]:
    """One key frame of every LiDAR and scene: enough to see what kind of files a data set has."""
    first = first_lidar_samples(source.tables, files)
    rows = files.lidar[first, :, 0].ravel()
    return [source.dataroot / source.tables.sensors.path[row] for row in rows[rows >= 0].tolist()]


def _some_radar_files(source: VersionTables, files: SampleFiles) -> list[Path]:
    """The first key frame of every radar."""
    keys = files.radar[:, :, 0]
    rows = [own[own >= 0][:1] for own in keys.T]
    return [source.dataroot / source.tables.sensors.path[row] for own in rows for row in own.tolist()]
