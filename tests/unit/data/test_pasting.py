"""Pasting objects of other samples: what is drawn, where it may stand, which points stay, and in which epochs."""

import math

import numpy as np
import pytest
import torch

from crkd_core.artifacts.workspace import Workspace
from crkd_core.config.data import BEVAugmentationConfig, DataConfig
from crkd_core.config.loading import load_config
from crkd_core.data.augmentation import VIEWS_BETWEEN_REPEATS
from crkd_core.data.dataset import SampleDataset
from crkd_core.data.objects import ObjectPasting
from crkd_core.data.pasting import (
    LidarObjects,
    cut_objects,
    draw_objects,
    footprints_collide,
    free_places,
    missing_objects,
    paste_objects,
)
from crkd_core.datasets.prepared.prepared_data import PreparedData
from crkd_core.errors import ConfigError
from crkd_core.geometry.boxes import Boxes3D
from crkd_core.ops.rotated_iou import rotated_iou
from crkd_core.progress import SilentProgress
from crkd_core.stages.prepare import PrepareRequest, prepare
from tests.support.described import CLASSES
from tests.support.nuscenes_factory import write_folder

MARK = -5.0
"""Intensity of pasted points."""


def boxes_at(*centres, width=2.0, length=4.0, yaw=0.0):
    return Boxes3D(torch.tensor([[x, y, 0.0, width, length, 2.0, yaw, 0.0, 0.0] for x, y in centres]).reshape(-1, 9))


def objects_at(*centres, label=0, **box):
    boxes = boxes_at(*centres, **box)
    points = [np.array([[x, y, 0.0, MARK, 0.0]], np.float32) for x, y in centres]
    return LidarObjects(boxes, torch.full((len(boxes),), label), points)


def test_a_sample_lacks_what_it_has_not_in_the_order_of_the_settings():
    labels = torch.tensor([0, 0, 3, -1])
    assert missing_objects(labels, {"bus": 4, "car": 2, "truck": 1}, CLASSES) == [(3, 3), (1, 1)]
    assert missing_objects(labels[:0], {"car": 2}, CLASSES) == [(0, 2)]


def test_draws_hold_different_objects_of_the_class_and_fewer_where_there_are_not_enough():
    labels = np.array([0, 1, 0, 1, 1, 0])
    one, few, none = draw_objects(labels, [(1, 2), (0, 9), (5, 3)], np.random.default_rng(0))
    assert len(set(one.tolist()) & {1, 3, 4}) == 2
    assert sorted(few.tolist()) == [0, 2, 5]
    assert len(none) == 0


def test_footprints_collide_where_they_overlap_turned_or_nested_but_not_where_they_touch():
    middle = boxes_at((0, 0))
    others = Boxes3D.cat(
        [
            boxes_at((4.0, 0.0), (3.9, 0.0), (0.0, 2.1), (0.0, 1.9)),
            boxes_at((3.2, 0.0), yaw=math.pi / 2),
            boxes_at((2.9, 0.0), yaw=math.pi / 2),
            boxes_at((0.1, 0.1), width=0.2, length=0.2),
            boxes_at((2.9, 1.9), width=1.0, length=1.0, yaw=math.pi / 4),
        ]
    )
    expected = [False, True, False, True, False, True, True, False]
    assert footprints_collide(middle, others)[0].tolist() == expected
    assert footprints_collide(others, middle)[:, 0].tolist() == expected


def test_footprints_collide_exactly_where_their_areas_overlap():
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(60, 9, generator=generator) * torch.tensor([20, 20, 1, 3, 6, 2, 6.3, 0, 0]) + 0.1
    boxes = Boxes3D(values)
    rectangles = torch.cat([values[:, :2], values[:, [4, 3]], values[:, 6:7]], dim=1)
    overlaps = rotated_iou(rectangles, rectangles) > 1e-7
    assert 0.05 < overlaps.float().mean() < 0.5
    assert torch.equal(footprints_collide(boxes, boxes), overlaps)


def test_of_two_candidates_that_collide_the_later_one_stays():
    candidates = boxes_at((0, 0), (3, 0), (10, 0), (20, 0))
    assert free_places(candidates, boxes_at((21, 0))).tolist() == [False, True, True, False]
    assert free_places(candidates[:0], boxes_at((0, 0))).tolist() == []
    assert free_places(candidates, Boxes3D.empty()).tolist() == [False, True, True, True]


def test_pasted_points_come_first_and_replace_what_is_inside_the_box():
    points = np.array([[0, 0, 0, 1, 0], [10, 0, 0, 2, 0], [10, 0, 5, 3, 0]], np.float32)
    draws = [objects_at((10, 0), (1, 0), label=4), objects_at((11, 0), (20, 0), label=6)]
    pasted, boxes, labels = paste_objects(points, boxes_at((0, 0)), torch.tensor([0]), draws)
    assert pasted[:, 3].tolist() == [MARK, MARK, 1, 3]
    assert pasted[:2, 0].tolist() == [10, 20]
    assert labels.tolist() == [0, 4, 6]
    assert boxes.centre[:, 0].tolist() == [0, 10, 20]


def test_nothing_to_paste_and_nothing_there_changes_nothing():
    points = np.zeros((0, 5), np.float32)
    pasted, boxes, labels = paste_objects(points, Boxes3D.empty(), torch.zeros(0, dtype=torch.long), [])
    assert pasted.shape == (0, 5)
    assert len(boxes) == len(labels) == 0
    assert len(paste_objects(points, boxes, labels, [objects_at((1, 1))])[0]) == 1


def test_objects_are_cut_with_the_points_in_their_box():
    points = torch.tensor([[0.0, 0, 0, 1, 0], [9, 9, 0, 2, 0], [1.9, 0, 0.9, 3, 0]])
    cut = cut_objects(points, boxes_at((0, 0), (5, 5)), torch.tensor([0, 1]))
    assert [part[:, 3].tolist() for part in cut.points] == [[1, 3], []]
    assert cut.with_points(1).labels.tolist() == [0]


PASTE = {"enabled": True, "objects": {"car": 3}, "min_points": 1, "epochs": 2}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    root = tmp_path_factory.mktemp("pasting")
    folder = write_folder(root / "nuscenes", scenes={"scene-0061": 3})
    return PreparedData(prepare(PrepareRequest(folder.root), Workspace(root / "ws"), SilentProgress()).artifact)


def pasting_dataset(prepared, objects, seed=0):
    data = DataConfig.model_validate({"paste_teacher": PASTE})
    pasting = ObjectPasting(prepared, prepared.tokens("train"), data, seed)
    pasting.__dict__["objects"] = objects
    tokens, bev = prepared.tokens("train"), BEVAugmentationConfig(rotation_deg=(-45, 45))
    return SampleDataset(prepared, tokens, data, ("lidar",), bev=bev, seed=seed, pasting=pasting)


def test_views_of_the_first_epochs_paste_and_others_and_the_test_view_do_not(prepared):
    dataset = pasting_dataset(prepared, objects_at((30, 30), (-30, -30), (30, -30), (-30, 30)))
    plain = SampleDataset(
        prepared, dataset.tokens, dataset.data, ("lidar",), bev=BEVAugmentationConfig(rotation_deg=(-45, 45)), seed=0
    )
    for number in (0, 1, VIEWS_BETWEEN_REPEATS):
        assert len(dataset[(0, number)].labels) == 3
        assert torch.equal(dataset[(0, number)].lidar, dataset[(0, number)].lidar)
    for number in (-1, 2, VIEWS_BETWEEN_REPEATS + 2):
        assert torch.equal(dataset[(0, number)].boxes.tensor, plain[(0, number)].boxes.tensor)
        assert torch.equal(dataset[(0, number)].lidar, plain[(0, number)].lidar)
    views = [dataset[(0, number)].boxes.centre[1:] for number in (0, VIEWS_BETWEEN_REPEATS)]
    assert not torch.allclose(views[0].norm(dim=1), views[1].norm(dim=1))


def test_pasted_points_move_with_their_boxes_and_stay_in_range(prepared):
    sample = pasting_dataset(prepared, objects_at((30, 30), (-30, -30)))[(0, 0)]
    pasted = sample.lidar[sample.lidar[:, 3] == MARK]
    assert len(pasted) == 2
    assert sample.boxes.contain(pasted[:, :3]).any(dim=0).all()
    assert torch.allclose(sample.boxes.centre[1:, :2].norm(dim=1), torch.tensor(30 * 2**0.5), rtol=0.15)
    assert len(pasting_dataset(prepared, objects_at((-90, 0)))[(0, 0)].labels) == 1


def test_objects_to_paste_are_cut_from_the_samples(prepared):
    data = DataConfig.model_validate({"paste_teacher": {**PASTE, "samples": 2}})
    pasting = ObjectPasting(prepared, prepared.tokens("train"), data, 0)
    assert len(pasting._sources()) == 2
    for box, points in zip(pasting.objects.boxes.tensor, pasting.objects.points, strict=True):
        assert Boxes3D(box[None]).contain(torch.from_numpy(points[:, :3])).all()


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["data.paste_teacher.enabled=true"], "pastes LiDAR points and boxes but no pixels"),
        (["data.paste_teacher.objects={lorry: 2}"], "no class is called 'lorry'"),
    ],
)
def test_settings_that_cannot_be_are_refused(overrides, words):
    with pytest.raises(ConfigError, match=words):
        load_config("tiny", None, overrides)
