"""Two sets of detections of the same split: paired differences, and what one finds and the other misses."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from jaxtyping import Float64
from numpy.typing import NDArray

from crkd_core.evaluation.nuscenes.scoring import Scoring
from crkd_core.evaluation.statistics.bootstrap import ResampledScores, is_beyond_noise
from crkd_core.evaluation.statistics.breakdown import intervals, label_columns, numbers
from crkd_core.evaluation.statistics.slices import SplitScenes

COMPARISON_NAME = "comparison.parquet"
MISSED_NAME = "missed.parquet"

Verdict = Literal["ahead", "behind", "level", "unknown"]


def comparison_table(first: ResampledScores, second: ResampledScores) -> pa.Table:
    """Scores of both on every slice and class that has objects, and how they differ on the same resamples.

    Drawing the same scenes for both takes out what is common to them: that some scenes are harder than others.

    Columns: ``kind``, ``slice``, ``class`` (``all``: the mean), ``objects``; for ``ap`` (mAP for ``all``), and for
    ``nds`` of ``all``: ``_first``, ``_second``, ``_difference`` (second less first), ``_low``, ``_high`` and
    ``_beyond_noise`` (the interval leaves out zero). Missing where undefined; the last three also where too few scenes
    have such objects.
    """
    objects = np.concatenate([first.objects.sum(axis=1, keepdims=True), first.objects], axis=1)
    kept = objects > 0
    columns = label_columns(first, kept) | {"objects": objects[kept]}
    for name in ("ap", "nds"):
        first_values, second_values = (_values(scores, name) for scores in (first, second))
        difference = second_values - first_values
        low, high = intervals(difference, first.is_resampled)
        cells = {
            "first": first_values[0],
            "second": second_values[0],
            "difference": difference[0],
            "low": low,
            "high": high,
        }
        columns |= numbers({f"{name}_{column}": values for column, values in cells.items()}, kept)
        judged = is_beyond_noise(low, high)
        columns[f"{name}_beyond_noise"] = pa.array(judged[kept], pa.bool_(), mask=np.isnan(low[kept]))
    return pa.table(columns)


def verdict(row: Mapping[str, Any], score: Literal["ap", "nds"]) -> Verdict:
    """What a row of :func:`comparison_table` says of the second: ahead of the first or behind it beyond the noise,
    level where the interval of their difference holds zero, unknown where too few scenes have such objects.
    """
    if row[f"{score}_beyond_noise"] is None:
        return "unknown"
    if not row[f"{score}_beyond_noise"]:
        return "level"
    return "ahead" if row[f"{score}_low"] > 0 else "behind"


def missed_table(first: Scoring, second: Scoring, scenes: SplitScenes, score: float) -> pa.Table:
    """Objects that the first detects with at least `score` (within 2 m), and the second does not.

    Columns: ``sample_token``, ``scene``, ``annotation_token``, ``instance_token``, ``class``, ``distance_m`` (from the
    car), ``speed_mps``, ``visibility`` (1 to 4), ``lidar_points``, ``radar_points``, ``first_score`` and
    ``second_score`` (of a match below `score`, missing where there is none); the most confident first.
    """
    gt, class_names = first.gt, first.samples.description.class_names
    first_scores, second_scores = _match_scores(first), _match_scores(second)
    rows = np.flatnonzero((first_scores >= score) & ~(second_scores >= score))
    rows = rows[np.argsort(-first_scores[rows], kind="stable")]
    sample = gt.sample[rows]
    return pa.table(
        {
            "sample_token": pa.array([first.samples.tokens[index] for index in sample], pa.string()),
            "scene": pa.array([scenes.names[scenes.of_sample[index]] for index in sample], pa.string()),
            "annotation_token": pa.array(gt.token[rows], pa.string()),
            "instance_token": pa.array(gt.instance[rows], pa.string()),
            "class": pa.array([class_names[label] for label in gt.label[rows]], pa.string()),
            "distance_m": gt.ego_distance[rows],
            "speed_mps": pa.array(gt.speed_mps[rows], pa.float64(), from_pandas=True),
            "visibility": gt.visibility[rows],
            "lidar_points": gt.lidar_points[rows],
            "radar_points": gt.radar_points[rows],
            "first_score": first_scores[rows],
            "second_score": pa.array(second_scores[rows], pa.float64(), from_pandas=True),
        }
    )


def _match_scores(scoring: Scoring) -> NDArray[np.float64]:
    """Score of the detection that each object was matched with at 2 m; NaN where there is none."""
    scores = np.full(len(scoring.gt), np.nan)
    is_tp = scoring.matching.tp_gt_row >= 0
    scores[scoring.matching.tp_gt_row[is_tp]] = scoring.detections.score[is_tp]
    return scores


def _values(scores: ResampledScores, name: str) -> Float64[np.ndarray, "r k n"]:
    """Of the classes' mean and of every class."""
    if name == "ap":
        return np.concatenate([scores.mean_ap[:, :, None], scores.ap], axis=2)
    values = np.full((*scores.mean_ap.shape, 1 + len(scores.classes)), np.nan)
    values[:, :, 0] = scores.nds
    return values
