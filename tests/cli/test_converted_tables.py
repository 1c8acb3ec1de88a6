"""Tables as converters get them nearly right: told in one sentence, or taken where what is meant is certain."""

import json
import os

import pytest

from tests.support.nuscenes_factory import write_folder


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "nuscenes")


@pytest.fixture
def check(crkd, folder):
    def run():
        folder.save()
        return crkd("prepare", "--nuscenes", folder.root, "--check")

    return run


@pytest.mark.parametrize("table", ["category", "attribute", "visibility", "log", "sensor", "ego_pose"])
def test_two_records_of_one_token(check, folder, table):
    folder.tables[table].append(dict(folder.tables[table][0]))
    result = check()
    assert result.code == 3
    assert f"{table}.json has two records with the token" in result.err


def test_several_key_frames_of_a_sensor_in_a_sample(check, folder):
    record = next(row for row in folder.tables["sample_data"] if row["is_key_frame"])
    folder.tables["sample_data"].append({**record, "token": "another"})
    result = check()
    assert result.code == 3
    assert "has several key frames of" in result.err


def test_scenes_of_one_name(check, folder):
    for scene in folder.tables["scene"]:
        scene["name"] = "scene-0061"
    result = check()
    assert result.code == 3
    assert "scenes of the name 'scene-0061'; splits go by name" in result.err


def test_a_channel_in_other_letters(check, folder):
    for sensor in folder.tables["sensor"]:
        sensor["channel"] = sensor["channel"].lower()
    result = check()
    assert result.code == 3
    assert "expected 'CAM_BACK': rename it" in result.err


def test_names_with_backslashes_are_taken(check, folder):
    for record in folder.tables["sample_data"]:
        record["filename"] = record["filename"].replace("/", "\\")
    assert check().code == 0


def test_names_with_the_data_root_before_them(check, folder):
    for record in folder.tables["sample_data"]:
        record["filename"] = f"data/nuscenes/{record['filename']}"
    result = check()
    assert result.code == 3
    assert "is there: take data/nuscenes/ out of the file names in sample_data.json" in result.err


def test_names_in_other_letters(check, folder):
    for record in folder.tables["sample_data"]:
        record["filename"] = record["filename"].replace(".jpg", ".JPG")
    result = check()
    assert result.code == 3
    assert ".jpg is there: write its name alike" in result.err


def test_attributes_are_told_with_the_name_that_is_meant(check, folder):
    for attribute in folder.tables["attribute"]:
        attribute["name"] = attribute["name"].upper()
    result = check()
    assert result.code == 0
    lines = " ".join(result.out.split())
    assert lines.count("attributes that nuScenes does not have are ignored") == 1
    assert "(is vehicle.moving meant?)" in lines or "(is vehicle.parked meant?)" in lines, lines


@pytest.mark.parametrize(
    ("splits", "words"),
    [
        ({"": ["scene-0061"]}, "has a split without a name"),
        (
            {"mine": ["scene-0061"], "yours": ["scene-0061"]},
            "mine and yours of splits.json share scenes: scene-0061, 1 in all",
        ),
    ],
)
def test_odd_splits(check, folder, splits, words):
    (folder.root / folder.version / "splits.json").write_text(json.dumps(splits), encoding="utf-8-sig")
    result = check()
    assert words in " ".join((result.out + result.err).split())


def test_splits_from_a_pipe_are_not_waited_for(check, folder):
    os.mkfifo(folder.root / folder.version / "splits.json")
    result = check()
    assert result.code == 3
    assert "is a pipe and not a regular file" in result.err
