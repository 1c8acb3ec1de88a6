"""Scores of an evaluation and what lies behind them: slices with intervals, and diagnoses of low scores."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from crkd_core.artifacts.atomic import write_json
from crkd_core.artifacts.tables import read_table, write_table
from crkd_core.artifacts.workspace import Artifact
from crkd_core.evaluation.diagnose import Diagnosis, Evidence, diagnose
from crkd_core.evaluation.evaluated_split import EvaluatedSplit
from crkd_core.evaluation.finished import METRICS_NAME, OWN_KEY, FinishedEvaluation, Scored, read_own
from crkd_core.evaluation.nuscenes.scoring import score
from crkd_core.evaluation.sensor_inputs import SensorInput
from crkd_core.evaluation.statistics.bootstrap import (
    CONFIDENCE,
    DEFAULT_RESAMPLES,
    ResampledScores,
    draw_scenes,
    score_slices,
)
from crkd_core.evaluation.statistics.breakdown import BREAKDOWN_NAME, breakdown_table
from crkd_core.evaluation.statistics.slices import find_slices
from crkd_core.progress import Progress


@dataclass(frozen=True)
class AnalysisRequest:
    """What is wanted of an evaluation beyond its scores.

    Attributes:
        resamples: of the scenes; None for those that every evaluation makes.
        curves: pictures of precision and errors over recall.
    """

    resamples: int | None = None
    curves: bool = False


@dataclass(frozen=True)
class Analysis:
    """What lies behind the scores of an evaluation.

    Attributes:
        breakdown: scores of slices, see ``breakdown_table``.
        diagnoses: known causes of low scores that fit.
        pictures: curves that were drawn.
    """

    breakdown: pa.Table
    diagnoses: tuple[Diagnosis, ...] = ()
    pictures: tuple[Path, ...] = ()


def write_scores(
    folder: Path, samples: EvaluatedSplit, table: pa.Table, inputs: Sequence[SensorInput], progress: Progress
) -> Scored | None:
    """Score a table of detections and write metrics and break-down into `folder`.

    Args:
        inputs: what the model was given, where a model is evaluated.

    Returns:
        None on the test split.

    Raises:
        UsageError: the detections are not what the benchmark accepts.
        DatasetError: nothing is annotated in the samples.
    """
    if not samples.is_annotated:
        progress.message("the test split has no public annotations, so there are no metrics.")
        write_json(folder / METRICS_NAME, None)
        return None
    scored = Scored(samples, score(table, samples.ground_truth))
    resampled = break_down(scored, DEFAULT_RESAMPLES, progress, "breakdown")
    write_table(folder / BREAKDOWN_NAME, breakdown_table(resampled))
    evidence = Evidence(scored.scoring, samples.lidar_from_global(), tuple(inputs), samples.prepared.artifact)
    own: dict[str, Any] = samples.facts() | {
        "evaluated": scored.scoring.counts(),
        "findings": [asdict(diagnosis) for diagnosis in diagnose(evidence)],
        "bootstrap": {"scenes": len(samples.scenes), "resamples": DEFAULT_RESAMPLES, "confidence": CONFIDENCE},
    }
    write_json(folder / METRICS_NAME, scored.scoring.metrics.to_json() | {OWN_KEY: own})
    return scored


def break_down(scored: Scored, resamples: int, progress: Progress, name: str) -> ResampledScores:
    """Score every slice, with so many resamples of the scenes."""
    scenes = scored.samples.scenes
    slices, draws = find_slices(scored.scoring, scenes), draw_scenes(len(scenes), resamples)
    with progress.task(name, total=len(scored.scoring.samples.description.classes), unit="classes") as task:
        return score_slices(scored.scoring, slices, scenes, draws, task.advance)


def breakdown_of(evaluation: FinishedEvaluation, resamples: int | None, progress: Progress) -> pa.Table:
    """The break-down of a finished evaluation (see ``breakdown_table``).

    Args:
        resamples: of the scenes; None for those that the evaluation made itself. Others, and what an earlier version
            did not write, are computed from its detections.

    Raises:
        ArtifactError: the evaluation or its prepared data cannot be used.
    """
    artifact = evaluation.artifact
    if resamples in (None, DEFAULT_RESAMPLES) and BREAKDOWN_NAME in artifact.manifest.files:
        return read_table(artifact, BREAKDOWN_NAME)
    number = DEFAULT_RESAMPLES if resamples is None else resamples
    return breakdown_table(break_down(evaluation.scored, number, progress, f"breakdown {artifact.name}"))


def read_diagnoses(evaluation: Artifact) -> tuple[Diagnosis, ...]:
    """The diagnoses of a finished evaluation; none where an earlier version did not look for them.

    Raises:
        DamagedArtifactError: the metrics cannot be read.
    """
    try:
        return tuple(Diagnosis(**entry) for entry in read_own(evaluation).get("findings", ()))
    except TypeError as error:
        raise evaluation.damaged(METRICS_NAME, f"its {OWN_KEY}.findings cannot be read: {error}") from None
