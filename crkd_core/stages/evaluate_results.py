"""Stage ``evaluate`` for a results file: any detector's nuScenes submission, checked and scored without a model."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crkd_core.artifacts.manifest import Manifest, record_file
from crkd_core.artifacts.tables import write_table
from crkd_core.artifacts.workspace import Workspace
from crkd_core.data.prepared import PreparedData
from crkd_core.errors import UsageError
from crkd_core.evaluation.detections import TABLE_NAME
from crkd_core.evaluation.metrics import CLASS_RANGE_M, Metrics
from crkd_core.evaluation.results_file import Results, explain_unreadable, read_results
from crkd_core.nuscenes.splits import resolve_split
from crkd_core.progress import Progress
from crkd_core.stages.evaluate import (
    STAGE,
    EvaluateResult,
    compare_with_devkit,
    require_alike,
    require_annotated,
    score,
)
from crkd_core.stages.evaluated import read_metrics
from crkd_core.stages.inputs import STAGE as PREPARE_STAGE

_LONGEST_NAME = 80
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
    """

    file: Path
    split: str = "val"
    nuscenes: Path | None = None
    prepared: str | None = None
    official: bool = False
    force: bool = False


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
        require_alike(prepared, split)
    name = results_name(request.file)
    label = f"{name}-{request.split}"
    with explain_unreadable(request.file):
        sha256 = record_file(request.file).sha256
    settings = {"split": split, "results": {"file": request.file.name, "sha256": sha256}}
    inputs = {"prepared": artifact.reference()}
    existing = _existing(workspace, label, request.file)
    is_known = existing is not None and (existing.settings, existing.inputs) == (settings, inputs)
    # Read before anything is written: a file that is refused leaves no trace.
    found = None if is_known and not request.force else read_results(request.file, prepared, split, progress)
    command = shlex.join(["crkd", STAGE, "--results", str(request.file), "--split", request.split])
    how: dict[str, Any] = {"command": command, "settings": settings, "inputs": inputs, "force": request.force}
    with workspace.write(STAGE, label, **how, replace=True) as writer:
        writer.warn(progress)
        if writer.finished is not None:
            metrics = read_metrics(writer.finished)
            difference = compare_with_devkit(request.official, request.file, prepared, split, metrics, progress)
            return EvaluateResult(writer.finished, name, split, metrics, True, difference, request.file)
        found = found or read_results(request.file, prepared, split, progress)
        write_table(writer.path / TABLE_NAME, found.table)
        metrics = score(writer.path, prepared, split, found.tokens, found.table, progress)
        difference = compare_with_devkit(request.official, request.file, prepared, split, metrics, progress)
        finished = writer.finish(_facts(name, split, found, metrics))
    return EvaluateResult(finished, name, split, metrics, False, difference, request.file)


def results_name(file: Path) -> str:
    """What a results file is called in tables and in the workspace: its own name, in letters that all stages accept."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", file.name.removesuffix(".json")).lstrip("._-")[:_LONGEST_NAME]
    return name or "results"


def _existing(workspace: Workspace, name: str, file: Path) -> Manifest | None:
    """The manifest of an evaluation of that name; a model's must not be replaced by a file's."""
    found = next((artifact.manifest for artifact in workspace.artifacts(STAGE) if artifact.name == name), None)
    if found is not None and "model" in found.inputs:
        model = found.inputs["model"]
        raise UsageError(
            f"{STAGE}/{name} is the evaluation of the model {model.stage}/{model.name}, and that of {file} would have "
            "the same name; rename the file."
        )
    return found


def _facts(name: str, split: str, found: Results, metrics: Metrics | None) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "model": name,
        "role": None,
        "modalities": list(found.modalities),
        "split": split,
        "samples": len(found.tokens),
        "extent_m": max(CLASS_RANGE_M.values()) + _SHOWN_BEYOND_RANGE_M,
    }
    return facts if metrics is None else facts | {"mean_ap": metrics.mean_ap, "nds": metrics.nds}
