"""Descriptions of data sets that are wrong, or fit neither the data nor the preset nor the model: one sentence each."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crkd_core.artifacts.workspace import Workspace
from crkd_core.config.description_files import load_description
from crkd_core.config.loading import configured_for, load_config
from crkd_core.progress import SilentProgress
from crkd_core.stages.prepare import PrepareRequest, prepare
from tests.support.described import add_model
from tests.support.nuscenes_factory import pcd_bytes
from tests.support.own_car import DESCRIPTION, write_car, write_description
from tests.support.refusals import make_refused

RADAR: dict[str, Any] = DESCRIPTION["radar_points"]
CAR: dict[str, Any] = DESCRIPTION["classes"]["car"]


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """``car`` and ``world`` as :func:`write_car` makes them, and a workspace with both prepared and models of each."""
    folder = tmp_path_factory.mktemp("described")
    write_car(folder)
    (folder / "val.txt").write_text("drive 2\n")
    own = load_description(write_description(folder / "own.yaml"))
    workspace, tiny = Workspace(folder / "ws"), load_config("tiny")
    requests = (
        PrepareRequest(folder / "world"),
        PrepareRequest(folder / "car", dataset=own, val_scenes=folder / "val.txt"),
    )
    for request in requests:
        prepare(request, workspace, SilentProgress())
    for stage in ("train-teacher", "distill"):
        add_model(workspace, stage, "nuscenes", tiny)
        add_model(workspace, stage, "own", configured_for(tiny, own, "the car"))
    return folder


@pytest.fixture
def refused(crkd, root, monkeypatch):
    """Runs a command beside the data that must be refused, and must leave data and workspace as they were."""
    monkeypatch.chdir(root)
    return make_refused(crkd, root)


def asked(root: Path, description: object, *more: object, data: str = "car") -> tuple[object, ...]:
    return ("prepare", "--nuscenes", root / data, "--dataset", description, "-w", root / "ws", "--name", "new", *more)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, ("the description bad.yaml cannot be read: No such file",)),
        (b"", ("bad.yaml is empty", "--describe writes a first description")),
        (b"# to do\n", ("bad.yaml is empty",)),
        (b"- car\n", ("must hold keys such as 'classes:', found list",)),
        (b"a car", ("must hold keys such as 'classes:', found str",)),
        (b"name: [own", ("bad.yaml is not valid YAML at line 1", "expected nested keys")),
        (b"name: own\nname: other\n", ("line 2: the key 'name' stands there twice",)),
        (b"classes: {car: {}, car: {}}\n", ("line 1: the key 'car' stands there twice",)),
        (b"name: !!python/object:os.system own\n", ("the tag '!!python/object:os.system' is no part of a setting",)),
        (b"\xff\xfe\x00", ("bad.yaml is not UTF-8 text",)),
        (b"name: own\n", ("'classes' is missing and has no default",)),
    ],
)
def test_files_that_are_no_description(refused, root, text, words):
    (root / "bad.yaml").unlink(missing_ok=True)
    if text is not None:
        (root / "bad.yaml").write_bytes(text)
    refused(2, words, *asked(root, "bad.yaml"))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nuscene", ("no data set is named 'nuscene'; did you mean 'nuscenes'?",)),
        ("waymo", ("no data set is named 'waymo'; known here: nuscenes, t4, truckscenes", "ends in .yaml")),
        ("own.json", ("no data set is named 'own.json'", "ends in .yaml")),
        ("", ("--dataset is empty",)),
    ],
)
def test_names_of_no_data_set(refused, root, name, words):
    refused(2, words, *asked(root, name))


def test_a_folder_is_no_description(refused, root):
    (root / "folder.yaml").mkdir(exist_ok=True)
    refused(2, ("the description folder.yaml is a folder",), *asked(root, "folder.yaml"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"clases": {}}, ("the description has no key 'clases'; did you mean 'classes'?",)),
        ({"classes": {"car": CAR | {"rang_m": 9}}}, ("no key 'classes.car.rang_m'; did you mean 'range_m'?",)),
        ({"classes": {"car": CAR | {"range_m": "far"}}}, ("'classes.car.range_m'", "number, found 'far' (str)")),
        ({"classes": {"car": {"categories": "Car"}}}, ("'classes.car.categories': expected a list, found 'Car'",)),
        ({"classes": {"car": None}}, ("'classes.car': expected a section of keys, found nothing",)),
        ({"classes": {}}, ("'classes'",)),
        ({"tasks": [{"classes": ["car"]}]}, ("the class person is in no task; add it to one",)),
        ({"tasks": [{"classes": ["car"]}, {"classes": ["person", "car"]}]}, ("car is in 2 tasks; keep it in one",)),
        ({"tasks": [{"classes": ["lorry", "car", "person"]}]}, ("unknown class 'lorry'; the classes are car, person",)),
        (
            {"classes": {"car": CAR, "person": {"categories": ["Car"]}}},
            ("the category 'Car' belongs to the class car and the class person; keep it in one",),
        ),
        ({"other_categories": ["Car"]}, ("'Car' belongs to the class car and other_categories",)),
        ({"reference_lidar": ["roof_left", "roof_right"]}, ("one LiDAR is the reference", "found roof_left, roof_r")),
        ({"reference_lidar": "roof"}, ("reference_lidar is one of lidars (roof_left, roof_right), found 'roof'",)),
        ({"lidars": []}, ("'lidars': expected a list of at least 1",)),
        ({"cameras": ["front", "front"]}, ("the channel 'front' is listed 2 times",)),
        ({"camera_rows": [["front", "back"]]}, ("the unknown camera 'back'; cameras are front, left, right, rear",)),
        ({"splits": {"train": ["drive 1"], "val": ["drive 1"]}}, ("'drive 1' is in the splits train and val",)),
        ({"format": "waymo"}, ("'format': expected 'nuscenes', 'truckscenes' or 't4', found 'waymo'",)),
        ({"radar_points": RADAR | {"velocity": "absolute"}}, ("expected 'compensated' or 'relative', found 'abs",)),
        ({"radar_points": RADAR | {"features": ["x", "y", "z", "snr"]}}, ("'radar_points.features.3'", "found 'snr'")),
        ({"lidar_points": {"columns": 2}}, ("'lidar_points.columns'",)),
    ],
)
def test_descriptions_that_contradict_themselves(refused, root, changes, words):
    write_description(root / "new.yaml", **changes)
    refused(2, ("new.yaml: ", *words), *asked(root, "new.yaml"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cameras": ["front", "back"]}, ("cameras of the description own name 'back'", "does not have")),
        ({"lidars": ["roof_left", "roof_rihgt"]}, ("name 'roof_rihgt'", "did you mean 'roof_right'")),
        ({"radars": ["bumper", "front"], "cameras": ["left"]}, ("radars", "'front'", "calls a camera; move it")),
        ({"lidars": ["bumper"], "radars": ["tail"]}, ("lidars", "'bumper'", "calls a radar; move it")),
        ({"lidar_points": {"columns": 5}, "lidars": ["roof_left"]}, ("like 4 columns", "lidar_points.columns: 4")),
        ({"lidar_points": {"columns": 4}}, ("a PCD file with a header", "leave out lidar_points.columns")),
        (
            {"lidar_points": {"intensity_field": "i"}},
            ("roof_right", "is not as described", "lacks the field i and has x, y, z, intensity"),
        ),
        ({"lidar_points": {"time_field": "t"}}, ("is not as described", "lacks the field t and has", "time_field")),
        (
            {"radar_points": {}},
            ("bumper", "is not as described", "lacks the fields vx_comp, vy_comp, rcs of the description"),
        ),
        ({"radar_points": RADAR | {"codes": True}}, ("lacks the fields dyn_prop", "radar_points of the description")),
        ({"radar_points": RADAR | {"velocity_fields": ["dopler"]}}, ("lacks the field dopler", "power, doppler")),
        (
            {"classes": {"car": {"categories": ["vehicle.car"]}}},
            ("found Car (5), Adult (5), animal (5)", "in the description own, which lists vehicle.car"),
        ),
    ],
)
def test_descriptions_that_do_not_fit_the_files(refused, root, changes, words):
    write_description(root / "new.yaml", **changes)
    refused(3, words, *asked(root, "new.yaml", "--val-scenes", "val.txt"))


def test_scenes_that_a_description_splits_and_the_tables_do_not_have(refused, root):
    write_description(root / "new.yaml", splits={"train": ["scene-0061"], "val": ["scene-0103"]})
    words = ("car/tables has no sample in any split: found scenes drive 1, drive 2", "--val-scenes FILE")
    refused(3, words, *asked(root, "new.yaml"))


@pytest.mark.parametrize(
    ("name", "data", "code", "words"),
    [
        ("nuscenes", "car", 3, ("sensors bumper, front, left, rear,", "describe yours: crkd prepare", "--describe")),
        ("truckscenes", "car", 3, ("which no data set that crkd knows has; add --dataset car.yaml",)),
        ("truckscenes", "world", 3, ("has the sensors of nuScenes and not those of TruckScenes", "--dataset nuscenes")),
    ],
)
def test_another_data_set_by_name(refused, root, name, data, code, words):
    refused(code, words, *asked(root, name, data=data))


def test_tables_of_truckscenes_read_as_nuscenes(refused, root, tmp_path):
    shutil.copytree(root / "car", tmp_path / "truck")
    tables = tmp_path / "truck" / "tables"
    (tables / "log.json").rename(tables / "ego_motion_chassis.json")
    words = (f"the table {tables}/log.json is missing", "the others are TruckScenes'", "format: truckscenes in the")
    refused(3, words, "prepare", "--nuscenes", tmp_path / "truck", "--dataset", "own.yaml", "-w", root / "ws")
    (tables / "ego_motion_chassis.json").unlink()
    words = (f"the table {tables}/log.json is missing", "unpack the metadata archive again")
    refused(3, words, "prepare", "--nuscenes", tmp_path / "truck", "--dataset", "own.yaml", "-w", root / "ws")


def test_a_radar_file_of_other_fields_than_the_others(refused, root, tmp_path):
    shutil.copytree(root / "car", tmp_path / "car")
    path = next((tmp_path / "car" / "samples" / "tail").iterdir())
    path.write_bytes(pcd_bytes(np.zeros(3, [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("speed", "<f4")])))
    words = (str(path), "lacks the fields doppler, power of the description and has x, y, z, speed")
    more = ("--dataset", "own.yaml", "--val-scenes", "val.txt", "-w", root / "ws", "--name", "new")
    refused(3, words, "prepare", "--nuscenes", tmp_path / "car", *more)


def test_lists_of_the_tables_that_share_a_scene(refused, root, tmp_path):
    shutil.copytree(root / "car", tmp_path / "car")
    splits = tmp_path / "car" / "tables" / "splits.json"
    splits.write_text(json.dumps({"train": ["drive 1", "drive 2"], "val": ["drive 2"]}))
    words = (f"the splits train and val in {splits} share the scene 'drive 2'", "keep each scene in one")
    refused(3, words, "prepare", "--nuscenes", tmp_path / "car", "--dataset", "own.yaml", "-w", root / "ws")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", ("the scene list scenes.txt names no scene",)),
        (b"# nothing\n", ("names no scene",)),
        (b"drive 2\nscene-0103\n", ("1 of the 2 scenes in", "such as 'scene-0103'", "called drive 1, drive 2")),
        (b"\xff\xfe\x00", ("is not UTF-8 text",)),
        (None, ("cannot be read: No such file", "--val-scenes")),
    ],
)
def test_lists_of_validation_scenes(refused, root, text, words):
    (root / "scenes.txt").unlink(missing_ok=True)
    if text is not None:
        (root / "scenes.txt").write_bytes(text)
    refused(3, words, *asked(root, "own.yaml", "--val-scenes", "scenes.txt"))


@pytest.mark.parametrize(
    "command", [("train-teacher",), ("distill", "--losses", "none"), ("distill", "--teacher", "online:own")]
)
def test_presets_of_another_description(refused, root, command):
    words = (
        "the configuration is for TruckScenes, and prepare/tables is own (classes: truck, other_vehicle",
        "instead of person); choose another preset, or other data with --prepared",
    )
    refused(2, words, *command, "--preset", "truckscenes-tiny", "--prepared", "tables", "-w", root / "ws")


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("dataset=truckscene", ("dataset: no data set is named 'truckscene'; did you mean 'truckscenes'?",)),
        ("dataset=t4", ("the configuration is for T4, and prepare/tables is own (classes: truck,",)),
        ("dataset.clases={}", ("no key 'dataset.clases'; did you mean 'classes'?",)),
        (
            "student.head.nms.circle_classes={barrier: 1}",
            ("does not fit prepare/tables, which is own: student.head.nms", "'barrier'", "are car, person; mend that"),
        ),
    ],
)
def test_settings_of_another_description(refused, root, setting, words):
    learning = ("distill", "--losses", "none", "--preset", "tiny", "--set", setting)
    refused(2, words, *learning, "--prepared", "tables", "-w", root / "ws")


@pytest.mark.parametrize(
    ("command", "label"),
    [
        (("evaluate", "--model", "train-teacher/nuscenes"), "train-teacher/nuscenes"),
        (("evaluate", "--model", "distill/nuscenes"), "distill/nuscenes"),
        (("extract-teacher", "--teacher", "nuscenes"), "train-teacher/nuscenes"),
        (("train-teacher", "--preset", "tiny", "--init", "nuscenes"), "train-teacher/nuscenes"),
        (("distill", "--losses", "none", "--preset", "tiny", "--init", "nuscenes"), "distill/nuscenes"),
        (("distill", "--preset", "tiny", "--teacher", "online:nuscenes"), "train-teacher/nuscenes"),
    ],
)
def test_models_of_another_description(refused, root, command, label):
    words = (f"{label} was trained on nuScenes, and prepare/tables is own (classes: truck,", "person); choose other")
    refused(4, words, *command, "--prepared", "tables", "-w", root / "ws")


def test_a_model_of_ones_own_on_nuscenes(refused, root):
    words = ("distill/own was trained on own, and prepare/v1.0-mini is nuScenes (classes: person instead of truck,",)
    refused(4, words, "evaluate", "--model", "distill/own", "--prepared", "v1.0-mini", "-w", root / "ws")


def test_options_that_do_not_go_with_describe(refused, root):
    car = ("prepare", "--nuscenes", root / "car")
    refused(2, ("--out is for the description that --describe writes",), *car, "--out", "a.yaml")
    refused(2, ("prepares nothing",), *car, "--describe", "--check")
    refused(2, ("prepares nothing",), *car, "--describe", "--dataset", "nuscenes")
    refused(2, ("val.txt is there already", "--force"), *car, "--describe", "--out", "val.txt")
