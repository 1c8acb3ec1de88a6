"""Data sets that are missing, incomplete or damaged, through the real commands."""

import json
import shutil
from pathlib import Path

import pytest

from tests.support.refusals import damage

VERSION = "v1.0-sim-mini"


@pytest.fixture
def world(chain, tmp_path) -> Path:
    return chain.copy_world(tmp_path)


def table(world: Path, name: str) -> Path:
    return world / VERSION / f"{name}.json"


def first_file(world: Path, channel: str, folder: str = "samples") -> Path:
    return min((world / folder / channel).iterdir())


def test_no_such_folder(refused):
    refused(3, ("nowhere is not a folder", "crkd simulate --out DIR"), "prepare", "--nuscenes", "nowhere")


def test_not_a_nuscenes_folder(refused, tmp_path):
    (tmp_path / "pictures").mkdir()
    refused(3, ("not a nuScenes folder", "expected", "found none"), "prepare", "--nuscenes", "pictures")


def test_the_folder_of_the_tables(refused, chain):
    tables = chain.nuscenes / VERSION
    refused(3, ("give the one that contains it", str(chain.nuscenes)), "prepare", "--nuscenes", tables)


def test_two_versions(refused, world):
    shutil.copytree(world / VERSION, world / "v1.0-trainval")
    refused(2, (VERSION, "v1.0-trainval", "--version"), "prepare", "--nuscenes", world)


def test_a_version_that_is_not_there(refused, chain):
    refused(3, ("v1.0-test", f"found {VERSION}"), "prepare", "--nuscenes", chain.nuscenes, "--version", "v1.0-test")


@pytest.mark.parametrize("name", ["scene", "sample_data", "sample_annotation", "calibrated_sensor", "visibility"])
def test_a_truncated_table(refused, world, name):
    damage(table(world, name), "cut")
    words = (f"{name}.json is truncated", "expected", "found", "unpack")
    refused(3, words, "prepare", "--nuscenes", world)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"timestamp"', '"timestemp"', ("sample.json", "lacks the field 'timestamp'")),
        (
            '"timestamp": 1',
            '"timestamp": "x1", "y": 1',
            ("sample.json", 'timestamp of the record "', "expected a whole number"),
        ),
        ("[", "{", ("sample.json is not valid", "a JSON list of records")),
    ],
)
def test_a_table_with_wrong_records(refused, world, old, new, words):
    path = table(world, "sample")
    path.write_text(path.read_text().replace(old, new))
    refused(3, words, "prepare", "--nuscenes", world)


def test_a_table_that_is_not_text(refused, world):
    table(world, "sample").write_bytes(b"\xff\xfe")
    refused(3, ("sample.json", "not UTF-8 text"), "prepare", "--nuscenes", world)


def test_a_missing_table(refused, world):
    table(world, "instance").unlink()
    refused(3, ("instance.json is missing", "unpack"), "prepare", "--nuscenes", world)


@pytest.mark.parametrize(
    ("channel", "folder", "words"),
    [
        ("CAM_BACK", "samples", ("CAM_BACK: 1 of 6 key-frame files", "Unpack")),
        ("LIDAR_TOP", "samples", ("LIDAR_TOP: 1 of 6 key-frame files", "Unpack")),
        ("RADAR_FRONT", "samples", ("RADAR_FRONT: 1 of 6 key-frame files", "--allow-missing radar")),
        ("LIDAR_TOP", "sweeps", ("LIDAR_TOP: 1 of", "sweep files", "--allow-missing sweeps")),
    ],
)
def test_a_missing_sensor_file(refused, world, channel, folder, words):
    path = first_file(world, channel, folder)
    path.unlink()
    refused(3, (*words, path.name), "prepare", "--nuscenes", world)


def test_no_sensor_file_at_all_is_still_a_short_message(refused, world):
    shutil.rmtree(world / "samples")
    said = refused(3, ("CAM_FRONT: 6 of 6 key-frame files", "more sensors"), "prepare", "--nuscenes", world)
    assert len(said) < 800


@pytest.mark.parametrize(
    ("channel", "size", "words"),
    [
        ("LIDAR_TOP", 1234, ("expected a multiple of 20 bytes", "found 1234", "unpack")),
        ("RADAR_FRONT", 900, ("truncated", "expected", "found", "unpack")),
        ("RADAR_FRONT", 50, ("damaged", "DATA binary", "unpack")),
        ("CAM_FRONT", 0, ("damaged", "empty", "unpack")),
    ],
)
def test_a_truncated_sensor_file(refused, world, channel, size, words):
    path = first_file(world, channel)
    path.write_bytes(path.read_bytes()[:size])
    refused(3, (*words, path.name), "prepare", "--nuscenes", world)


def test_scenes_of_no_split(refused, world):
    path = table(world, "scene")
    path.write_text(path.read_text().replace("scene-", "street-"))
    refused(3, ("no sample in any split", "street-0061"), "prepare", "--nuscenes", world)


def test_what_may_be_missing_is_spelt_wrong(refused, chain):
    arguments = ("prepare", "--nuscenes", chain.nuscenes, "--allow-missing", "radars")
    refused(2, ("--allow-missing", "samples, lidar, radar, sweeps", "found radars"), *arguments)


@pytest.mark.parametrize(
    ("renamed", "command", "words"),
    [
        ({"scene-0103": "scene-0655"}, ("evaluate", "--workers", "0"), ("mini_val", "6 samples")),
        (
            {"scene-0061": "scene-0916", "scene-0553": "scene-0103", "scene-0103": "scene-9999"},
            ("train-teacher", "--name", "n"),
            ("mini_train",),
        ),
    ],
)
def test_an_empty_split(crkd, refused, chain, world, tmp_path, renamed, command, words):
    workspace = chain.copy(tmp_path).workspace
    path = table(world, "scene")
    scenes = json.loads(path.read_text())
    for scene in scenes:
        scene["name"] = renamed.get(scene["name"], scene["name"])
    path.write_text(json.dumps(scenes))
    assert crkd("prepare", "--nuscenes", world, "--name", "other", "-w", workspace.root).code == 0
    words = ("no sample of the split", *words, "prepare again")
    refused(3, words, *command, "--prepared", "other", "-w", workspace.root)


@pytest.mark.parametrize(
    ("channel", "damage_kind", "workers", "words"),
    [
        ("CAM_FRONT", "cut", 0, ("is damaged and cannot be decoded", "unpack")),
        ("CAM_FRONT", "cut", 1, ("is damaged and cannot be decoded", "unpack")),
        ("CAM_FRONT", "gone", 0, ("is missing", "--nuscenes DIR")),
        ("LIDAR_TOP", "gone", 0, ("is missing", "unpack")),
        ("LIDAR_TOP", "odd", 0, ("is damaged", "expected a multiple of 20 bytes")),
    ],
)
def test_a_sensor_file_that_went_bad_after_preparing(
    refused, chain, world, tmp_path, channel, damage_kind, workers, words
):
    workspace = chain.copy(tmp_path).workspace
    for path in (world / "samples" / channel).iterdir():
        path.write_bytes(path.read_bytes()[:1234]) if damage_kind == "odd" else damage(path, damage_kind)
    arguments = ("train-teacher", "--name", "n", "--nuscenes", world, "--set", f"train.workers={workers}")
    refused(3, (channel, *words), *arguments, "-w", workspace.root)


@pytest.mark.parametrize(
    "command", [("train-teacher", "--name", "n"), ("extract-teacher", "--name", "n"), ("evaluate",), ("visualize",)]
)
def test_a_data_set_that_has_moved(refused, evaluated, tmp_path, command):
    workspace = evaluated.copy(tmp_path).workspace
    words = ("gone, the data set of prepare/v1.0-sim-mini, is not a folder", "--nuscenes DIR")
    arguments = ("--force",) if command[0] == "evaluate" else ()
    refused(3, words, *command, "--nuscenes", tmp_path / "gone", "-w", workspace.root, *arguments)


@pytest.mark.devkit
def test_tables_that_the_official_metrics_cannot_read(refused, chain, world, tmp_path):
    workspace = chain.copy(tmp_path).workspace
    damage(table(world, "map"), "cut")
    words = ("the nuScenes devkit cannot open", str(world), "tables")
    refused(3, words, "evaluate", "--official", "--workers", "0", "--nuscenes", world, "-w", workspace.root)
