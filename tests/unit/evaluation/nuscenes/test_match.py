"""Our matching and accumulation give the devkit's numbers, whatever the boxes are."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crkd_core.config.classes import DETECTION_CLASSES
from crkd_core.errors import UsageError
from crkd_core.evaluation.nuscenes.accumulate import RECALLS, accumulate, summarise
from crkd_core.evaluation.nuscenes.joining import equal_pairs
from crkd_core.evaluation.nuscenes.match import match
from crkd_core.evaluation.nuscenes.official import require_equal
from tests.support.evaluation_cases import Case, devkit_metrics

CAR = DETECTION_CLASSES.index("car")


def compare(case: Case):
    detections, gt = case.build()
    metrics = summarise(accumulate(detections, gt, match(detections, gt)))
    require_equal(metrics, devkit_metrics(detections, gt, case.samples))
    return metrics


CASES = st.builds(
    Case,
    seed=st.integers(0, 2**32 - 1),
    samples=st.integers(1, 4),
    gt=st.integers(0, 40),
    detections=st.integers(0, 80),
    labels=st.sampled_from([tuple(range(10)), (CAR,), (5, 9), (5, 6, 7, 8)]),
    spread_m=st.sampled_from([1.0, 4.0, 20.0]),
    step_m=st.sampled_from([0.0, 0.1, 0.25, 0.5]),
    score_step=st.sampled_from([0.0, 0.01, 0.25, 1.0]),
    nan_velocity=st.sampled_from([0.0, 0.3, 1.0]),
    no_attribute=st.sampled_from([0.0, 0.3, 1.0]),
    near=st.sampled_from([0.0, 0.6, 1.0]),
)


@pytest.mark.devkit
@settings(deadline=None, max_examples=70)
@given(case=CASES)
def test_any_boxes_score_as_in_the_devkit(case):
    compare(case)


@pytest.mark.devkit
@settings(deadline=None, max_examples=30)
@given(case=CASES, lowest_score=st.sampled_from([0.0, -0.2, -3.0]), flat=st.sampled_from([0.0, 0.05]))
def test_what_the_devkit_refuses_is_refused(case, lowest_score, flat):
    case = replace(case, lowest_score=lowest_score, flat=flat)
    detections, gt = case.build()
    try:
        expected = devkit_metrics(detections, gt, case.samples)
    except AssertionError:
        with pytest.raises(UsageError, match=r"size|scores must lie between 0 and 1, found -"):
            summarise(accumulate(detections, gt, match(detections, gt)))
    else:
        require_equal(summarise(accumulate(detections, gt, match(detections, gt))), expected)


@pytest.mark.devkit
def test_what_the_cases_hold_is_not_trivial():
    metrics = compare(Case(seed=1, gt=60, detections=200, labels=(CAR, 5, 8)))
    assert metrics.classes["car"].ap > 0.05
    assert all(0 < error < 10 for error in metrics.classes["car"].errors)


@pytest.mark.devkit
def test_500_boxes_in_one_place():
    compare(Case(seed=3, samples=1, gt=60, detections=500, labels=(CAR,), spread_m=1.0, step_m=0.5, score_step=0.1))


@pytest.mark.parametrize("scores", [(0.5, 0.5), (0.0, 0.0), (0.4, 0.6)])
def test_of_equal_scores_the_last_chooses_first(scores):
    detections, gt = Case(seed=0, samples=1, gt=1, detections=2, labels=(CAR,), near=1.0).build()
    detections.translation[:] = gt.translation + np.array([[0.1, 0.0, 0.0], [0.2, 0.0, 0.0]])
    detections.score[:] = scores
    assert match(detections, gt).gt_row.tolist() == [[-1] * 4, [0] * 4]


def test_of_equal_distances_the_first_annotation_is_taken():
    detections, gt = Case(seed=0, samples=1, gt=2, detections=1, labels=(CAR,), near=1.0).build()
    gt.translation[:] = detections.translation + np.array([[3.0, 0.0, 0.0], [0.0, -3.0, 0.0]])
    assert match(detections, gt).gt_row.tolist() == [[-1, -1, -1, 0]]


def test_distances_round_as_in_the_devkit():
    # (a, b) and (b, a) are equally long, but where the processor's BLAS fuses multiplication and addition the devkit's
    # last bit says which is nearer. Elsewhere all pairs tie and the first is taken.
    count = 500
    offsets = np.random.default_rng(0).uniform(0.1, 2.5, (count, 2))
    detections, gt = Case(seed=0, samples=1, gt=2 * count, detections=count, labels=(CAR,)).build()
    detections.sample[:], gt.sample[:] = np.arange(count), np.repeat(np.arange(count), 2)
    detections.translation[:] = gt.translation[:] = 0.0
    gt.translation[:, :2] = np.stack([offsets, offsets[:, ::-1]], axis=1).reshape(-1, 2)
    lengths = [[np.linalg.norm(offset) for offset in pair] for pair in gt.translation[:, :2].reshape(-1, 2, 2)]
    expected = 2 * np.arange(count) + np.argmin(lengths, axis=1)
    assert match(detections, gt).gt_row[:, 3].tolist() == expected.tolist()


def test_a_threshold_itself_is_too_far():
    detections, gt = Case(seed=0, samples=1, gt=1, detections=1, labels=(CAR,), near=1.0).build()
    gt.translation[:] = 0.0
    detections.translation[:] = [[2.0, 0.0, 9.0]]
    matching = match(detections, gt)
    assert matching.gt_row.tolist() == [[-1, -1, -1, 0]]
    assert np.isnan(matching.errors).all()


def test_a_part_counts_what_is_kept_only():
    detections, gt = Case(seed=5, samples=6, gt=60, detections=150, labels=(CAR,), spread_m=30.0).build()
    matching = match(detections, gt)
    far = gt.translation[:, 0] > 700
    part = accumulate(detections, gt, matching, gt_kept=far)["car"][2.0]
    matched = np.unique(matching.tp_gt_row[matching.tp_gt_row >= 0])
    assert part.max_recall == pytest.approx(RECALLS[int(100 * far[matched].sum() / far.sum())])
    sample = detections.sample == 2
    alone = summarise(accumulate(detections, gt, matching, sample, gt.sample == 2))
    boxes = detections[sample], gt[gt.sample == 2]
    require_equal(alone, summarise(accumulate(*boxes, match(*boxes))))


@pytest.mark.parametrize("limit", [1, 3, 1000])
def test_pairs_of_equal_keys(limit):
    rng = np.random.default_rng(0)
    keys, others = rng.integers(0, 6, 20), rng.integers(0, 8, 15)
    pairs = [pair for part in equal_pairs(keys, others, limit) for pair in zip(*part)]
    assert sorted(pairs) == [(i, j) for i in range(20) for j in range(15) if keys[i] == others[j]]
    assert next(iter(equal_pairs(keys[:0], others, limit)))[0].shape == (0,)
