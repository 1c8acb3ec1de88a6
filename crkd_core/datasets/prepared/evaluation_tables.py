"""What metrics need of a data set, from its nuScenes tables alone: no sensor file is looked at, nothing is prepared."""

from pathlib import Path
from typing import Any

from crkd_core.artifacts.command import Command
from crkd_core.artifacts.described import description_settings
from crkd_core.artifacts.location import absolute
from crkd_core.artifacts.manifest import record_file
from crkd_core.artifacts.prepared_format import FORMAT
from crkd_core.artifacts.tables import write_table
from crkd_core.artifacts.workspace import Workspace
from crkd_core.artifacts.writer import ArtifactRequest
from crkd_core.datasets.nuscenes.recognition import recognise
from crkd_core.datasets.nuscenes.splits import SPLITS_NAME, splits_of_version
from crkd_core.datasets.nuscenes.survey import VersionTables, read_version
from crkd_core.datasets.nuscenes.sweeps import choose_files
from crkd_core.datasets.nuscenes.version_folder import digest_tables, find_version, version_slug, versions_of
from crkd_core.datasets.prepared import preparing
from crkd_core.datasets.prepared.data_report import count_splits
from crkd_core.datasets.prepared.prepared_data import PreparedData
from crkd_core.errors import DatasetError
from crkd_core.progress import Progress

STAGE = "tables"


def find_tables(dataroot: Path, version: str | None, split: str) -> str:
    """The version of a folder to evaluate on: the given one, or the only one that can have the split.

    Raises:
        DatasetError: the folder is not a nuScenes folder, or lacks the version.
        UsageError: several versions can have the split.
    """
    if version is None and dataroot.is_dir():
        names = versions_of(dataroot)
        fitting = [name for name in names if split in (splits_of_version(name) or (split,))]
        version = fitting[0] if len(names) > 1 and len(fitting) == 1 else None
    return find_version(dataroot, version)


def open_tables(workspace: Workspace, dataroot: Path, version: str, results: Path, progress: Progress) -> PreparedData:
    """The evaluation tables of a version as an artifact of the stage ``tables``, which is read once and kept.

    Args:
        results: the file that is to be scored, for the command that makes them again.

    Raises:
        DatasetError: a table is missing or damaged, or no sample is in any split.
    """
    splits_file = dataroot / version / SPLITS_NAME
    settings: dict[str, Any] = {
        "format": FORMAT,
        "version": version,
        "tables_sha256": digest_tables(dataroot / version),
    }
    description = recognise(dataroot / version)
    settings |= description_settings(description)
    if splits_file.is_file():
        settings["splits_sha256"] = record_file(splits_file).sha256
    command = Command("evaluate").setting("--results", absolute(results)).setting("--nuscenes", absolute(dataroot))
    command = command.setting("--version", version)
    with workspace.write(
        ArtifactRequest(STAGE, version_slug(version), command=command, settings=settings, replace=True)
    ) as writer:
        writer.warn(progress)
        if writer.finished is not None:
            return PreparedData(writer.finished, dataroot)
        source = read_version(dataroot, version, description, progress)
        for name, table in _tables(source).items():
            write_table(writer.path / name, table)
        return PreparedData(writer.finish(_facts(source)), dataroot)


def _tables(source: VersionTables) -> dict[str, Any]:
    tables = source.tables
    files = choose_files(tables, lidar_sweeps=1, radar_sweeps=1)
    if (files.lidar_key < 0).any():
        token = tables.samples.tokens[int((files.lidar_key < 0).argmax())]
        raise DatasetError(
            f"sample_data.json of {source.dataroot / source.version} has no key frame of {tables.channels.reference} "
            f"for the sample {token}; the benchmark measures distances from the pose of its record."
        )
    order = preparing.order_samples(tables)
    return preparing.evaluation_tables(tables, files, order, source.splits.of_scene)


def _facts(source: VersionTables) -> dict[str, Any]:
    tables = source.tables
    splits_of = [source.splits.of_scene.get(scene.name, ()) for scene in tables.scenes]
    return {
        "dataroot": str(source.dataroot.resolve()),
        "version": source.version,
        "samples_per_split": count_splits(splits_of, tables.samples.scene),
        "samples": len(tables.samples.tokens),
        "annotations": len(tables.annotations.token),
        "lidar": False,
        "radar_points": 0,
        preparing.DEVKIT_DIFFERENCES: preparing.devkit_differences(tables, source.splits.of_scene),
        "own_splits": list(source.splits.own),
    }
