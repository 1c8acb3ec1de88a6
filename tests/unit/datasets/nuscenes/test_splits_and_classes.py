"""Splits, categories and attributes agree with the devkit."""

import re

import pytest

from crkd_core.config.description_files import nuscenes
from crkd_core.datasets.nuscenes.splits import official_scenes, parts_of_split, resolve_split, splits_of_scenes
from crkd_core.errors import UsageError

OFFICIAL_SIZES = {"train": 700, "val": 150, "test": 150, "mini_train": 8, "mini_val": 2}


@pytest.mark.parametrize(
    ("split", "version", "official"),
    [
        ("val", "v1.0-mini", "mini_val"),
        ("train", "v1.0-sim-mini", "mini_train"),
        ("mini_val", "v1.0-mini", "mini_val"),
        ("val", "v1.0-trainval", "val"),
        ("test", "v1.0-test", "test"),
        ("anything", "v1.0-custom", "anything"),
        ("trainval", "v1.0-trainval", "trainval"),
        ("trainval", "v1.0-mini", "mini_trainval"),
        ("mini_trainval", "v1.0-mini", "mini_trainval"),
    ],
)
def test_splits_resolve_to_official_names(split, version, official):
    assert resolve_split(split, version) == official


@pytest.mark.parametrize(
    ("split", "version"),
    [("val", "v1.0-test"), ("mini_val", "v1.0-trainval"), ("x", "v1.0-mini"), ("trainval", "v1.0-test")],
)
def test_a_split_of_another_version_is_refused(split, version):
    with pytest.raises(UsageError, match=f"version {version} has no split '{split}'"):
        resolve_split(split, version)


def test_splits_that_the_data_have_come_first():
    assert resolve_split("mine", "v1.0-mini", {"mine": 3}) == "mine"
    assert resolve_split("train", "v1.0-mini", {"train": 3}) == "train"
    with pytest.raises(UsageError, match="it has mini_train, mini_val, mine"):
        resolve_split("x", "v1.0-mini", {"mini_val": 2, "mine": 3})
    assert parts_of_split("trainval") == ("train", "val")
    assert parts_of_split("mini_trainval") == ("mini_train", "mini_val")
    assert parts_of_split("trainval", {"trainval": 3}) == ("trainval",)
    assert parts_of_split("mine") == ("mine",)


@pytest.mark.parametrize(("split", "scenes"), OFFICIAL_SIZES.items())
def test_official_splits_are_shipped(split, scenes):
    assert len(set(official_scenes(split))) == len(official_scenes(split)) == scenes
    for name in official_scenes(split):
        assert re.fullmatch(r"scene-\d{4}", name)


def test_scenes_belong_to_the_splits_of_their_version():
    mini, full = splits_of_scenes("v1.0-mini"), splits_of_scenes("v1.0-trainval")
    assert (len(mini), mini["scene-0061"], mini["scene-0103"]) == (10, ["mini_train"], ["mini_val"])
    assert (len(full), full["scene-0061"], full["scene-0103"]) == (850, ["train"], ["val"])
    assert len(splits_of_scenes("v1.0-own")) == 1000


@pytest.mark.devkit
def test_scene_lists_are_the_devkits():
    from nuscenes.utils import splits

    for split in OFFICIAL_SIZES:
        assert list(official_scenes(split)) == getattr(splits, split)


@pytest.mark.devkit
def test_categories_map_as_in_the_devkit():
    from nuscenes.eval.detection.utils import category_to_detection_name

    labels, names = nuscenes().label_of_category, nuscenes().class_names
    for category in nuscenes().categories:
        assert (names[labels[category]] if category in labels else None) == category_to_detection_name(category)


@pytest.mark.devkit
def test_attributes_of_every_class_are_the_devkits():
    from nuscenes.eval.detection.utils import detection_name_to_rel_attributes

    for name, entry in nuscenes().classes.items():
        assert set(entry.attributes) == set(detection_name_to_rel_attributes(name))
