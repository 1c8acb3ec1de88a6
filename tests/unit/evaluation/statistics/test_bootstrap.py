"""Scores of slices and resamples against the metrics of what is left, and of what is repeated."""

from dataclasses import fields, replace

import numpy as np
import pytest

from crkd_core.config.description import TP_DISTANCE_M
from crkd_core.evaluation.nuscenes.accumulate import accumulate, summarise
from crkd_core.evaluation.nuscenes.scoring import Scoring
from crkd_core.evaluation.statistics import bootstrap
from crkd_core.evaluation.statistics.bootstrap import draw_scenes, interval, is_beyond_noise, score_slices
from crkd_core.evaluation.statistics.breakdown import breakdown_table
from crkd_core.evaluation.statistics.slices import Slice
from tests.support.described import CLASSES, NUSCENES
from tests.support.evaluation_cases import Case, everything, scenes_of, scoring_of

LABELS = (0, 1, 5, 9)
SCENES = 3


def some_scoring(seed: int, detections: int = 300, score_step: float = 0.0) -> Scoring:
    case = Case(seed, 2 * SCENES, 120, detections, LABELS, spread_m=25, score_step=score_step)
    return scoring_of(*case.build())


@pytest.mark.parametrize("score_step", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_the_split_itself_scores_as_the_benchmark_says(seed, score_step):
    scoring = some_scoring(seed, score_step=score_step)
    scores = score_slices(scoring, [everything(scoring)], scenes_of(scoring), draw_scenes(SCENES, 0))
    assert scores.mean_ap[0, 0] == pytest.approx(scoring.metrics.mean_ap, abs=1e-12)
    assert scores.nds[0, 0] == pytest.approx(scoring.metrics.nds, abs=1e-12)
    for label, entry in enumerate(scoring.metrics.classes.values()):
        assert scores.ap[0, 0, label] == pytest.approx(entry.ap, abs=1e-12)
        assert scores.errors[0, 0, label] == pytest.approx(list(entry.errors), abs=1e-12, nan_ok=True)


def test_a_slice_scores_as_the_metrics_of_a_part():
    scoring = some_scoring(3)
    rng = np.random.default_rng(0)
    gt = rng.random(len(scoring.gt)) < 0.5
    fp = rng.random(len(scoring.detections)) < 0.5
    scores = score_slices(scoring, [Slice("a", "b", gt, fp)], scenes_of(scoring), draw_scenes(SCENES, 0))
    ap = np.zeros(len(LABELS))
    for column, distance_m in enumerate(NUSCENES.evaluation.match_distances_m):
        # Of a detection that is matched here, it does not matter whether it would be a false positive.
        kept = fp | (scoring.matching.gt_row[:, column] >= 0)
        part = summarise(accumulate(scoring.detections, scoring.gt, scoring.matching, NUSCENES, kept, gt), NUSCENES)
        entries = [part.classes[CLASSES[label]] for label in LABELS]
        ap += np.array([entry.ap_by_distance[distance_m] for entry in entries]) / len(
            NUSCENES.evaluation.match_distances_m
        )
        if distance_m == TP_DISTANCE_M:
            errors = np.array([list(entry.errors) for entry in entries])
    assert scores.ap[0, 0, list(LABELS)] == pytest.approx(ap, abs=1e-12)
    assert scores.errors[0, 0, list(LABELS)] == pytest.approx(errors, abs=1e-12, nan_ok=True)
    both = [Slice("a", "b", gt, fp), Slice("a", "c", ~gt, ~fp)]
    assert score_slices(scoring, both, scenes_of(scoring), draw_scenes(SCENES, 0)).ap[:, :1] == pytest.approx(
        scores.ap, nan_ok=True
    )


@pytest.mark.parametrize("seed", range(6))
def test_scenes_that_are_not_drawn_are_as_if_they_were_not_there(seed):
    scoring = some_scoring(seed)
    scenes, part = scenes_of(scoring), everything(scoring)
    draws = np.array([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    scores = score_slices(scoring, [part], scenes, draws)
    for row, draw in enumerate(draws, start=1):
        kept = [draw[scenes.of_sample[boxes.sample]] > 0 for boxes in (scoring.detections, scoring.gt)]
        left = summarise(accumulate(scoring.detections, scoring.gt, scoring.matching, NUSCENES, *kept), NUSCENES)
        for label in LABELS:
            if (scoring.gt.label[kept[1]] == label).any():
                assert scores.ap[row, 0, label] == pytest.approx(left.classes[CLASSES[label]].ap, abs=1e-12)
            else:
                assert np.isnan(scores.ap[row, 0, label])


def test_a_scene_drawn_twice_counts_as_two_scenes():
    scoring = some_scoring(1, detections=1000)
    boxes = []
    for side in (scoring.detections, scoring.gt):
        again = side[side.sample < 2]
        shifted = replace(again, sample=again.sample + 2 * SCENES, score=again.score - 1e-9)
        parts = (side, shifted)
        both = type(side)(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(side)})
        boxes.append(both)
    repeated = scoring_of(*boxes).metrics
    scores = score_slices(scoring, [everything(scoring)], scenes_of(scoring), np.array([[2.0, 1.0, 1.0]]))
    assert scores.mean_ap[1, 0] == pytest.approx(repeated.mean_ap, abs=0.005)
    assert abs(scores.mean_ap[1, 0] - scores.mean_ap[0, 0]) > 0.0
    assert scores.nds[1, 0] == pytest.approx(repeated.nds, abs=0.005)


def test_few_steps_hardly_change_a_score(monkeypatch):
    case = Case(5, samples=2 * SCENES, gt=2000, detections=6000, labels=(0, 8), spread_m=120)
    scoring = scoring_of(*case.build())
    every = np.ones((1, SCENES))
    scores = score_slices(scoring, [everything(scoring)], scenes_of(scoring), every)
    assert (scoring.gt.label == 0).sum() > 4 * bootstrap._STEPS
    assert scores.mean_ap[1, 0] == pytest.approx(scores.mean_ap[0, 0], abs=2e-4)
    assert scores.mean_ap[1, 0] != scores.mean_ap[0, 0]
    assert scores.nds[1, 0] == pytest.approx(scores.nds[0, 0], abs=5e-4)


def test_draws_are_the_same_every_time_and_keep_the_number_of_scenes():
    draws = draw_scenes(7, 50)
    assert np.array_equal(draws, draw_scenes(7, 50))
    assert (draws.sum(axis=1) == 7).all()
    assert not np.array_equal(draws, draw_scenes(7, 50, seed=1))
    assert len(draw_scenes(1, 50)) == 0


def test_an_interval_covers_the_middle_of_the_resamples():
    values = np.concatenate([[5000.0], np.arange(1001.0)])
    low, high = interval(values)
    assert (low, high) == pytest.approx((25.0, 975.0))
    assert np.isnan(interval(np.array([1.0]))[0])
    assert is_beyond_noise(np.array([0.1, -0.1, -2.0, np.nan]), np.array([0.2, 0.1, -1.0, np.nan])).tolist() == [
        True,
        False,
        True,
        False,
    ]


def test_the_table_has_the_mean_first_and_no_empty_rows(monkeypatch):
    scoring = some_scoring(2)
    none = Slice("range", "nowhere", np.zeros(len(scoring.gt), dtype=bool), everything(scoring).fp)
    scores = score_slices(scoring, [everything(scoring), none], scenes_of(scoring), draw_scenes(SCENES, 40))
    assert breakdown_table(scores)["ap_low"].null_count == 1 + len(LABELS)
    monkeypatch.setattr(bootstrap, "FEWEST_SCENES", SCENES)
    rows = breakdown_table(scores).to_pylist()
    assert [row["class"] for row in rows] == ["all", *(CLASSES[label] for label in LABELS)]
    assert rows[0]["ap"] == pytest.approx(scoring.metrics.mean_ap)
    assert rows[0]["nds"] == pytest.approx(scoring.metrics.nds)
    assert rows[0]["objects"] == len(scoring.gt)
    assert all(row["ap_low"] <= row["ap"] <= row["ap_high"] for row in rows[:1])
    barrier = next(row for row in rows if row["class"] == "barrier")
    assert (barrier["velocity_mps"], barrier["nds"]) == (None, None)
