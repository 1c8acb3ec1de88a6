"""From matches to average precision, true-positive errors and the nuScenes detection score.

Source: ``accumulate``, ``calc_ap``, ``calc_tp`` and ``DetectionMetrics`` of the nuScenes devkit.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64
from numpy.typing import NDArray

from crkd_core.config.description import TP_DISTANCE_M, DatasetDescription
from crkd_core.errors import UsageError
from crkd_core.evaluation.nuscenes.columns import BoxColumns
from crkd_core.evaluation.nuscenes.match import Matching
from crkd_core.evaluation.nuscenes.metrics import (
    DEVKIT_ERRORS,
    MIN_PRECISION,
    MIN_RECALL,
    ClassMetrics,
    Metrics,
    TPErrors,
    detection_score,
)

RECALLS = np.linspace(0, 1, 101)
"""Recall of every point of a :class:`Curve`."""
_FIRST = round(100 * MIN_RECALL) + 1


@dataclass(frozen=True)
class Curve:
    """One class at one match distance, at the 101 recalls of :data:`RECALLS`.

    Attributes:
        precision: 0 to 1; 0 beyond the highest recall.
        confidence: score at which the recall is reached; 0 beyond the highest recall.
        errors: mean errors of the matches down to that score, in the order of ``TPErrors``.
    """

    precision: Float64[np.ndarray, " 101"]
    confidence: Float64[np.ndarray, " 101"]
    errors: Float64[np.ndarray, "101 5"]

    @property
    def average_precision(self) -> float:
        """Mean precision beyond 10% recall, as far as it is above 10%, 0 to 1."""
        above = np.maximum(self.precision[_FIRST:] - MIN_PRECISION, 0.0)
        return float(np.mean(above)) / (1.0 - MIN_PRECISION)

    @property
    def max_recall(self) -> float:
        """The highest recall that is reached."""
        return float(RECALLS[self._last])

    @property
    def mean_errors(self) -> TPErrors:
        """Mean errors over the recalls that are reached beyond 10%; 1 where none is."""
        if self._last < _FIRST:
            return TPErrors(1.0, 1.0, 1.0, 1.0, 1.0)
        reached = np.ascontiguousarray(self.errors[_FIRST : self._last + 1].T)
        return TPErrors(*(float(np.mean(values)) for values in reached))

    @property
    def _last(self) -> int:
        positive = np.flatnonzero(self.confidence)
        return int(positive[-1]) if len(positive) else 0


def accumulate(
    detections: BoxColumns,
    gt: BoxColumns,
    matching: Matching,
    description: DatasetDescription,
    detections_kept: Bool[np.ndarray, " p"] | None = None,
    gt_kept: Bool[np.ndarray, " t"] | None = None,
) -> dict[str, dict[float, Curve]]:
    """The curves of what was matched, or of a part of it, by class and match distance (m); errors at 2 m only, else 1.

    Args:
        detections, gt: what `matching` was made from, with `description`.
        detections_kept: those that count; the others are as if they had not been made, but what they took stays taken.
        gt_kept: those that count; a detection matched with another one is neither right nor wrong.
    """
    counting = np.ones(len(gt), dtype=bool) if gt_kept is None else gt_kept
    positives = np.bincount(gt.label[counting], minlength=len(description.classes))
    rows = matching.order if detections_kept is None else matching.order[detections_kept[matching.order]]
    by_class = rows[np.argsort(detections.label[rows], kind="stable")]
    starts = np.searchsorted(detections.label[by_class], np.arange(len(description.classes) + 1))
    curves: dict[str, dict[float, Curve]] = {}
    for label, name in enumerate(description.classes):
        own = by_class[starts[label] : starts[label + 1]]
        curves[name] = {}
        for column, distance_m in enumerate(description.evaluation.match_distances_m):
            gt_row = matching.gt_row[own, column]
            is_tp = gt_row >= 0
            used = own
            if gt_kept is not None:
                ignored = is_tp & ~counting[gt_row]
                used, is_tp = own[~ignored], is_tp[~ignored]
            errors = matching.errors[used[is_tp]] if distance_m == TP_DISTANCE_M else None
            curves[name][distance_m] = class_curve(is_tp, detections.score[used], int(positives[label]), errors)
    return curves


def summarise(curves: dict[str, dict[float, Curve]], description: DatasetDescription) -> Metrics:
    """The metrics of curves by class and match distance (m)."""
    unscored = {name: entry.unscored for name, entry in description.classes.items()}
    classes = {name: _class_metrics(by_distance, unscored[name]) for name, by_distance in curves.items()}
    errors = TPErrors(*(_mean([getattr(entry.errors, name) for entry in classes.values()]) for name in DEVKIT_ERRORS))
    mean_ap = float(np.mean([entry.ap for entry in classes.values()]))
    return Metrics(mean_ap, detection_score(mean_ap, errors), errors, classes, description)


def class_curve(
    is_tp: Bool[np.ndarray, " n"],
    score: Float64[np.ndarray, " n"],
    positives: int,
    errors: Float64[np.ndarray, "h 5"] | None = None,
) -> Curve:
    """Precision, score and mean errors over recall.

    Args:
        is_tp: whether each detection was matched, from the highest score down.
        score: their scores.
        positives: annotations that could have been matched.
        errors: of the matched ones, NaN where undefined.

    Raises:
        UsageError: a score is negative or infinite, with which the devkit's curves are undefined.
    """
    nothing = np.zeros(len(RECALLS))
    if positives == 0 or not is_tp.any():
        return Curve(nothing, nothing, np.ones((len(RECALLS), 5)))
    right = np.cumsum(is_tp).astype(np.float64)
    precision = right / np.arange(1, len(is_tp) + 1)
    recall = right / float(positives)
    confidence = np.interp(RECALLS, recall, score, right=0)
    if not (confidence[:-1] >= confidence[1:]).all():
        raise UsageError(f"scores must lie between 0 and 1, found {score.min():g} to {score.max():g}.")
    curve_errors = np.ones((len(RECALLS), 5))
    if errors is not None:
        for column in range(5):
            means = _running_mean(np.ascontiguousarray(errors[:, column]))
            curve_errors[:, column] = np.interp(confidence[::-1], score[is_tp][::-1], means[::-1])[::-1]
    return Curve(np.interp(RECALLS, recall, precision, right=0), confidence, curve_errors)


def _running_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of the values so far that are not NaN; 0 before the first, 1 where all are NaN."""
    known = ~np.isnan(values)
    if not known.any():
        return np.ones(len(values))
    count = np.cumsum(known)
    return np.divide(np.nancumsum(values), count, out=np.zeros(len(values)), where=count != 0)


def _class_metrics(curves: dict[float, Curve], undefined: Collection[str]) -> ClassMetrics:
    errors = curves[TP_DISTANCE_M].mean_errors
    return ClassMetrics(
        ap_by_distance={distance: curve.average_precision for distance, curve in curves.items()},
        errors=TPErrors(**{e: math.nan if e in undefined else getattr(errors, e) for e in DEVKIT_ERRORS}),
    )


def _mean(values: list[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan
