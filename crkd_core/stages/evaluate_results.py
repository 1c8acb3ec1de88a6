"""Stage ``evaluate`` for a results file: any detector's nuScenes submission, checked and scored without a model."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from crkd_core.artifacts.command import Command
from crkd_core.artifacts.location import absolute
from crkd_core.artifacts.manifest import record_file
from crkd_core.artifacts.tables import write_table
from crkd_core.artifacts.workspace import Workspace
from crkd_core.artifacts.writer import ArtifactRequest
from crkd_core.datasets.nuscenes.folder import digest_tables
from crkd_core.datasets.prepared.evaluation_tables import find_tables, open_tables
from crkd_core.datasets.prepared.prepared_data import PreparedData
from crkd_core.datasets.prepared.source import STAGE as PREPARE_STAGE
from crkd_core.datasets.prepared.source import PreparedSource, find_prepared, pin_machine, prepared_with, split_slug
from crkd_core.errors import MissingArtifactError
from crkd_core.evaluation.finished import TOKENS_NAME, evaluated_tokens, read_metrics
from crkd_core.evaluation.identity import STAGE, Subject, choose_name
from crkd_core.evaluation.io.detections import TABLE_NAME
from crkd_core.evaluation.io.results_file import Results, explain_unreadable, read_results
from crkd_core.evaluation.nuscenes.metrics import CLASS_RANGE_M, Metrics
from crkd_core.evaluation.nuscenes.official import require_devkit
from crkd_core.progress import Progress
from crkd_core.stages.evaluate import (
    EvaluateResult,
    compare_with_devkit,
    require_alike,
    require_annotated,
    samples_facts,
    score,
)

_SUBSET = "subset"
_SHOWN_BEYOND_RANGE_M = 4.0


@dataclass(frozen=True)
class ResultsRequest:
    """What to evaluate.

    Attributes:
        file: detections in the nuScenes result format, every sample of the split.
        split: train, val or test, both of the first as ``trainval``, or a split name such as ``mini_val``.
        nuscenes: folder of the data set: its tables are read where nothing fitting is prepared, and by `official`.
        version: of the tables there; None for the only one that can have the split.
        prepared: name of the prepared data; None for the latest that have the split.
        official: run the nuScenes devkit too, on the file and the data set's own tables, and compare.
        subset: the file has only some samples of the split, and is scored on these.
        command: as it was given, for the manifest; None where there was none.
    """

    file: Path
    split: str = "val"
    nuscenes: Path | None = None
    prepared: str | None = None
    official: bool = False
    force: bool = False
    version: str | None = None
    subset: bool = False
    command: Command | None = None


def evaluate_results(request: ResultsRequest, workspace: Workspace, progress: Progress) -> EvaluateResult:
    """Check and score a results file; its detections become an artifact that can be drawn like a model's.

    Raises:
        UsageError: the file is not what the benchmark accepts, or the version has no such split.
        MissingArtifactError: nothing is prepared, and no folder of tables is named.
        DatasetError: the split is empty, the tables are damaged, or the devkit cannot open the data set.
        MetricsDifferError: the devkit's metrics are others.
    """
    with explain_unreadable(request.file):
        sha256 = record_file(request.file).sha256
    prepared = _open_data(request, workspace, progress)
    split = prepared.official_split(request.split)
    if request.official:
        require_annotated(prepared, split)
        require_alike(prepared, split)
        require_devkit()
    subject = Subject.of_file(request.file)
    slug, data = split_slug(request.split), prepared.artifact.name
    label = choose_name(workspace, subject, slug, split, data, request.subset)
    settings: dict[str, Any] = {"split": split, "results": {"file": request.file.name, "sha256": sha256}}
    if request.subset:
        settings[_SUBSET] = True
    inputs = {"prepared": prepared.artifact.reference()}
    existing = workspace.finished(STAGE, label)
    is_known = existing is not None and (existing.manifest.settings, existing.manifest.inputs) == (settings, inputs)

    def read() -> Results:
        return read_results(request.file, prepared, split, progress, request.subset)

    # Read before anything is written: a file that is refused leaves no trace.
    found = None if is_known and not request.force else read()
    output = ArtifactRequest(
        STAGE, label, _command(request, prepared), settings, inputs, force=request.force, replace=True
    )

    def compare(tokens: Sequence[str], metrics: Metrics | None) -> float | None:
        if not request.official:
            return None
        return compare_with_devkit(request.file, prepared, split, tokens, metrics, progress)

    with workspace.write(output) as writer:
        writer.warn(progress)
        if writer.finished is not None:
            metrics = read_metrics(writer.finished)
            difference = compare(evaluated_tokens(writer.finished, prepared), metrics)
            return EvaluateResult(writer.finished, subject.name, split, metrics, True, difference, request.file)
        found = found or read()
        write_table(writer.path / TABLE_NAME, found.table)
        if request.subset:
            scored = set(found.tokens)
            tokens = [token for token in prepared.tokens(split) if token in scored]
            write_table(writer.path / TOKENS_NAME, pa.table({"sample_token": tokens}))
        metrics = score(writer.path, prepared, split, found.tokens, found.table, progress)
        difference = compare(found.tokens, metrics)
        facts = _facts(subject, found, metrics) | {"split": split, **samples_facts(prepared, split, found.tokens)}
        finished = writer.finish(facts)
    return EvaluateResult(finished, subject.name, split, metrics, False, difference, request.file)


def _open_data(request: ResultsRequest, workspace: Workspace, progress: Progress) -> PreparedData:
    """Prepared data that have the split, or the tables of the named folder where these are others."""
    needed_for = f"crkd {STAGE} --results"
    if request.nuscenes is None and not workspace.artifacts(PREPARE_STAGE):
        raise MissingArtifactError(
            f"{needed_for} needs the tables of a data set, and {workspace.root} has none prepared; name its folder "
            "with --nuscenes DIR, or prepare it with: crkd prepare --nuscenes DIR"
        )
    if request.nuscenes is None or request.prepared is not None:
        source = PreparedSource(request.split, progress=progress)
        artifact = find_prepared(workspace, request.prepared, needed_for, source)
        return PreparedData(artifact, request.nuscenes)
    version = find_tables(request.nuscenes, request.version, request.split)
    fitting = [PreparedData(found, request.nuscenes) for found in prepared_with(workspace, request.split)]
    fitting = [data for data in fitting if data.version == version and not data.left_out_tokens(request.split)]
    if fitting:
        digest = digest_tables(request.nuscenes / version)
        for data in reversed(fitting):
            settings = data.artifact.manifest.settings
            if settings["tables_sha256"] == digest and "splits" not in settings:
                found = workspace.find(PREPARE_STAGE, data.artifact.name, needed_for=needed_for, make="crkd prepare")
                return PreparedData(found, request.nuscenes)
    return open_tables(workspace, request.nuscenes, version, request.file, progress)


def _command(request: ResultsRequest, data: PreparedData) -> Command:
    command = (request.command or Command(STAGE)).setting("--results", absolute(request.file))
    command = command.setting("--split", request.split)
    if request.subset:
        command = command.setting("--subset")
    command = pin_machine(command, request.nuscenes, "auto")
    if data.artifact.stage == PREPARE_STAGE:
        return command.without("--version").setting("--prepared", data.artifact.name)
    return command.setting("--version", data.version)


def _facts(subject: Subject, found: Results, metrics: Metrics | None) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "model": subject.name,
        "file": str(subject.file),
        "role": None,
        "modalities": list(found.modalities),
        "samples": len(found.tokens),
        "extent_m": max(CLASS_RANGE_M.values()) + _SHOWN_BEYOND_RANGE_M,
    }
    return facts if metrics is None else facts | {"mean_ap": metrics.mean_ap, "nds": metrics.nds}
