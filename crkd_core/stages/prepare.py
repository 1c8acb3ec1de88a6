"""Stage ``prepare``: a nuScenes folder becomes compact tables and radar tensors that every later stage reads."""

from collections.abc import Callable, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from crkd_core.artifacts.command import Command
from crkd_core.artifacts.location import absolute
from crkd_core.artifacts.manifest import digest_of
from crkd_core.artifacts.prepared_format import FORMAT
from crkd_core.artifacts.shards import read_shard, shard_name, write_index
from crkd_core.artifacts.tables import write_table
from crkd_core.artifacts.workspace import Artifact, Workspace
from crkd_core.artifacts.writer import ArtifactRequest, ArtifactWriter
from crkd_core.config.classes import DETECTION_CLASSES
from crkd_core.config.data import NUSCENES_COLUMNS
from crkd_core.config.numbers import MOST_SWEEPS
from crkd_core.cores import helpers
from crkd_core.datasets.nuscenes.availability import ALLOWABLE
from crkd_core.datasets.nuscenes.survey import Survey, read_version, survey_files
from crkd_core.datasets.prepared import preparing
from crkd_core.datasets.prepared.data_report import DataReport, build_report
from crkd_core.errors import UsageError
from crkd_core.progress import Progress
from crkd_core.workers import workers

STAGE = "prepare"
WITHOUT_LIDAR = "-no-lidar"
_Done = TypeVar("_Done")


@dataclass(frozen=True)
class PrepareRequest:
    """What to prepare.

    Attributes:
        nuscenes: folder with ``v1.0-*/``, ``samples/`` and ``sweeps/``.
        version: None where only one is there.
        allow_missing: what may be missing: ``samples`` leaves out key frames that lack an image or LiDAR file,
            ``lidar`` does without any LiDAR file, ``radar`` and ``sweeps`` without theirs.
        radar_sweeps: sweeps of each radar a sample, the key frame included.
        lidar_sweeps: LiDAR sweeps a sample, the key frame included; one more is listed, so that random choice has
            something to choose from.
        name: of the artifact; the version where None (with :data:`WITHOUT_LIDAR` where there is no LiDAR, so that it
            does not take the place of the complete data).
        allow_outside: read sensor files whose names in the tables lead out of the folder.
        lidar_columns: float32 values a LiDAR point.
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
    allow_outside: bool = False
    lidar_columns: int = NUSCENES_COLUMNS
    processes: int = 1
    force: bool = False
    resume: bool = True
    command: Command | None = None


@dataclass(frozen=True)
class PrepareResult:
    """What was prepared.

    Attributes:
        samples_per_split: split name to number of samples.
        annotations: boxes of the ten classes.
        missing: one line for every sensor with missing files that were allowed to be missing.
        report: what there is, and what to look at; None where an earlier version of crkd prepared the data.
    """

    artifact: Artifact
    version: str
    samples_per_split: dict[str, int]
    annotations: int
    missing: list[str] = field(default_factory=list)
    report: DataReport | None = None


@dataclass(frozen=True)
class CheckResult:
    """What would be prepared."""

    version: str
    report: DataReport


def prepare(request: PrepareRequest, workspace: Workspace, progress: Progress) -> PrepareResult:
    """Read the tables, check the files, aggregate the radar, write the artifact.

    Raises:
        UsageError: an option makes no sense.
        DatasetError: the folder is not a usable nuScenes folder, or files are missing or damaged.
    """
    survey = _survey(request, progress)
    version = survey.source.version
    default_name = version + (WITHOUT_LIDAR if survey.missing.without_lidar else "")
    with workspace.write(
        ArtifactRequest(
            STAGE,
            request.name or default_name,
            command=_command(request, version),
            settings=_settings(request, survey),
            force=request.force,
            resume=request.resume,
        )
    ) as writer:
        writer.warn(progress)
        if writer.finished is not None:
            progress.message(f"{writer.finished.label} is up to date")
            return _result(writer.finished)
        artifact = _write(request, writer, survey, progress)
    return _result(artifact)


def check(request: PrepareRequest, progress: Progress) -> CheckResult:
    """Everything that :func:`prepare` looks at, the points of all radar files included; writes nothing.

    Raises:
        UsageError, DatasetError: as :func:`prepare`.
    """
    survey = _survey(request, progress)
    order = preparing.order_samples(survey.source.tables, survey.kept)
    parts = _scenes(survey, order)
    points: dict[int, NDArray[np.int32]] = {}

    def job(number: int) -> preparing.RadarJob:
        return preparing.radar_job(survey.source.tables, survey.files, parts[number], request.nuscenes, Path())

    with progress.task("radar", total=len(order), unit="samples") as task:

        def add(number: int, counted: NDArray[np.int32]) -> None:
            points[number] = counted
            task.advance(len(counted))

        processes = helpers(request.processes, len(parts), "scene", progress)
        _for_each(range(len(parts)), job, preparing.count_radar_points, add, processes)
    counts = np.concatenate([points[number] for number in range(len(parts))])
    return CheckResult(survey.source.version, build_report(survey, _tables(survey, order, counts), counts))


def _survey(request: PrepareRequest, progress: Progress) -> Survey:
    _check_request(request)
    source = read_version(request.nuscenes, request.version, progress, request.allow_outside)
    return survey_files(
        source,
        request.lidar_sweeps,
        request.radar_sweeps,
        request.allow_missing,
        request.lidar_columns,
        progress,
    )


def _check_request(request: PrepareRequest) -> None:
    unknown = sorted(request.allow_missing - set(ALLOWABLE))
    if unknown:
        raise UsageError(f"--allow-missing knows {', '.join(ALLOWABLE)}, found {', '.join(unknown)}.")
    for option, value in (("--radar-sweeps", request.radar_sweeps), ("--lidar-sweeps", request.lidar_sweeps)):
        if not 1 <= value <= MOST_SWEEPS:
            raise UsageError(f"{option} counts the key frame: expected 1 to {MOST_SWEEPS}, found {value}.")
    if request.processes < 1:
        raise UsageError(f"--processes must be at least 1, found {request.processes}.")


def _settings(request: PrepareRequest, survey: Survey) -> dict[str, Any]:
    source, missing = survey.source, survey.missing
    # Files that appear later must make another data set, so they belong to what determined this one.
    settings: dict[str, Any] = {
        "format": FORMAT,
        "version": source.version,
        "tables_sha256": source.digest,
        "radar_sweeps": request.radar_sweeps,
        "lidar_sweeps": request.lidar_sweeps,
        "missing": {"files": int(missing.absent.sum()), "sensors": missing.lines()},
        "classes": list(DETECTION_CLASSES),
    }
    if source.splits.own:
        settings["splits"] = {name: list(scenes) for name, scenes in source.splits.own.items()}
    if not survey.kept.all():
        tokens = source.tables.samples.tokens
        settings["left_out_sha256"] = digest_of([tokens[row] for row in np.flatnonzero(~survey.kept)])
    if not survey.sizes_are_recorded:
        settings["image_sizes"] = survey.image_sizes
    if request.lidar_columns != NUSCENES_COLUMNS:
        settings[preparing.LIDAR_COLUMNS] = request.lidar_columns
    return settings


def _tables(survey: Survey, order: NDArray[np.int64], points: NDArray[np.int32]) -> dict[str, pa.Table]:
    tables, files = survey.source.tables, survey.files
    return {
        **preparing.evaluation_tables(tables, files, order, survey.source.splits.of_scene),
        preparing.CAMERAS: preparing.camera_table(tables, files, order),
        preparing.LIDAR_SWEEPS: preparing.lidar_table(tables, files, order),
        preparing.RADAR_SWEEPS: preparing.radar_table(tables, files, order, points),
    }


def _write(request: PrepareRequest, writer: ArtifactWriter, survey: Survey, progress: Progress) -> Artifact:
    source = survey.source
    order = preparing.order_samples(source.tables, survey.kept)
    points = _write_radar(request, writer, survey, order, progress)
    written = _tables(survey, order, points)
    report = build_report(survey, written, points)
    if not survey.kept.all():
        written[preparing.LEFT_OUT] = preparing.left_out_table(
            source.tables, survey.missing.lacking, source.splits.of_scene
        )
    for name, table in written.items():
        write_table(writer.path / name, table)
    facts = {
        "dataroot": str(request.nuscenes.resolve()),
        "version": source.version,
        "samples_per_split": report.samples.per_split,
        "scenes": report.samples.scenes,
        "samples": len(order),
        "annotations": report.boxes.total,
        "annotations_of_other_categories": report.boxes.ignored,
        preparing.DEVKIT_DIFFERENCES: preparing.devkit_differences(source.tables, source.splits.of_scene),
        "radar_points": int(points.sum()),
        "image_sizes": survey.image_sizes,
        "lidar": not survey.missing.without_lidar,
        "missing": survey.missing.lines(),
        "left_out_per_split": report.samples.left_out_per_split,
        "own_splits": list(source.splits.own),
        "report": report.to_json(),
    }
    return writer.finish(facts=facts)


def _scenes(survey: Survey, order: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The samples of `order`, scene by scene."""
    scenes = survey.source.tables.samples.scene[order]
    return np.split(order, np.flatnonzero(scenes[1:] != scenes[:-1]) + 1)


def _write_radar(
    request: PrepareRequest, writer: ArtifactWriter, survey: Survey, order: NDArray[np.int64], progress: Progress
) -> NDArray[np.int32]:
    """Write the shards that are not there yet and their index; returns the points of every sweep, (S, 5, R)."""
    folder, tables = writer.path / preparing.RADAR_FOLDER, survey.source.tables
    parts = _scenes(survey, order)
    shards = [shard_name(number) for number in range(len(parts))]
    todo = [number for number, shard in enumerate(shards) if not (folder / shard).exists()]
    done = len(order) - sum(len(parts[number]) for number in todo)

    def job(number: int) -> preparing.RadarJob:
        return preparing.radar_job(tables, survey.files, parts[number], request.nuscenes, folder / shards[number])

    processes = helpers(request.processes, len(todo), "scene", progress) if todo else 1
    with progress.task("radar", total=len(order), unit="samples", done=done) as task:
        _for_each(todo, job, preparing.write_radar_shard, lambda _, samples: task.advance(samples), processes)
    write_index(folder, shards)
    return _sweep_points(folder, shards, [tables.samples.tokens[row] for row in order])


def _for_each(
    numbers: Sequence[int],
    make_job: Callable[[int], preparing.RadarJob],
    work: Callable[[preparing.RadarJob], _Done],
    done: Callable[[int, _Done], None],
    processes: int,
) -> None:
    """Do the work of every number in so many processes, and call `done` with the number and the result of each."""
    if processes == 1:
        for number in numbers:
            done(number, work(make_job(number)))
        return
    with workers(processes) as pool:
        futures = dict(zip(pool.submit(work, ((make_job(number),) for number in numbers)), numbers, strict=True))
        for future in as_completed(futures):
            done(futures[future], future.result())


def _sweep_points(folder: Path, shards: Sequence[str], tokens: Sequence[str]) -> NDArray[np.int32]:
    points = {}
    for shard in shards:
        for key, item in read_shard(folder / shard):
            points[key.token] = item["sweep_points"].numpy()
    return np.stack([points[token] for token in tokens])


def _command(request: PrepareRequest, version: str) -> Command:
    # What a file or override says of the sweeps is said by options, so that they are free to change.
    command = (request.command or Command(STAGE)).without("--config", "--set")
    if request.lidar_columns != NUSCENES_COLUMNS:
        command = command.setting("--set", f"data.lidar.columns={request.lidar_columns}")
    if request.allow_outside:
        command = command.setting("--allow-outside")
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
        report=DataReport.from_json(facts.get("report")),
    )
