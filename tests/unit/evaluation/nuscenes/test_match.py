"""Our matching and accumulation give the devkit's numbers, whatever the boxes are."""

from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crkd_core.errors import UsageError
from crkd_core.evaluation.nuscenes.accumulate import RECALLS, accumulate, summarise
from crkd_core.evaluation.nuscenes.joining import equal_pairs
from crkd_core.evaluation.nuscenes.match import match
from crkd_core.evaluation.nuscenes.official import require_equal
from tests.support.described import CLASSES, NUSCENES, TWELVE
from tests.support.evaluation_cases import Case, devkit_metrics, metrics_of

CAR = CLASSES.index("car")


needs_truckscenes = pytest.mark.skipif(find_spec("truckscenes") is None, reason="truckscenes-devkit is not installed")


def compare(case: Case):
    detections, gt = case.build()
    metrics = metrics_of(detections, gt, case.description)
    require_equal(metrics, devkit_metrics(detections, gt, case.samples, case.description))
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


@needs_truckscenes
@settings(deadline=None, max_examples=70)
@given(case=CASES, labels=st.sampled_from([None, (0,), (5, 9), (8, 9, 10, 11), (11,)]))
def test_any_boxes_of_trucks_score_as_in_their_devkit(case, labels):
    compare(replace(case, description=TWELVE, labels=labels))


@needs_truckscenes
def test_what_the_cases_of_trucks_hold_is_not_trivial():
    metrics = compare(Case(seed=1, gt=90, detections=300, description=TWELVE))
    assert all(entry.ap > 0.01 for entry in metrics.classes.values())
    sign, animal = metrics.classes["traffic_sign"].errors, metrics.classes["animal"].errors
    assert np.isnan(sign.velocity_mps)
    assert 0 < sign.orientation_rad <= np.pi / 2
    assert np.isnan(animal.attribute)
    assert animal.velocity_mps > 0


@needs_truckscenes
def test_the_numbers_of_trucks_are_those_of_their_devkit():
    from truckscenes.eval.common.config import config_factory

    from crkd_core.evaluation.nuscenes.metrics import devkit_config

    config = config_factory(TWELVE.evaluation.protocol).serialize()
    assert config == devkit_config(TWELVE)
    assert list(config["class_range"]) == list(TWELVE.evaluated_classes)


@needs_truckscenes
def test_categories_and_attributes_of_trucks_are_those_of_their_devkit():
    from truckscenes.eval.detection.constants import ATTRIBUTE_NAMES
    from truckscenes.eval.detection.utils import category_to_detection_name, detection_name_to_rel_attributes

    for category in TWELVE.categories:
        label = TWELVE.label_of_category.get(category)
        assert category_to_detection_name(category) == (None if label is None else TWELVE.class_names[label])
    for name, entry in TWELVE.classes.items():
        assert sorted(detection_name_to_rel_attributes(name)) == sorted(entry.attributes)
    assert sorted(ATTRIBUTE_NAMES) == sorted(TWELVE.attributes)


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
            metrics_of(detections, gt)
    else:
        require_equal(metrics_of(detections, gt), expected)


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
    assert match(detections, gt, NUSCENES).gt_row.tolist() == [[-1] * 4, [0] * 4]


def test_of_equal_distances_the_first_annotation_is_taken():
    detections, gt = Case(seed=0, samples=1, gt=2, detections=1, labels=(CAR,), near=1.0).build()
    gt.translation[:] = detections.translation + np.array([[3.0, 0.0, 0.0], [0.0, -3.0, 0.0]])
    assert match(detections, gt, NUSCENES).gt_row.tolist() == [[-1, -1, -1, 0]]


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
    assert match(detections, gt, NUSCENES).gt_row[:, 3].tolist() == expected.tolist()


def test_a_threshold_itself_is_too_far():
    detections, gt = Case(seed=0, samples=1, gt=1, detections=1, labels=(CAR,), near=1.0).build()
    gt.translation[:] = 0.0
    detections.translation[:] = [[2.0, 0.0, 9.0]]
    matching = match(detections, gt, NUSCENES)
    assert matching.gt_row.tolist() == [[-1, -1, -1, 0]]
    assert np.isnan(matching.errors).all()


def test_a_part_counts_what_is_kept_only():
    detections, gt = Case(seed=5, samples=6, gt=60, detections=150, labels=(CAR,), spread_m=30.0).build()
    matching = match(detections, gt, NUSCENES)
    far = gt.translation[:, 0] > 700
    part = accumulate(detections, gt, matching, NUSCENES, gt_kept=far)["car"][2.0]
    matched = np.unique(matching.tp_gt_row[matching.tp_gt_row >= 0])
    assert part.max_recall == pytest.approx(RECALLS[int(100 * far[matched].sum() / far.sum())])
    sample = detections.sample == 2
    alone = summarise(accumulate(detections, gt, matching, NUSCENES, sample, gt.sample == 2), NUSCENES)
    boxes = detections[sample], gt[gt.sample == 2]
    require_equal(alone, metrics_of(*boxes))


@pytest.mark.parametrize("limit", [1, 3, 1000])
def test_pairs_of_equal_keys(limit):
    rng = np.random.default_rng(0)
    keys, others = rng.integers(0, 6, 20), rng.integers(0, 8, 15)
    pairs = [pair for part in equal_pairs(keys, others, limit) for pair in zip(*part)]
    assert sorted(pairs) == [(i, j) for i in range(20) for j in range(15) if keys[i] == others[j]]
    assert next(iter(equal_pairs(keys[:0], others, limit)))[0].shape == (0,)
