"""Stage ``prepare``: a nuScenes folder becomes compact tables and radar tensors that every later stage reads."""

from collections.abc import Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crkd_core.artifacts.command import Command
from crkd_core.artifacts.location import absolute
from crkd_core.artifacts.shards import read_shard, shard_name, write_index
from crkd_core.artifacts.tables import write_table
from crkd_core.artifacts.workspace import Artifact, ArtifactWriter, Workspace
from crkd_core.config.classes import DETECTION_CLASSES
from crkd_core.data import preparing
from crkd_core.errors import DatasetError, UsageError
from crkd_core.nuscenes.availability import ALLOWABLE, Missing, find_missing
from crkd_core.nuscenes.folder import digest_tables, find_version
from crkd_core.nuscenes.splits import splits_of_scenes
from crkd_core.nuscenes.sweeps import SampleFiles, choose_files
from crkd_core.nuscenes.tables import NuScenesTables, read_tables
from crkd_core.progress import Progress
from crkd_core.stages.workers import workers

STAGE = "prepare"
_SPARE_LIDAR_SWEEPS = 1


@dataclass(frozen=True)
class PrepareRequest:
    """What to prepare.

    Attributes:
        nuscenes: folder with ``v1.0-*/``, ``samples/`` and ``sweeps/``.
        version: None where only one is there.
        allow_missing: of ``radar`` and ``sweeps``, what may be missing.
        radar_sweeps: sweeps of each radar a sample, the key frame included.
        lidar_sweeps: LiDAR sweeps a sample, the key frame included; one more is listed, so that random choice has
            something to choose from.
        name: of the artifact; the version where None.
        processes: worker processes for the radar files.
        force: make it anew even where it exists; `resume`: continue an unfinished run.
        command: as it was given, for the manifest; None where there was none.
    """

    nuscenes: Path
    version: str | None = None
    allow_missing: frozenset[str] = frozenset()
    radar_sweeps: int = 6
    lidar_sweeps: int = 10
    name: str | None = None
    processes: int = 1
    force: bool = False
    resume: bool = True
    command: Command | None = None


@dataclass(frozen=True)
class PrepareResult:
    """What was prepared.

    Attributes:
        samples_per_split: official split name to number of samples.
        annotations: boxes of the ten classes.
        missing: one line for every sensor with missing files that were allowed to be missing.
    """

    artifact: Artifact
    version: str
    samples_per_split: dict[str, int]
    annotations: int
    missing: list[str] = field(default_factory=list)


def prepare(request: PrepareRequest, workspace: Workspace, progress: Progress) -> PrepareResult:
    """Read the tables, check the files, aggregate the radar, write the artifact.

    Raises:
        UsageError: an option makes no sense.
        DatasetError: the folder is not a usable nuScenes folder, or files are missing or damaged.
    """
    _check_request(request)
    version = find_version(request.nuscenes, request.version)
    folder = request.nuscenes / version
    progress.message(f"reading the tables of {version} in {request.nuscenes}")
    digest = digest_tables(folder)
    tables = read_tables(folder)
    splits = splits_of_scenes(version)
    _check_splits(tables, splits, folder)
    chosen = choose_files(tables, request.lidar_sweeps + _SPARE_LIDAR_SWEEPS, request.radar_sweeps)
    if request.lidar_sweeps == 1:
        chosen = SampleFiles(chosen.cameras, chosen.lidar[:, :1], chosen.radar)
    missing = find_missing(request.nuscenes, tables, chosen)
    missing.check(request.allow_missing, request.nuscenes)
    for line in missing.lines():
        progress.warning(f"missing, as allowed: {line}")
    settings = {
        "format": preparing.FORMAT,
        "version": version,
        "tables_sha256": digest,
        "radar_sweeps": request.radar_sweeps,
        "lidar_sweeps": request.lidar_sweeps,
        "missing": _missing_settings(missing),
        "classes": list(DETECTION_CLASSES),
    }
    with workspace.write(
        STAGE,
        request.name or version,
        command=_command(request, version),
        settings=settings,
        force=request.force,
        resume=request.resume,
        warn=progress.warning,
    ) as writer:
        if writer.finished is not None:
            progress.message(f"{writer.finished.label} is up to date")
            return _result(writer.finished)
        artifact = _write(request, writer, tables, chosen.without(missing.absent), splits, missing, progress)
    return _result(artifact)


def _check_request(request: PrepareRequest) -> None:
    unknown = sorted(request.allow_missing - set(ALLOWABLE))
    if unknown:
        raise UsageError(f"--allow-missing knows {' and '.join(ALLOWABLE)}, found {', '.join(unknown)}.")
    for option, value in (("--radar-sweeps", request.radar_sweeps), ("--lidar-sweeps", request.lidar_sweeps)):
        if value < 1:
            raise UsageError(f"{option} counts the key frame and must be at least 1, found {value}.")
    if request.processes < 1:
        raise UsageError(f"--processes must be at least 1, found {request.processes}.")


def _check_splits(tables: NuScenesTables, splits: dict[str, list[str]], folder: Path) -> None:
    if not any(scene.name in splits for scene in tables.scenes) or not tables.samples.tokens:
        names = ", ".join(scene.name for scene in tables.scenes[:5]) or "no scene at all"
        raise DatasetError(
            f"{folder} has no sample in any official split of this version: expected scenes of the lists in "
            f"nuscenes.utils.splits, found {names}; check that the version's name ends in trainval, "
            "mini or test as its scenes do."
        )


def _missing_settings(missing: Missing) -> dict[str, Any]:
    # Files that appear later must make another data set, so they belong to what determined this one.
    return {"files": int(missing.absent.sum()), "sensors": missing.lines()}


def _write(
    request: PrepareRequest,
    writer: ArtifactWriter,
    tables: NuScenesTables,
    files: SampleFiles,
    splits: dict[str, list[str]],
    missing: Missing,
    progress: Progress,
) -> Artifact:
    order = preparing.order_samples(tables)
    points = _write_radar(request, writer, tables, files, order, progress)
    written = {
        **preparing.evaluation_tables(tables, files, order, splits),
        preparing.CAMERAS: preparing.camera_table(tables, files, order),
        preparing.LIDAR_SWEEPS: preparing.lidar_table(tables, files, order),
        preparing.RADAR_SWEEPS: preparing.radar_table(tables, files, order, points),
    }
    for name, table in written.items():
        write_table(writer.path / name, table)
    per_split: dict[str, int] = {}
    for scene in tables.samples.scene:
        for split in splits.get(tables.scenes[scene].name, ()):
            per_split[split] = per_split.get(split, 0) + 1
    return writer.finish(
        facts={
            "dataroot": str(request.nuscenes.resolve()),
            "version": writer.settings["version"],
            "samples_per_split": dict(sorted(per_split.items())),
            "scenes": len(tables.scenes),
            "samples": len(order),
            "annotations": len(tables.annotations.token),
            "annotations_of_other_categories": tables.other_annotations,
            "radar_points": int(points.sum()),
            "missing": missing.lines(),
        }
    )


def _write_radar(
    request: PrepareRequest,
    writer: ArtifactWriter,
    tables: NuScenesTables,
    files: SampleFiles,
    order: NDArray[np.int64],
    progress: Progress,
) -> NDArray[np.int32]:
    """Write the shards that are not there yet and their index; returns the points of every sweep, (S, 5, R)."""
    folder = writer.path / preparing.RADAR_FOLDER
    scenes = tables.samples.scene[order]
    starts = np.flatnonzero(np.r_[True, scenes[1:] != scenes[:-1]])
    parts = np.split(order, starts[1:])
    shards = [shard_name(number) for number in range(len(parts))]
    todo = [number for number, shard in enumerate(shards) if not (folder / shard).exists()]
    done = len(order) - sum(len(parts[number]) for number in todo)
    jobs = (
        preparing.radar_job(tables, files, parts[number], request.nuscenes, folder / shards[number]) for number in todo
    )
    with progress.task("radar", total=len(order), unit="samples", done=done) as task:
        if request.processes == 1 or len(todo) < 2:
            for job in jobs:
                task.advance(preparing.write_radar_shard(job))
        else:
            with workers(min(request.processes, len(todo))) as pool:
                for future in as_completed(pool.submit(preparing.write_radar_shard, ((job,) for job in jobs))):
                    task.advance(future.result())
    write_index(folder, shards)
    return _sweep_points(writer, [tables.samples.tokens[row] for row in order])


def _sweep_points(writer: ArtifactWriter, tokens: Sequence[str]) -> NDArray[np.int32]:
    points = {}
    for shard in sorted((writer.path / preparing.RADAR_FOLDER).glob("*.safetensors")):
        for key, item in read_shard(shard):
            points[key.token] = item["sweep_points"].numpy()
    return np.stack([points[token] for token in tokens])


def _command(request: PrepareRequest, version: str) -> Command:
    # What a file or override says of the sweeps is said by options, so that they are free to change.
    command = (request.command or Command(STAGE)).without("--config", "--set")
    command = command.setting("--nuscenes", absolute(request.nuscenes)).setting("--version", version)
    if request.name is not None:
        command = command.setting("--name", request.name)
    command = command.setting("--radar-sweeps", request.radar_sweeps).setting("--lidar-sweeps", request.lidar_sweeps)
    if request.allow_missing:
        command = command.setting("--allow-missing", ",".join(sorted(request.allow_missing)))
    return command


def _result(artifact: Artifact) -> PrepareResult:
    facts = artifact.manifest.facts
    return PrepareResult(
        artifact=artifact,
        version=facts["version"],
        samples_per_split=facts["samples_per_split"],
        annotations=facts["annotations"],
        missing=facts["missing"],
    )
