"""What lies behind the scores of an evaluation: slices with intervals, curves, and known causes of low scores."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from crkd_core.artifacts.tables import numbers_of, read_table, write_table
from crkd_core.artifacts.workspace import Artifact, Workspace
from crkd_core.config.data import DataConfig
from crkd_core.datasets.prepared import preparing
from crkd_core.datasets.prepared.prepared_data import PreparedData
from crkd_core.evaluation.diagnose import Diagnosis, Evidence, SensorInput, explain
from crkd_core.evaluation.finished import METRICS_NAME, OWN_KEY, load_evaluated, read_own
from crkd_core.evaluation.nuscenes.columns import detection_columns
from crkd_core.evaluation.nuscenes.scoring import Scoring
from crkd_core.evaluation.statistics.bootstrap import (
    CONFIDENCE,
    DEFAULT_RESAMPLES,
    ResampledScores,
    draw_scenes,
    score_slices,
)
from crkd_core.evaluation.statistics.breakdown import BREAKDOWN_NAME, breakdown_table
from crkd_core.evaluation.statistics.slices import Slice, SplitScenes, find_slices, read_object_facts, read_scenes
from crkd_core.progress import Progress


@dataclass(frozen=True)
class SplitParts:
    """The scenes of a split, and its slices for one set of detections."""

    scenes: SplitScenes
    slices: list[Slice]


def find_parts(scoring: Scoring, prepared: PreparedData) -> SplitParts:
    """Scenes and slices of what was scored."""
    scenes = read_scenes(prepared, scoring.samples.tokens)
    return SplitParts(scenes, find_slices(scoring, read_object_facts(prepared, scoring.gt), scenes))


def break_down(scoring: Scoring, parts: SplitParts, resamples: int, progress: Progress, name: str) -> ResampledScores:
    """Score every slice, with so many resamples of the scenes."""
    draws = draw_scenes(len(parts.scenes), resamples)
    with progress.task(name, total=10, unit="classes") as task:
        return score_slices(scoring, parts.slices, parts.scenes, draws, task.advance)


def write_analysis(
    folder: Path,
    scoring: Scoring,
    prepared: PreparedData,
    table: pa.Table,
    inputs: Sequence[SensorInput],
    progress: Progress,
) -> dict[str, Any]:
    """Write the break-down beside the metrics; returns what belongs into our part of ``metrics.json``.

    Args:
        table: all detections.
        inputs: what the model was given, where a model was evaluated.
    """
    parts = find_parts(scoring, prepared)
    scores = break_down(scoring, parts, DEFAULT_RESAMPLES, progress, "breakdown")
    write_table(folder / BREAKDOWN_NAME, breakdown_table(scores))
    evidence = Evidence(
        scoring=scoring,
        detected=detection_columns(table, scoring.samples),
        to_lidar=rotations_to_lidar(prepared, scoring.samples.tokens),
        inputs=tuple(inputs),
        data=prepared.artifact,
    )
    return {
        "findings": [asdict(finding) for finding in explain(evidence)],
        "bootstrap": {"scenes": len(parts.scenes), "resamples": DEFAULT_RESAMPLES, "confidence": CONFIDENCE},
    }


def breakdown_of(evaluation: Artifact, workspace: Workspace, resamples: int | None, progress: Progress) -> pa.Table:
    """The break-down of a finished evaluation (see ``breakdown_table``).

    Args:
        resamples: of the scenes; None for those that the evaluation made itself. Others, and what an earlier version
            did not write, are computed from its detections.

    Raises:
        ArtifactError: the evaluation or its prepared data cannot be used.
    """
    if resamples in (None, DEFAULT_RESAMPLES) and BREAKDOWN_NAME in evaluation.manifest.files:
        return read_table(evaluation, BREAKDOWN_NAME)
    scoring, prepared = load_evaluated(evaluation, workspace)
    parts = find_parts(scoring, prepared)
    number = DEFAULT_RESAMPLES if resamples is None else resamples
    return breakdown_table(break_down(scoring, parts, number, progress, f"breakdown {evaluation.name}"))


def read_diagnoses(evaluation: Artifact) -> tuple[Diagnosis, ...]:
    """The known causes that fit a finished evaluation; none where an earlier version did not look for them.

    Raises:
        DamagedArtifactError: the metrics cannot be read.
    """
    try:
        return tuple(Diagnosis(**entry) for entry in read_own(evaluation).get("findings", ()))
    except TypeError as error:
        raise evaluation.damaged(METRICS_NAME, f"its {OWN_KEY}.findings cannot be read: {error}") from None


def sensor_inputs(
    prepared: PreparedData, tokens: Sequence[str], data: DataConfig, modalities: Sequence[str]
) -> tuple[SensorInput, ...]:
    """What a model gets of LiDAR and radar on the samples `tokens`."""
    wanted = np.zeros(prepared.artifact.manifest.facts["samples"], dtype=bool)
    wanted[prepared.rows(tokens)] = True
    found = []
    if "lidar" in modalities:
        older = _samples_with(prepared, preparing.LIDAR_SWEEPS, "age_s", wanted)
        found.append(SensorInput("lidar", data.lidar.sweeps, len(tokens), None, len(tokens) - older))
    if "radar" in modalities:
        older = _samples_with(prepared, preparing.RADAR_SWEEPS, "age_s", wanted)
        filled = _samples_with(prepared, preparing.RADAR_SWEEPS, "points", wanted)
        found.append(SensorInput("radar", data.radar.sweeps, len(tokens), len(tokens) - filled, len(tokens) - older))
    return tuple(found)


def _samples_with(prepared: PreparedData, table: str, column: str, wanted: np.ndarray) -> int:
    """Of the wanted samples, those that have a sweep with a positive value in the column."""
    columns = read_table(prepared.artifact, table, ("sample", column))
    positive = np.zeros(len(wanted), dtype=bool)
    positive[numbers_of(columns["sample"])[numbers_of(columns[column]) > 0]] = True
    return int((positive & wanted).sum())


def rotations_to_lidar(prepared: PreparedData, tokens: Sequence[str]) -> np.ndarray:
    """(S, 2, 2) rotation of horizontal vectors from the global frame to each sample's LiDAR frame."""
    poses = np.stack([prepared.global_from_lidar(token) for token in tokens])
    return np.ascontiguousarray(poses[:, :2, :2].transpose(0, 2, 1))
