"""Finished evaluations: their metrics, and the detections and samples that they were made from."""

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from crkd_core.artifacts.described import description_of
from crkd_core.artifacts.tables import read_table
from crkd_core.artifacts.workspace import Artifact, Workspace
from crkd_core.datasets.prepared.prepared_data import PreparedData
from crkd_core.datasets.prepared.source import STAGE as PREPARE_STAGE
from crkd_core.errors import UsageError
from crkd_core.evaluation.evaluated_split import EvaluatedSplit
from crkd_core.evaluation.io.detections import read_detections
from crkd_core.evaluation.nuscenes.metrics import Metrics
from crkd_core.evaluation.nuscenes.scoring import Scoring, score

METRICS_NAME = "metrics.json"
"""In the layout of the devkit's ``metrics_summary.json``; what it does not have is under :data:`OWN_KEY`."""
OWN_KEY = "crkd"
TOKENS_NAME = "samples.parquet"
"""The evaluated samples (``sample_token``), where they are a part of the split."""


@dataclass(frozen=True)
class Scored:
    """Detections that were scored, with the samples they were scored on."""

    samples: EvaluatedSplit
    scoring: Scoring


@dataclass(frozen=True)
class FinishedEvaluation:
    """A finished evaluation, whose detections are matched again only where they must, and then once.

    Attributes:
        just_scored: by the evaluation itself; None where it was finished before.
    """

    artifact: Artifact
    workspace: Workspace
    just_scored: Scored | None = None

    @cached_property
    def scored(self) -> Scored:
        """Its detections with their matching.

        Raises:
            UsageError: the split has no public annotations.
            ArtifactError: the prepared data are missing or stale, or a table is damaged.
        """
        if self.just_scored is not None:
            samples = self.just_scored.samples
            # A results file may have its samples in another order, on which equal scores depend.
            if list(samples.tokens) == evaluated_tokens(self.artifact, samples.prepared):
                return self.just_scored
        return score_again(self.artifact, open_samples(self.artifact, self.workspace))


def read_metrics(evaluation: Artifact) -> Metrics | None:
    """The nuScenes metrics of a finished evaluation; None on the test split.

    Raises:
        DamagedArtifactError: the file is missing or not what the stage writes.
    """
    try:
        values = _read(evaluation)
        return None if values is None else Metrics.from_json(values, description_of(evaluation))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise evaluation.damaged(METRICS_NAME, f"it cannot be read as metrics: {error}") from None


def read_own(evaluation: Artifact) -> dict[str, Any]:
    """The part of the metrics file of a finished evaluation that the devkit does not have.

    Raises:
        DamagedArtifactError: the file is missing or not what the stage writes.
    """
    try:
        return dict((_read(evaluation) or {}).get(OWN_KEY, {}))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise evaluation.damaged(METRICS_NAME, f"it cannot be read as metrics: {error}") from None


def open_samples(evaluation: Artifact, workspace: Workspace) -> EvaluatedSplit:
    """The samples of a finished evaluation, in the prepared data it was made from.

    Raises:
        UsageError: the split has no public annotations.
        ArtifactError: the prepared data are missing or stale.
    """
    facts = evaluation.manifest.facts
    if "mean_ap" not in facts:
        raise UsageError(f"{evaluation.label} has no scores: the annotations of {facts['split']} are not public.")
    reference = evaluation.manifest.inputs["prepared"]
    make = f"crkd prepare --nuscenes DIR --name {reference.name}"
    if reference.stage != PREPARE_STAGE:
        make = f"{evaluation.manifest.command} --force"
    prepared = PreparedData(workspace.find(reference.stage, reference.name, needed_for=evaluation.label, make=make))
    return EvaluatedSplit(prepared, facts["split"], evaluated_tokens(evaluation, prepared))


def score_again(evaluation: Artifact, samples: EvaluatedSplit) -> Scored:
    """Match the detections of a finished evaluation again, on its samples.

    Raises:
        DamagedArtifactError: their table cannot be read.
    """
    return Scored(samples, score(read_detections(evaluation).table, samples.ground_truth))


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
