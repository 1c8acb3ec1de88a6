"""Average precision and true-positive errors of many draws of the scenes at once.

Matching does not depend on which scenes are drawn: what a draw changes is how often each detection and each annotation
counts, which is how often its scene was drawn. So a ranking of detections is summed up once for every scene, at some
steps of it, and what a draw finds at a step is a product of matrices.

With a step at every true positive, and every scene drawn once, the numbers are those of
:mod:`crkd_core.evaluation.nuscenes.accumulate`. Fewer steps, and a scene that is drawn n times and so steps
through its detections n at a time, make precision linear between the steps: a difference far below what is
resampled for.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64
from numpy.typing import NDArray

from crkd_core.evaluation.nuscenes.accumulate import RECALLS
from crkd_core.evaluation.nuscenes.metrics import MIN_PRECISION, MIN_RECALL

_RECALLS = RECALLS[round(100 * MIN_RECALL) + 1 :]
"""Those that count."""


@dataclass(frozen=True)
class Ranking:
    """Detections of one class at one match distance, from the highest score down, summed at G steps in S scenes.

    A step ends with a true positive. All sums are from the top of the ranking.

    Attributes:
        score: (G,) of the last true positive of each step.
        fp_score: (G + 1,) of the last false positive before each step's first true positive, and of all; inf for none.
        tp: (S, G) true positives up to the end of each step.
        fp_before: (S, G + 1) false positives before each step's first true positive, and all of them.
        fp: (S, G) false positives up to the end of each step.
        positives: (S,) annotations to find.
        error_sum, error_count: (E, S, G) errors of the true positives up to the end of each step, and how many
            are defined.
    """

    score: Float64[np.ndarray, " g"]
    fp_score: Float64[np.ndarray, " g_plus_1"]
    tp: Float64[np.ndarray, "s g"]
    fp_before: Float64[np.ndarray, "s g_plus_1"]
    fp: Float64[np.ndarray, "s g"]
    positives: Float64[np.ndarray, " s"]
    error_sum: Float64[np.ndarray, "e s g"]
    error_count: Float64[np.ndarray, "e s g"]


@dataclass(frozen=True)
class DrawnScores:
    """Scores in R draws; NaN where a draw has nothing to find.

    Attributes:
        average_precision, max_recall: (R,) 0 where there is no true positive.
        errors: (R, E) mean errors over the recalls reached beyond 10%; 1 where none is.
    """

    average_precision: Float64[np.ndarray, " r"]
    max_recall: Float64[np.ndarray, " r"]
    errors: Float64[np.ndarray, "r e"]


@dataclass(frozen=True)
class Ranked:
    """Some detections of a ranking: their ranks, ascending, with scene and score of each."""

    rank: Int64[np.ndarray, " n"]
    scene: Int64[np.ndarray, " n"]
    score: Float64[np.ndarray, " n"]


def sum_up(
    tp: Ranked,
    fp: Ranked,
    positives: Int64[np.ndarray, " s"],
    errors: Float64[np.ndarray, "h e"],
    most_steps: int | None = None,
) -> Ranking:
    """Sum up the true and the false positives of a ranking.

    Args:
        positives: annotations to find in each scene.
        errors: of the true positives, NaN where undefined.
        most_steps: at most so many steps, each of about as many true positives; None for one step per true positive.
    """
    scenes, number = len(positives), len(tp.rank)
    steps = min(number, most_steps or number)
    ends = (np.arange(1, steps + 1) * number) // max(steps, 1) - 1
    starts = np.append(0, ends[:-1] + 1)[:steps]
    step = np.repeat(np.arange(steps), ends - starts + 1)
    before = np.searchsorted(fp.rank, tp.rank[starts])
    until = np.searchsorted(fp.rank, tp.rank[ends])
    known = ~np.isnan(errors)
    sums = [_by_scene(tp.scene, step, scenes, steps, np.where(k, e, 0.0)) for e, k in zip(errors.T, known.T)]
    counts = [_by_scene(tp.scene, step, scenes, steps, k.astype(np.float64)) for k in known.T]
    return Ranking(
        score=tp.score[ends],
        fp_score=np.append(np.inf, fp.score)[np.append(before, len(fp.rank))],
        tp=_by_scene(tp.scene, step, scenes, steps),
        fp_before=_by_scene(fp.scene, _steps_of(before, len(fp.rank)), scenes, steps + 1),
        fp=_by_scene(fp.scene, _steps_of(until, len(fp.rank)), scenes, steps + 1)[:, :steps],
        positives=positives.astype(np.float64),
        error_sum=np.array(sums).reshape(errors.shape[1], scenes, steps),
        error_count=np.array(counts).reshape(errors.shape[1], scenes, steps),
    )


def score_ranking(ranking: Ranking, draws: Float64[np.ndarray, "r s"]) -> DrawnScores:
    """Precision, recall and errors in draws that count every scene so many times."""
    positives = draws @ ranking.positives
    empty = positives == 0
    precision, recall = np.zeros(len(draws)), np.zeros(len(draws))
    errors = np.ones((len(draws), len(ranking.error_sum)))
    if len(ranking.score):
        crossing = _cross(ranking, draws, np.maximum(positives, 1)[:, None])
        counted = np.where(crossing.reached, np.maximum(_precision(crossing) - MIN_PRECISION, 0.0), 0.0)
        precision = counted.mean(axis=1) / (1.0 - MIN_PRECISION)
        recall = crossing.tp[:, -1] / np.maximum(positives, 1)
        if errors.shape[1]:
            errors = _mean_errors(ranking, draws, crossing)
    precision[empty] = recall[empty] = np.nan
    errors[empty] = np.nan
    return DrawnScores(precision, recall, errors)


@dataclass(frozen=True)
class _Crossing:
    """Between which two steps each recall is reached, in every draw.

    Attributes:
        tp: (R, G) true positives up to each step.
        positives: (R, 1).
        left, right: (R, X) steps before and after; -1 on the left for none.
        tp_left, tp_right: true positives up to them.
        fp_left, fp_right: false positives just before the right step, and up to its end.
        at_end: the recall is exactly that of all true positives: there is no right step.
        reached: the recall is reached.
    """

    tp: Float64[np.ndarray, "r g"]
    positives: Float64[np.ndarray, "r 1"]
    left: Int64[np.ndarray, "r x"]
    right: Int64[np.ndarray, "r x"]
    tp_left: Float64[np.ndarray, "r x"]
    tp_right: Float64[np.ndarray, "r x"]
    fp_left: Float64[np.ndarray, "r x"]
    fp_right: Float64[np.ndarray, "r x"]
    at_end: Bool[np.ndarray, "r x"]
    reached: Bool[np.ndarray, "r x"]

    def between(
        self, left: Float64[np.ndarray, "r x"], right: Float64[np.ndarray, "r x"]
    ) -> Float64[np.ndarray, "r x"]:
        """Linear in the recall; the left value at the end."""
        start, end = self.tp_left / self.positives, self.tp_right / self.positives
        width = np.where(self.at_end, 0.0, end - start)
        return np.divide(right - left, width, out=np.zeros(width.shape), where=width > 0) * (_RECALLS - start) + left


def _cross(ranking: Ranking, draws: NDArray[np.float64], positives: NDArray[np.float64]) -> _Crossing:
    tp = draws @ ranking.tp
    before, until = draws @ ranking.fp_before, draws @ ranking.fp
    end = tp.shape[1] - 1
    left = _first_above(tp, _most_tp(positives)) - 1
    right = np.minimum(left + 1, end)
    total = tp[:, -1:]
    at_end = (left == end) & (total / positives == _RECALLS) & (total > 0)
    return _Crossing(
        tp=tp,
        positives=positives,
        left=left,
        right=right,
        tp_left=np.where(left >= 0, np.take_along_axis(tp, np.maximum(left, 0), axis=1), 0.0),
        tp_right=np.take_along_axis(tp, right, axis=1),
        fp_left=np.take_along_axis(before, np.where(at_end, end + 1, right), axis=1),
        fp_right=np.take_along_axis(until, right, axis=1),
        at_end=at_end,
        reached=(left < end) | at_end,
    )


def _precision(crossing: _Crossing) -> NDArray[np.float64]:
    at_right = crossing.tp_right / np.maximum(crossing.tp_right + crossing.fp_right, 1)
    all_left = crossing.tp_left + crossing.fp_left
    at_left = np.divide(crossing.tp_left, all_left, out=at_right.copy(), where=all_left > 0)
    return crossing.between(at_left, at_right)


def _mean_errors(ranking: Ranking, draws: NDArray[np.float64], crossing: _Crossing) -> Float64[np.ndarray, "r e"]:
    """The benchmark looks the mean error of the true positives so far up by score: linear in it between two steps.

    At a score that several true positives have, it takes the first of them.
    """
    left, right = np.maximum(crossing.left, 0), crossing.right
    has_left = crossing.tp_left > 0
    score_left, score_right = ranking.score[left], ranking.score[right]
    last_fp = ranking.fp_score[np.where(crossing.at_end, len(ranking.score), right)]
    lowest = np.minimum(np.where(has_left, score_left, np.inf), last_fp)
    confidence = crossing.between(np.where(np.isinf(lowest), score_right, lowest), score_right)
    step = score_left - score_right
    share = np.divide(confidence - score_right, step, out=np.ones(step.shape), where=step > 0)
    share = np.where(crossing.at_end, 1.0, np.where(has_left, np.clip(share, 0.0, 1.0), 0.0))
    first_of_equal = np.searchsorted(-ranking.score, -ranking.score, side="left")
    left = np.where(has_left & (confidence >= score_left), first_of_equal[left], left)
    right = first_of_equal[right]
    counts = crossing.reached & (confidence > 0)
    number = counts.sum(axis=1)
    errors = np.ones((len(draws), len(ranking.error_sum)))
    for column in range(errors.shape[1]):
        total, known = draws @ ranking.error_sum[column], draws @ ranking.error_count[column]
        means = np.divide(total, known, out=np.zeros(total.shape), where=known > 0)
        means[known[:, -1] == 0] = 1.0
        at_left, at_right = np.take_along_axis(means, left, axis=1), np.take_along_axis(means, right, axis=1)
        values = np.where(counts, at_right + share * (at_left - at_right), 0.0).sum(axis=1)
        errors[:, column] = np.divide(values, number, out=np.ones(len(number)), where=number > 0)
    return errors


def _most_tp(positives: NDArray[np.float64]) -> NDArray[np.float64]:
    """(R, X) the largest number of true positives whose recall, as rounded, is no more than each of the recalls."""
    most = np.floor(_RECALLS * positives)
    most += (most + 1) / positives <= _RECALLS
    return most - (most / positives > _RECALLS)


def _first_above(counts: NDArray[np.float64], bound: NDArray[np.float64]) -> NDArray[np.int64]:
    """(R, X) index of the first of the non-decreasing counts (R, N) of a row that is above `bound`; N if none.

    Rows are laid end to end, far enough apart that one search serves all; counts and bounds are whole numbers.
    """
    rows, length = counts.shape
    row = np.arange(rows)[:, None]
    offset = row * (max(counts[:, -1].max(), bound.max()) + 1)
    indices = np.searchsorted((counts + offset).ravel(), (bound + offset).ravel(), side="right")
    return indices.reshape(bound.shape) - length * row


def _steps_of(bounds: NDArray[np.int64], number: int) -> NDArray[np.int64]:
    """Step of each of `number` detections in order, where step i ends before `bounds[i]`."""
    return np.repeat(np.arange(len(bounds) + 1), np.diff(bounds, prepend=0, append=number))


def _by_scene(
    scene: NDArray[np.int64],
    step: NDArray[np.int64],
    scenes: int,
    steps: int,
    values: NDArray[np.float64] | None = None,
) -> Float64[np.ndarray, "s g"]:
    """Sums (or numbers) of what lies in each scene up to each step."""
    sums = np.bincount(scene * steps + step, values, minlength=scenes * steps).reshape(scenes, steps)
    return np.cumsum(sums.astype(np.float64), axis=1)
