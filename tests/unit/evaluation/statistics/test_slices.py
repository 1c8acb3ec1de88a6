"""What belongs to which slice."""

from dataclasses import replace

import numpy as np
import pytest

from crkd_core.evaluation.nuscenes.scoring import score_detections
from crkd_core.evaluation.statistics.slices import (
    KINDS,
    SplitScenes,
    find_slices,
    read_scenes,
)
from tests.support.evaluation_cases import Case, scoring_of
from tests.support.random_world import WorldCase, prepare_world, write_random_world
from tests.support.tiny_world import SPLIT


@pytest.fixture(scope="module")
def slices_by_name():
    detections, gt = Case(0, samples=2, gt=5, detections=4).build()
    gt = replace(
        gt,
        sample=np.array([0, 0, 0, 1, 1], dtype=np.int32),
        ego_distance=np.array([0.0, 19.99, 20.0, 30.0, 49.9]),
        velocity=np.array([[0.0, 0.0], [0.3, 0.4], [3.0, 4.0], [np.nan, 0.0], [20.0, 0.0]]),
        visibility=np.array([1, 2, 3, 4, 0], dtype=np.int8),
        lidar_points=np.array([0, 1, 5, 6, 400], dtype=np.int32),
        radar_points=np.array([0, 1, 4, 5, 0], dtype=np.int32),
    )
    detections = replace(
        detections, sample=np.array([0, 0, 1, 1], dtype=np.int32), ego_distance=np.array([5.0, 25.0, 30.0, 44.0])
    )
    scenes = SplitScenes(
        ("a", "b"),
        np.array([0, 1], dtype=np.int32),
        np.array([False, True]),
        np.array([True, True]),
        (("area.city", "weather.rain"), ("weather.rain",)),
    )
    return {(part.kind, part.name): part for part in find_slices(scoring_of(detections, gt), scenes)}


def test_every_kind_is_there_in_order(slices_by_name):
    assert list(dict.fromkeys(kind for kind, _ in slices_by_name)) == list(KINDS)


@pytest.mark.parametrize(
    ("kind", "members"),
    [
        ("all", {"all": [0, 1, 2, 3, 4]}),
        ("range", {"0-20": [0, 1], "20-30": [2], "30-50": [3, 4]}),
        ("speed", {"0-0.5": [0], "0.5-3": [1], "3-10": [2], "10+": [4]}),
        ("visibility", {"0-40": [0], "40-60": [1], "60-80": [2], "80-100": [3]}),
        ("radar-points", {"0": [0, 4], "1-4": [1, 2], "5+": [3]}),
        ("lidar-points", {"0": [0], "1-5": [1, 2], "6-20": [3], "21-100": [], "101+": [4]}),
        ("condition", {"day": [0, 1, 2], "night": [3, 4], "dry": [], "rain": [0, 1, 2, 3, 4]}),
        ("tag", {"area.city": [0, 1, 2], "weather.rain": [0, 1, 2, 3, 4]}),
    ],
)
def test_objects_of_a_kind(slices_by_name, kind, members):
    slices = {name: np.flatnonzero(part.gt).tolist() for (own, name), part in slices_by_name.items() if own == kind}
    assert slices == members


def test_false_alarms_count_where_they_are_and_else_everywhere(slices_by_name):
    where = {key: np.flatnonzero(part.fp).tolist() for key, part in slices_by_name.items()}
    assert [where["range", name] for name in ("0-20", "20-30", "30-50")] == [[0], [1], [2, 3]]
    assert (where["condition", "day"], where["condition", "night"]) == ([0, 1], [2, 3])
    assert where["tag", "area.city"] == [0, 1]
    assert all(where[key] == [0, 1, 2, 3] for key in where if key[0] not in ("range", "condition", "tag"))


def test_tokens_points_and_scenes_come_from_the_prepared_data(tmp_path):
    table = write_random_world(tmp_path, WorldCase(seed=1))
    prepared = prepare_world(tmp_path, tmp_path / "prepared")
    scoring = score_detections(prepared, prepared.tokens(SPLIT), table)
    assert np.array_equal(scoring.gt.lidar_points + scoring.gt.radar_points, scoring.gt.points)
    frames = [f"-{sample}" for sample in scoring.gt.sample]
    assert all(token.endswith(frame) for token, frame in zip(scoring.gt.token, frames, strict=True))
    scenes = read_scenes(prepared, scoring.samples.tokens)
    assert (scenes.names, scenes.of_sample.tolist()) == (("scene-0103",), [0, 0, 0])
    assert not scenes.night.any()
