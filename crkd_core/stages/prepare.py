"""Stage ``prepare``: a nuScenes folder becomes compact tables and radar tensors that every later stage reads."""

from dataclasses import dataclass, field

import pyarrow as pa

from crkd_core.artifacts.tables import write_table
from crkd_core.artifacts.workspace import Artifact, Workspace
from crkd_core.artifacts.writer import ArtifactRequest, ArtifactWriter
from crkd_core.datasets.nuscenes.survey import Survey, read_version, survey_files
from crkd_core.datasets.prepared import preparing
from crkd_core.datasets.prepared.data_report import DataReport, build_report
from crkd_core.datasets.prepared.manifest_entries import prepared_facts, prepared_settings
from crkd_core.datasets.prepared.prepare_request import STAGE, PrepareRequest
from crkd_core.datasets.prepared.radar_shards import count_all_radar_points, write_radar_shards
from crkd_core.progress import Progress


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
    name = request.name_of(version, survey.missing.without_lidar)
    output = ArtifactRequest(
        STAGE,
        name,
        command=request.command_of(version),
        settings=prepared_settings(survey, request.radar_sweeps, request.lidar_sweeps),
        force=request.force,
        resume=request.resume,
    )
    with workspace.write(output) as writer:
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
    points = count_all_radar_points(survey, order, request.processes, progress)
    report = build_report(survey, preparing.prepared_tables(survey, order), points)
    return CheckResult(survey.source.version, report)


def _survey(request: PrepareRequest, progress: Progress) -> Survey:
    request.check()
    source = read_version(request.nuscenes, request.version, progress, request.allow_outside)
    sweeps = request.lidar_sweeps, request.radar_sweeps
    return survey_files(source, *sweeps, request.allow_missing, request.lidar_columns, progress)


def _write(request: PrepareRequest, writer: ArtifactWriter, survey: Survey, progress: Progress) -> Artifact:
    source = survey.source
    order = preparing.order_samples(source.tables, survey.kept)
    points = write_radar_shards(writer.path / preparing.RADAR_FOLDER, survey, order, request.processes, progress)
    radar = preparing.radar_table(source.tables, survey.files, order, points)
    write_table(writer.path / preparing.RADAR_SWEEPS, radar)
    # A million rows, which nothing else needs.
    del radar
    pa.default_memory_pool().release_unused()
    tables = preparing.prepared_tables(survey, order)
    report = build_report(survey, tables, points)
    if not survey.kept.all():
        lacking = survey.missing.lacking
        tables[preparing.LEFT_OUT] = preparing.left_out_table(source.tables, lacking, source.splits.of_scene)
    for name, table in tables.items():
        write_table(writer.path / name, table)
    return writer.finish(prepared_facts(survey, report, points))


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
