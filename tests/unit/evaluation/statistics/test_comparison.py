"""Paired differences, and what only one finds."""

from dataclasses import replace

import numpy as np
import pytest

from crkd_core.evaluation.statistics.bootstrap import draw_scenes, score_slices
from crkd_core.evaluation.statistics.comparison import comparison_table, missed_table
from tests.support.evaluation_cases import Case, everything, scenes_of, scoring_of

SCENES = 8


@pytest.fixture(scope="module")
def pair():
    """Perfect detections, and the same without those of the first class and with lower scores of the second."""
    case = Case(0, samples=2 * SCENES, gt=400, detections=0, labels=(0, 1, 8), spread_m=200, nan_velocity=0.0)
    gt = list(case.build())[1]
    perfect = replace(gt, score=np.linspace(0.5, 0.9, len(gt)))
    worse = perfect[perfect.label != 0]
    worse.score[worse.label == 1] -= 0.4
    return scoring_of(perfect, gt), scoring_of(worse, gt)


def rows_of(first, second):
    draws = draw_scenes(SCENES, 60)
    scores = [score_slices(side, [everything(side)], scenes_of(side), draws) for side in (first, second)]
    return {row["class"]: row for row in comparison_table(*scores).to_pylist()}


def test_a_class_that_is_missing_differs_beyond_the_noise(pair):
    rows = rows_of(*pair)
    assert list(rows) == ["all", "car", "truck", "pedestrian"]
    assert (rows["car"]["ap_first"], rows["car"]["ap_second"]) == (pytest.approx(1.0), 0.0)
    assert rows["car"]["ap_difference"] == pytest.approx(-1.0)
    assert rows["car"]["ap_beyond_noise"] is True
    assert rows["all"]["ap_high"] < 0
    assert rows["all"]["nds_beyond_noise"] is True


def test_scores_alone_and_equal_detections_do_not_differ(pair):
    rows = rows_of(*pair)
    for name in ("truck", "pedestrian"):
        assert rows[name]["ap_difference"] == pytest.approx(0.0, abs=1e-12)
        assert rows[name]["ap_beyond_noise"] is False
    assert rows["car"]["nds_beyond_noise"] is None
    assert all(row["ap_beyond_noise"] is False for row in rows_of(pair[1], pair[1]).values())


def test_the_noise_of_pairs_is_less_than_that_of_each():
    """Scenes that are hard for both do not count as noise of the difference."""
    detections, gt = Case(1, samples=2 * SCENES, gt=600, detections=900, labels=(0,), spread_m=120).build()
    blind = np.isin(detections.sample, [0, 1, 2, 3]) & (np.arange(len(detections)) % 3 > 0)
    first = scoring_of(detections[~blind], gt)
    kept = ~blind & (np.random.default_rng(0).random(len(detections)) < 0.9)
    second = scoring_of(detections[kept], gt)
    draws = draw_scenes(SCENES, 200)
    scores = [score_slices(side, [everything(side)], scenes_of(side), draws) for side in (first, second)]
    row = comparison_table(*scores).to_pylist()[1]
    alone = np.quantile(scores[0].ap[1:, 0, 0], [0.025, 0.975])
    assert row["ap_high"] - row["ap_low"] < alone[1] - alone[0]
    assert row["ap_difference"] < 0


def test_missed_objects_are_those_only_the_first_finds(pair):
    first, second = pair
    count = len(first.gt)
    table = missed_table(first, second, scenes_of(first), score=0.3)
    rows = table.to_pylist()
    labels = first.gt.label
    lowered = (labels == 1) & (np.linspace(0.5, 0.9, count) - 0.4 < 0.3)
    assert {row["annotation_token"] for row in rows} == set(first.gt.token[(labels == 0) | lowered])
    assert [row["first_score"] for row in rows] == sorted((row["first_score"] for row in rows), reverse=True)
    for row in rows:
        index = row["lidar_points"]
        assert row["radar_points"] == index + 1
        assert row["sample_token"] == first.samples.tokens[first.gt.sample[index]]
        assert row["scene"] == str(first.gt.sample[index] // 2)
        assert row["speed_mps"] == pytest.approx(np.hypot(*first.gt.velocity[index]))
        assert (row["second_score"] is None) == (row["class"] == "car")
    assert missed_table(second, first, scenes_of(first), 0.3).num_rows == 0
