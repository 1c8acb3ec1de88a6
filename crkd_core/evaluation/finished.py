"""Reading finished evaluations: their metrics, and what they were made from."""

import json
from typing import Any

from crkd_core.artifacts.tables import read_table
from crkd_core.artifacts.workspace import Artifact, Workspace
from crkd_core.datasets.prepared.prepared_data import PreparedData
from crkd_core.datasets.prepared.source import STAGE as PREPARE_STAGE
from crkd_core.errors import UsageError
from crkd_core.evaluation.io.detections import read_detections
from crkd_core.evaluation.nuscenes.metrics import Metrics
from crkd_core.evaluation.nuscenes.scoring import Scoring, score_detections

METRICS_NAME = "metrics.json"
"""In the layout of the devkit's ``metrics_summary.json``; what it does not have is under :data:`OWN_KEY`."""
OWN_KEY = "crkd"
TOKENS_NAME = "samples.parquet"
"""The evaluated samples (``sample_token``), where they are a part of the split."""


def read_metrics(evaluation: Artifact) -> Metrics | None:
    """The nuScenes metrics of a finished evaluation; None on the test split.

    Raises:
        DamagedArtifactError: the file is missing or not what the stage writes.
    """
    try:
        values = _read(evaluation)
        return None if values is None else Metrics.from_json(values)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise evaluation.damaged(METRICS_NAME, f"it cannot be read as metrics: {error}") from None


def read_own(evaluation: Artifact) -> dict[str, Any]:
    """Our own part of the metrics of a finished evaluation.

    Raises:
        DamagedArtifactError: the file is missing or not what the stage writes.
    """
    try:
        return dict((_read(evaluation) or {}).get(OWN_KEY, {}))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise evaluation.damaged(METRICS_NAME, f"it cannot be read as metrics: {error}") from None


def load_evaluated(evaluation: Artifact, workspace: Workspace) -> tuple[Scoring, PreparedData]:
    """Match the detections of a finished evaluation again, and open the prepared data it was made from.

    Raises:
        UsageError: the split has no public annotations.
        ArtifactError: the prepared data are missing or stale, or a table is damaged.
    """
    facts = evaluation.manifest.facts
    if "mean_ap" not in facts:
        raise UsageError(f"{evaluation.label} has no scores: the annotations of {facts['split']} are not public.")
    reference = evaluation.manifest.inputs["prepared"]
    make = f"crkd prepare --nuscenes DIR --name {reference.name}"
    if reference.stage != PREPARE_STAGE:
        make = f"{evaluation.manifest.command} --force"
    prepared = PreparedData(workspace.find(reference.stage, reference.name, needed_for=evaluation.label, make=make))
    tokens = evaluated_tokens(evaluation, prepared)
    return score_detections(prepared, tokens, read_detections(evaluation).table), prepared


def evaluated_tokens(evaluation: Artifact, prepared: PreparedData) -> list[str]:
    """The samples that were evaluated: those of the split, or the part of it that a results file was said to hold.

    Raises:
        DamagedArtifactError: their list cannot be read.
    """
    if TOKENS_NAME in evaluation.manifest.files:
        return read_table(evaluation, TOKENS_NAME)["sample_token"].to_pylist()
    return prepared.tokens(evaluation.manifest.facts["split"])


def _read(evaluation: Artifact) -> Any:
    return json.loads(evaluation.file(METRICS_NAME).read_text(encoding="utf-8"))
