"""Matching detections to annotated objects by centre distance, for all samples and classes at once.

The benchmark goes through the detections of a class from the highest score down; each takes the nearest object of its
sample and class that is still free, if that is nearer than the threshold. This is the one stable matching of detections
that prefer near objects and objects that prefer high scores, and deferred acceptance finds it in a few rounds over all
detections at once: who has no object asks for the next nearest one; an object keeps the best that asked.

Source: ``accumulate`` of the nuScenes devkit, equal distances and equal scores included.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import NDArray

from crkd_core.config.description import TP_DISTANCE_M, DatasetDescription
from crkd_core.errors import UsageError
from crkd_core.evaluation.nuscenes.columns import BoxColumns
from crkd_core.evaluation.nuscenes.joining import equal_pairs
from crkd_core.evaluation.nuscenes.rounding import angle_differences, lengths, yaws

_MARGIN_M = 1e-6


@dataclass(frozen=True)
class Matching:
    """What every detection was matched with.

    Attributes:
        gt_row: (P, D) row of the matched annotation at each of `distances_m`, -1 where there is none.
        errors: (P, 5) errors of the 2 m matches, in the order of ``TPErrors``; NaN where there is no match, a velocity
            is unknown or the annotation has no attribute.
        order: (P,) the detections from the highest score down, equal ones from the last to the first.
        distances_m: the benchmark's match distances.
    """

    gt_row: Int64[np.ndarray, "p d"]
    errors: Float64[np.ndarray, "p 5"]
    order: Int64[np.ndarray, " p"]
    distances_m: tuple[float, ...]

    @property
    def tp_gt_row(self) -> Int64[np.ndarray, " p"]:
        """(P,) row of the annotation matched at 2 m, the distance of the true-positive errors; -1 for none."""
        return self.gt_row[:, self.distances_m.index(TP_DISTANCE_M)]


@dataclass(frozen=True)
class _Pairs:
    """Detections and annotations near each other, by detection from the highest score down, then distance."""

    rank: NDArray[np.int64]
    gt_row: NDArray[np.int64]
    distance: NDArray[np.float64]

    def nearer_than(self, distance_m: float) -> "_Pairs":
        kept = self.distance < distance_m
        return _Pairs(self.rank[kept], self.gt_row[kept], self.distance[kept])


def match(detections: BoxColumns, gt: BoxColumns, description: DatasetDescription) -> Matching:
    """Match all detections at every distance; both sides are what :func:`filtering.is_evaluated` kept.

    Raises:
        UsageError: a matched box has a size that is not positive.
    """
    distances_m = description.evaluation.match_distances_m
    order = np.argsort(detections.score, kind="stable")[::-1].copy()
    pairs = _near_pairs(detections, gt, order, distances_m[-1] + _MARGIN_M, len(description.classes))
    matched = np.full((len(detections), len(distances_m)), -1, dtype=np.int64)
    for column, distance_m in enumerate(distances_m):
        rank, gt_row = _stable_matching(pairs.nearer_than(distance_m), len(detections), len(gt))
        matched[order[rank], column] = gt_row
    _check_sizes(detections, gt, matched)
    errors = np.full((len(detections), 5), np.nan)
    tp_row = matched[:, distances_m.index(TP_DISTANCE_M)]
    tp = np.flatnonzero(tp_row >= 0)
    errors[tp] = tp_errors(detections[tp], gt[tp_row[tp]], description)
    return Matching(matched, errors, order, distances_m)


def tp_errors(detections: BoxColumns, gt: BoxColumns, description: DatasetDescription) -> Float64[np.ndarray, "n 5"]:
    """Errors of matched pairs, row by row, in the order of ``TPErrors``.

    Some classes look the same from behind, such as barriers: their yaw counts modulo half a turn.
    """
    smaller = np.prod(np.minimum(detections.size_wlh, gt.size_wlh), axis=1)
    volumes = np.prod(gt.size_wlh, axis=1) + np.prod(detections.size_wlh, axis=1)
    half_turns = np.array([entry.half_turn for entry in description.classes.values()])
    period = np.where(half_turns[gt.label], np.pi, 2 * np.pi)
    wrong = (detections.attribute != gt.attribute).astype(np.float64)
    return np.stack(
        [
            lengths(detections.translation[:, :2] - gt.translation[:, :2]),
            1 - smaller / (volumes - smaller),
            angle_differences(yaws(gt.rotation), yaws(detections.rotation), period),
            lengths(detections.velocity - gt.velocity),
            np.where(gt.attribute < 0, np.nan, wrong),
        ],
        axis=1,
    )


def _check_sizes(detections: BoxColumns, gt: BoxColumns, matched: NDArray[np.int64]) -> None:
    # The devkit looks at the sizes of what it matched, and at no others.
    detection, column = np.nonzero(matched >= 0)
    for boxes, rows in ((detections, detection), (gt, matched[detection, column])):
        wrong = ~(boxes.size_wlh[rows] > 0).all(axis=1)
        if wrong.any():
            size = boxes.size_wlh[rows[wrong.argmax()]].tolist()
            raise UsageError(f"a box has the size {size}, which cannot be scored; expected three positive numbers.")


def _near_pairs(detections: BoxColumns, gt: BoxColumns, order: NDArray[np.int64], reach: float, classes: int) -> _Pairs:
    rank_of = np.empty(len(order), dtype=np.int64)
    rank_of[order] = np.arange(len(order))
    (detection_x, detection_y), (gt_x, gt_y) = (
        np.ascontiguousarray(boxes.translation[:, :2].T) for boxes in (detections, gt)
    )
    ranks, rows, distances = [], [], []
    for detection, gt_row in equal_pairs(_group(detections, classes), _group(gt, classes)):
        near = np.abs(detection_x[detection] - gt_x[gt_row]) < reach
        detection, gt_row = detection[near], gt_row[near]
        near = np.abs(detection_y[detection] - gt_y[gt_row]) < reach
        detection, gt_row = detection[near], gt_row[near]
        ranks.append(rank_of[detection])
        rows.append(gt_row)
        distances.append(lengths(detections.translation[detection, :2] - gt.translation[gt_row, :2]))
    rank, row, distance = np.concatenate(ranks), np.concatenate(rows), np.concatenate(distances)
    by_preference = np.lexsort((row, distance, rank))
    return _Pairs(rank[by_preference], row[by_preference], distance[by_preference])


def _group(boxes: BoxColumns, classes: int) -> NDArray[np.int64]:
    return boxes.sample.astype(np.int64) * classes + boxes.label


def _stable_matching(pairs: _Pairs, ranks: int, gt: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(rank, gt row) of the matched pairs."""
    end = np.searchsorted(pairs.rank, np.arange(ranks), side="right")
    asked = np.searchsorted(pairs.rank, np.arange(ranks), side="left")
    holder = np.full(gt, ranks, dtype=np.int64)
    asking = np.flatnonzero(asked < end)
    while len(asking):
        nearest = pairs.gt_row[asked[asking]]
        before = holder[nearest]
        np.minimum.at(holder, nearest, asking)
        involved = np.unique(np.concatenate([asking, before[before < ranks]]))
        refused = involved[holder[pairs.gt_row[asked[involved]]] != involved]
        asked[refused] += 1
        asking = refused[asked[refused] < end[refused]]
    gt_row = np.flatnonzero(holder < ranks)
    return holder[gt_row], gt_row
