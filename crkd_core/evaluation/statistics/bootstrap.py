"""How far scores depend on which scenes a split happens to have: bootstrap over scenes.

Samples of a scene show the same objects again, so scenes are drawn, with replacement, and not samples. Every resample
is scored as the benchmark scores a split, except that a class is left out of a resample that has none of its objects
(the benchmark would give it 0).
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64
from numpy.typing import NDArray

from crkd_core.config.description import TP_DISTANCE_M
from crkd_core.evaluation.nuscenes.metrics import DEVKIT_ERRORS, detection_scores, undefined_errors
from crkd_core.evaluation.nuscenes.scoring import Scoring
from crkd_core.evaluation.statistics.slices import ALL, Slice, SplitScenes
from crkd_core.evaluation.statistics.weighted import Ranked, score_ranking, sum_up

DEFAULT_RESAMPLES = 200
CONFIDENCE = 0.95
"""Share of the resamples that an interval covers."""
FEWEST_SCENES = 5
"""With objects; of fewer, resamples tell nothing (a class of one scene would never vary)."""
_SEED = 0
_STEPS = 200
"""At which a ranking is summed up for resampling."""


@dataclass(frozen=True)
class ResampledScores:
    """Scores of K slices and C classes: first of the split itself, then in every resample.

    Attributes:
        classes: their names.
        ap: average precision, mean over the match distances; NaN where there is no object.
        errors: in the order of ``TPErrors``; NaN where there is no object or no such error.
        recall: the highest, at 2 m.
        objects: in the split itself.
        scenes: of the split that have such objects; of any class first.
    """

    slices: tuple[Slice, ...]
    classes: tuple[str, ...]
    ap: Float64[np.ndarray, "r k c"]
    errors: Float64[np.ndarray, "r k c 5"]
    recall: Float64[np.ndarray, "r k c"]
    objects: Int64[np.ndarray, "k c"]
    scenes: Int64[np.ndarray, "k c+1"]

    @property
    def is_resampled(self) -> Bool[np.ndarray, "k n"]:
        """Whether there are scenes enough to tell how far a score depends on them; all classes first."""
        return (self.scenes >= FEWEST_SCENES) & (len(self.ap) > 1)

    @property
    def mean_ap(self) -> Float64[np.ndarray, "r k"]:
        """mAP: of all classes for the whole split, of those that have objects for a part of it."""
        return _mean(self.ap)

    @property
    def mean_errors(self) -> Float64[np.ndarray, "r k 5"]:
        """mATE, mASE, mAOE, mAVE, mAAE of the same classes."""
        return _mean(np.moveaxis(self.errors, 2, -1))

    @property
    def nds(self) -> Float64[np.ndarray, "r k"]:
        """nuScenes detection score."""
        return detection_scores(self.mean_ap, self.mean_errors)


def draw_scenes(scenes: int, resamples: int, seed: int = _SEED) -> Float64[np.ndarray, "r s"]:
    """How often each scene counts in each resample: as many draws with replacement as there are scenes.

    There is nothing to draw from one scene: no resample.
    """
    resamples = resamples if scenes > 1 else 0
    rng = np.random.default_rng(seed)
    return rng.multinomial(scenes, np.full(scenes, 1 / scenes), size=resamples).astype(np.float64)


def score_slices(
    scoring: Scoring,
    slices: Sequence[Slice],
    scenes: SplitScenes,
    draws: Float64[np.ndarray, "r s"],
    step: Callable[[], None] = lambda: None,
) -> ResampledScores:
    """Score every slice on the split itself, and in every draw; `step` is called after each class."""
    description = scoring.samples.description
    classes, undefined = len(description.classes), undefined_errors(description)
    shape = (1 + len(draws), len(slices), classes)
    ap, recall = np.zeros(shape), np.zeros(shape)
    errors = np.zeros((*shape, len(DEVKIT_ERRORS)))
    together = SplitScenes.one(len(scenes.of_sample))
    for label in range(classes):
        own = _ClassScores(scoring, slices, label)
        ap[:1, :, label], errors[:1, :, label], recall[:1, :, label] = own.compute(together, np.ones((1, 1)), None)
        if len(draws):
            drawn = own.compute(scenes, draws, _STEPS)
            ap[1:, :, label], errors[1:, :, label], recall[1:, :, label] = drawn
        step()
    errors[:, :, undefined] = np.nan
    objects = np.stack([np.bincount(scoring.gt.label[part.gt], minlength=classes) for part in slices])
    for index, part in enumerate(slices):
        if part.kind == ALL:
            # Of the whole split, the benchmark gives a class without objects no precision and full errors.
            absent = objects[index] == 0
            ap[:, index, absent] = 0.0
            errors[:, index, absent] = np.where(undefined[absent], np.nan, 1.0)
    present = _scenes_with_objects(scoring, slices, scenes)
    return ResampledScores(tuple(slices), description.class_names, ap, errors, recall, objects, present)


def interval(values: NDArray[np.float64], axis: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Percentile interval of resampled values (the first, of the split itself, is not one); NaN where there are none.

    A resample in which the value is undefined is left out.
    """
    resampled = np.moveaxis(values, axis, 0)[1:]
    if not len(resampled):
        nothing = np.full(resampled.shape[1:], np.nan)
        return nothing, nothing
    tail = (1 - CONFIDENCE) / 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        low, high = np.nanquantile(resampled, [tail, 1 - tail], axis=0)
    return np.asarray(low), np.asarray(high)


def is_beyond_noise(low: NDArray[np.float64], high: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether the interval of a difference leaves out zero."""
    return (low > 0) | (high < 0)


class _ClassScores:
    """One class: its detections from the highest score down, and its objects."""

    def __init__(self, scoring: Scoring, slices: Sequence[Slice], label: int) -> None:
        order = scoring.matching.order
        self.scoring, self.slices = scoring, slices
        self.ranked = order[scoring.detections.label[order] == label]
        self.score = scoring.detections.score[self.ranked]
        self.objects = np.flatnonzero(scoring.gt.label == label)

    def compute(
        self, scenes: SplitScenes, draws: NDArray[np.float64], most_steps: int | None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """AP (R, K), errors (R, K, 5) and recall (R, K)."""
        shape = (len(draws), len(self.slices))
        ap, recall, errors = np.zeros(shape), np.zeros(shape), np.zeros((*shape, len(DEVKIT_ERRORS)))
        scene = scenes.of_sample[self.scoring.detections.sample[self.ranked]].astype(np.int64)
        object_scene = scenes.of_sample[self.scoring.gt.sample[self.objects]]
        positives = [np.bincount(object_scene[part.gt[self.objects]], minlength=len(scenes)) for part in self.slices]
        distances_m = self.scoring.matching.distances_m
        for column, distance_m in enumerate(distances_m):
            gt_row = self.scoring.matching.gt_row[self.ranked, column]
            matched, unmatched = np.flatnonzero(gt_row >= 0), np.flatnonzero(gt_row < 0)
            fp: dict[int, Ranked] = {}
            for index, part in enumerate(self.slices):
                if not positives[index].any():
                    ap[:, index], recall[:, index], errors[:, index] = np.nan, np.nan, np.nan
                    continue
                # Most slices share their false positives.
                if id(part.fp) not in fp:
                    fp[id(part.fp)] = self._choose(unmatched[part.fp[self.ranked[unmatched]]], scene)
                tp = matched[part.gt[gt_row[matched]]]
                tp_errors = self.scoring.matching.errors[self.ranked[tp]]
                counted = tp_errors if distance_m == TP_DISTANCE_M else tp_errors[:, :0]
                ranking = sum_up(self._choose(tp, scene), fp[id(part.fp)], positives[index], counted, most_steps)
                scores = score_ranking(ranking, draws)
                ap[:, index] += scores.average_precision / len(distances_m)
                if distance_m == TP_DISTANCE_M:
                    recall[:, index], errors[:, index] = scores.max_recall, scores.errors
        return ap, errors, recall

    def _choose(self, rank: NDArray[np.int64], scene: NDArray[np.int64]) -> Ranked:
        return Ranked(rank, scene[rank], self.score[rank])


def _scenes_with_objects(scoring: Scoring, slices: Sequence[Slice], scenes: SplitScenes) -> Int64[np.ndarray, "k n"]:
    gt, classes = scoring.gt, len(scoring.samples.description.classes)
    cell = scenes.of_sample[gt.sample].astype(np.int64) * classes + gt.label
    counts = [np.bincount(cell[part.gt], minlength=len(scenes) * classes) for part in slices]
    is_present = np.stack(counts).reshape(len(slices), len(scenes), classes) > 0
    return np.concatenate([is_present.any(axis=2, keepdims=True), is_present], axis=2).sum(axis=1)


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Over the last axis, of what is defined; NaN where nothing is."""
    number = (~np.isnan(values)).sum(axis=-1)
    return np.divide(np.nansum(values, axis=-1), number, out=np.full(number.shape, np.nan), where=number > 0)
