"""The bridge to the devkit's own detection evaluation, and the metrics it returns."""

import json
import math
from dataclasses import replace

import pytest

from crkd_core.errors import DatasetError, MetricsDifferError, UsageError
from crkd_core.evaluation.nuscenes.metrics import Metrics, detection_score, devkit_config
from crkd_core.evaluation.nuscenes.official import (
    convert_summary,
    evaluate_official,
    metrics_without_detections,
    require_equal,
)
from crkd_core.progress import SilentProgress
from tests.support.described import CLASSES, NUSCENES
from tests.support.tiny_world import SPLIT, VERSION, write_results, write_tiny_world

pytestmark = pytest.mark.devkit


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("world") / "data"
    return root, write_tiny_world(root)


def score(world, tmp_path, boxes):
    submission = write_results(tmp_path / "results.json", boxes)
    return evaluate_official(NUSCENES, world[0], VERSION, SPLIT, submission, SilentProgress())


def test_ground_truth_scores_perfectly_and_quietly(world, tmp_path, capfd):
    metrics = score(world, tmp_path, world[1])
    assert metrics.mean_ap == pytest.approx(1.0)
    assert metrics.nds == pytest.approx(1.0)
    assert list(metrics.errors) == pytest.approx([0.0] * 5, abs=1e-6)
    assert tuple(metrics.classes) == CLASSES
    for entry in metrics.classes.values():
        assert entry.ap_by_distance == pytest.approx({0.5: 1.0, 1.0: 1.0, 2.0: 1.0, 4.0: 1.0})
    assert math.isnan(metrics.classes["traffic_cone"].errors.orientation_rad)
    assert capfd.readouterr() == ("", "")


def test_a_shift_is_seen_at_the_small_distances_only(world, tmp_path):
    shifted = [{**box, "translation": [box["translation"][0], box["translation"][1] + 1.5, 1.0]} for box in world[1]]
    car = score(world, tmp_path, shifted).classes["car"]
    assert car.ap_by_distance == pytest.approx({0.5: 0.0, 1.0: 0.0, 2.0: 1.0, 4.0: 1.0})
    assert car.ap == pytest.approx(0.5)
    assert car.errors.translation_m == pytest.approx(1.5)


def test_no_detections_score_zero_as_a_lone_false_alarm_does(world, tmp_path):
    # One far-off car is a submission that the devkit does accept, and finds nothing.
    stray = [{**world[1][0], "translation": [world[1][0]["translation"][0], 45.0, 1.0]}]
    accepted, nothing = score(world, tmp_path, stray), score(world, tmp_path, [])
    assert require_equal(nothing, accepted) == require_equal(nothing, metrics_without_detections(NUSCENES)) == 0.0
    assert nothing.nds == 0.0


def test_metrics_survive_json(world, tmp_path):
    metrics = score(world, tmp_path, world[1][:17])
    for strict in (False, True):
        text = json.dumps(metrics.to_json(strict), allow_nan=not strict)
        assert require_equal(Metrics.from_json(json.loads(text), NUSCENES), metrics) == 0.0


def test_the_devkit_reads_the_metrics(world, tmp_path):
    from nuscenes.eval.common.config import config_factory
    from nuscenes.eval.detection.data_classes import DetectionMetrics

    metrics = score(world, tmp_path, world[1][:17])
    summary = DetectionMetrics.deserialize(json.loads(json.dumps(metrics.to_json())))
    assert require_equal(convert_summary(summary, NUSCENES), metrics) < 1e-12
    devkit = json.loads(json.dumps(summary.serialize()))
    assert devkit.keys() == metrics.to_json().keys()
    assert require_equal(Metrics.from_json(devkit, NUSCENES), metrics) < 1e-12
    assert list(devkit["label_aps"]) == list(metrics.to_json()["label_aps"])
    assert config_factory(NUSCENES.evaluation.protocol).serialize() == devkit_config(NUSCENES)


def test_a_difference_is_named(world, tmp_path):
    metrics = score(world, tmp_path, world[1])
    assert require_equal(metrics, replace(metrics, nds=metrics.nds - 1e-10)) == pytest.approx(1e-10, rel=1e-3)
    with pytest.raises(MetricsDifferError, match=r"NDS is .* by our metrics and nan by the nuScenes devkit"):
        require_equal(metrics, replace(metrics, nds=math.nan))
    bus = replace(metrics.classes["bus"], ap_by_distance=metrics.classes["bus"].ap_by_distance | {2.0: 0.9})
    with pytest.raises(MetricsDifferError, match="bus AP is"):
        require_equal(metrics, replace(metrics, classes=metrics.classes | {"bus": bus}))


def test_detection_score_is_the_devkits(world, tmp_path):
    metrics = score(world, tmp_path, world[1][:17])
    assert detection_score(metrics.mean_ap, metrics.errors) == pytest.approx(metrics.nds)
    assert detection_score(0.5, replace(metrics.errors, velocity_mps=7.0)) == pytest.approx(
        detection_score(0.5, replace(metrics.errors, velocity_mps=1.0))
    )


def test_a_missing_sample_is_refused(world, tmp_path):
    path = tmp_path / "results.json"
    write_results(path, world[1])
    content = json.loads(path.read_text())
    del content["results"]["sample1"]
    path.write_text(json.dumps(content))
    with pytest.raises(UsageError, match=r"mini_val.*Samples in split"):
        evaluate_official(NUSCENES, world[0], VERSION, SPLIT, path, SilentProgress())


def test_boxes_that_cannot_be_scored_are_refused(world, tmp_path):
    with pytest.raises(UsageError, match="sizes must be >0"):
        score(world, tmp_path, [{**box, "size": [0.0, 1.0, 1.0]} for box in world[1]])


@pytest.mark.parametrize("count", [0, 3])
def test_a_split_of_another_version_is_refused(world, tmp_path, count):
    path = write_results(tmp_path / "results.json", world[1][:count])
    with pytest.raises(UsageError, match="val"):
        evaluate_official(NUSCENES, world[0], VERSION, "val", path, SilentProgress())


def test_a_folder_without_tables_is_refused(tmp_path):
    path = write_results(tmp_path / "results.json", [])
    with pytest.raises(DatasetError, match="cannot open"):
        evaluate_official(NUSCENES, tmp_path / "nowhere", VERSION, SPLIT, path, SilentProgress())
