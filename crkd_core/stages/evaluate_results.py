"""Stage ``evaluate`` for a results file: any detector's nuScenes submission, checked and scored without a model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crkd_core.artifacts.command import Command
from crkd_core.artifacts.location import absolute
from crkd_core.artifacts.manifest import record_file
from crkd_core.artifacts.tables import write_table
from crkd_core.artifacts.workspace import Artifact, Workspace
from crkd_core.data.prepared import PreparedData
from crkd_core.evaluation.detections import TABLE_NAME
from crkd_core.evaluation.metrics import CLASS_RANGE_M, Metrics
from crkd_core.evaluation.results_file import Results, explain_unreadable, read_results
from crkd_core.nuscenes.splits import resolve_split
from crkd_core.progress import Progress
from crkd_core.stages.evaluate import (
    EvaluateResult,
    compare_with_devkit,
    require_annotated,
    score,
)
from crkd_core.stages.evaluated import read_metrics
from crkd_core.stages.evaluations import STAGE, Subject, choose_name
from crkd_core.stages.inputs import STAGE as PREPARE_STAGE
from crkd_core.stages.inputs import pin_machine

_SHOWN_BEYOND_RANGE_M = 4.0


@dataclass(frozen=True)
class ResultsRequest:
    """What to evaluate.

    Attributes:
        file: detections in the nuScenes result format, every sample of the split.
        split: train, val or test, or an official split name such as ``mini_val``.
        nuscenes: where the data set is now, if it moved since it was prepared; only `official` reads it.
        prepared: name of the prepared data; None for the latest.
        official: run the nuScenes devkit too, on the file and the data set's own tables, and compare.
        command: as it was given, for the manifest; None where there was none.
    """

    file: Path
    split: str = "val"
    nuscenes: Path | None = None
    prepared: str | None = None
    official: bool = False
    force: bool = False
    command: Command | None = None


def evaluate_results(request: ResultsRequest, workspace: Workspace, progress: Progress) -> EvaluateResult:
    """Check and score a results file; its detections become an artifact that can be drawn like a model's.

    Raises:
        UsageError: the file is not what the benchmark accepts, or the version has no such split.
        MissingArtifactError: nothing is prepared.
        DatasetError: the split is empty, or the devkit cannot open the data set.
        MetricsDifferError: the devkit's metrics are others.
    """
    artifact = workspace.find(
        PREPARE_STAGE, request.prepared, needed_for=f"crkd {STAGE} --results", make="crkd prepare --nuscenes DIR"
    )
    prepared = PreparedData(artifact, request.nuscenes)
    split = resolve_split(request.split, prepared.version)
    if request.official:
        require_annotated(split)
    subject = Subject.of_file(request.file)
    label = choose_name(workspace, subject, request.split, split, artifact.name)
    with explain_unreadable(request.file):
        sha256 = record_file(request.file).sha256
    settings = {"split": split, "results": {"file": request.file.name, "sha256": sha256}}
    inputs = {"prepared": artifact.reference()}
    existing = workspace.finished(STAGE, label)
    is_known = existing is not None and (existing.manifest.settings, existing.manifest.inputs) == (settings, inputs)
    # Read before anything is written: a file that is refused leaves no trace.
    found = None if is_known and not request.force else read_results(request.file, prepared, split, progress)
    how: dict[str, Any] = {
        "command": _command(request, artifact),
        "settings": settings,
        "inputs": inputs,
        "force": request.force,
        "replace": True,
        "warn": progress.warning,
    }
    with workspace.write(STAGE, label, **how) as writer:
        if writer.finished is not None:
            metrics = read_metrics(writer.finished)
            difference = compare_with_devkit(request.official, request.file, prepared, split, metrics, progress)
            return EvaluateResult(writer.finished, subject.name, split, metrics, True, difference, request.file)
        found = found or read_results(request.file, prepared, split, progress)
        write_table(writer.path / TABLE_NAME, found.table)
        metrics = score(writer.path, prepared, split, found.tokens, found.table, progress)
        difference = compare_with_devkit(request.official, request.file, prepared, split, metrics, progress)
        finished = writer.finish(_facts(subject, split, found, metrics))
    return EvaluateResult(finished, subject.name, split, metrics, False, difference, request.file)


def _command(request: ResultsRequest, prepared: Artifact) -> Command:
    command = (request.command or Command(STAGE)).setting("--results", absolute(request.file))
    command = command.setting("--split", request.split).setting("--prepared", prepared.name)
    return pin_machine(command, request.nuscenes, "auto")


def _facts(subject: Subject, split: str, found: Results, metrics: Metrics | None) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "model": subject.name,
        "file": str(subject.file),
        "role": None,
        "modalities": list(found.modalities),
        "split": split,
        "samples": len(found.tokens),
        "extent_m": max(CLASS_RANGE_M.values()) + _SHOWN_BEYOND_RANGE_M,
    }
    return facts if metrics is None else facts | {"mean_ap": metrics.mean_ap, "nds": metrics.nds}
