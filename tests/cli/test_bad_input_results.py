"""Result files that cannot be evaluated, through the real command: what was wrong, and nothing is left behind."""

import json
import math
import shutil
from copy import deepcopy
from typing import Any

import pytest

from crkd_core.artifacts.workspace import Workspace
from tests.support.refusals import Refused
from tests.support.result_files import perfect_results, prepared_of, write_results

FORMAT = 'expected a nuScenes result file, {"meta": {...}, "results": {"SAMPLE TOKEN": [{box}, ...], ...}}'


@pytest.fixture
def workspace(chain, tmp_path) -> Workspace:
    shutil.copytree(chain.workspace.root / "prepare", tmp_path / "ws" / "prepare")
    return Workspace(tmp_path / "ws")


@pytest.fixture
def results(workspace) -> dict[str, Any]:
    return deepcopy(perfect_results(prepared_of(workspace)))


@pytest.fixture
def refuse(refused: Refused, workspace, tmp_path):
    """``refuse(words, text or contents)``: evaluating such a file is refused, without a trace in the workspace."""

    def refuse(words: tuple[str, ...], contents: Any, *more: str, code: int = 2) -> None:
        file = tmp_path / "results.json"
        if isinstance(contents, bytes):
            file.write_bytes(contents)
        elif isinstance(contents, str):
            file.write_text(contents)
        else:
            write_results(file, contents)
        refused(code, words, "evaluate", "--results", file, *(more or ("--split", "mini_val")), "-w", workspace.root)
        assert not list((workspace.root / "evaluate").glob("*"))

    return refuse


def first_boxes(results: dict[str, Any]) -> tuple[str, list[dict[str, Any]]]:
    return next((token, boxes) for token, boxes in results["results"].items() if len(boxes) > 1)


def test_no_such_file(refused, workspace):
    words = ("there is no results file nowhere.json", "check the path given to --results")
    refused(2, words, "evaluate", "--results", "nowhere.json", "-w", workspace.root)


def test_a_folder(refused, workspace):
    words = (f"{workspace.root} cannot be read (it is no regular file)", FORMAT)
    refused(2, words, "evaluate", "--results", workspace.root, "-w", workspace.root)


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        ("", ("results.json is empty", FORMAT)),
        ("mAP: 0.4", ("it begins with 'm'", FORMAT)),
        (b"\x89PNG\r\n\x1a\n", ("is not UTF-8 text", FORMAT)),
        ('{"meta": {}, "results": {"a": [}', ("not valid JSON at line 1, column 32", FORMAT)),
        ("[]", ("it begins with '['", FORMAT)),
        ('{"meta": {}, "results": []}', ('its "results" are a list', FORMAT)),
        ('{"meta": {}, "result": {}}', ('it has no "results"', FORMAT)),
    ],
)
def test_not_a_result_file(refuse, contents, words):
    refuse((*words, "results.json"), contents)


def test_a_truncated_file(refuse, results):
    text = json.dumps(results)
    refuse(("results.json cannot be evaluated", "it is not valid JSON at line 1", FORMAT), text[: len(text) // 2])


def test_no_meta(refuse, results):
    del results["meta"]
    refuse(('it has no "meta"', FORMAT), results)


def test_meta_of_another_kind(refuse, results):
    refuse(('its "meta" is a text', "expected an object with use_camera"), {**results, "meta": "camera"})


def test_an_unknown_sample(refuse, results):
    words = ("the sample 'stranger' is not among the", "samples of mini_val in v1.0-sim-mini", "--split")
    refuse(words, {**results, "results": {**results["results"], "stranger": []}})


def test_another_splits_file(refuse, workspace):
    refuse(
        ("is not among the", "choose the split the file was made for"), perfect_results(prepared_of(workspace), "train")
    )


def test_a_missing_sample(refuse, results):
    token, *others = results["results"]
    total = len(others) + 1
    del results["results"][token]
    words = (f"it lacks 1 of the {total} samples of mini_val, such as {token}", "every sample needs a list")
    refuse(words, results)


def test_more_than_500_boxes(refuse, results):
    token, boxes = first_boxes(results)
    results["results"][token] = [boxes[0]] * 501
    refuse((f"the sample {token} has 501 boxes", "at most 500", "keep those of the highest scores"), results)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("translation", [math.nan, 0.0, 0.0], ("translation [nan, 0.0, 0.0]", "expected 3 finite numbers")),
        ("velocity", [0.0, -math.inf], ("velocity [0.0, -inf]", "expected 2 finite numbers")),
        ("detection_score", math.nan, ("detection_score nan", "expected a finite number of 0 or more")),
        ("detection_score", -0.25, ("detection_score -0.25", "expected a finite number of 0 or more")),
        ("size", [1.0, 2.0], ("size [1.0, 2.0]", "expected 3 finite numbers")),
        ("size", [1.0, -2.0, 1.0], ("size [1.0, -2.0, 1.0]", "above 0 (m)")),
        ("rotation", [0.0, 0.0, 0.0, 0.0], ("rotation [0.0, 0.0, 0.0, 0.0]", "unit quaternion", "length 0")),
        ("detection_name", "tram", ("detection_name 'tram'", "expected 'car', 'truck'", "'traffic_cone'")),
        ("attribute_name", "car.moving", ("attribute_name 'car.moving'", "expected '', 'vehicle.moving'")),
        ("sample_token", "other", ("sample_token 'other'", "that of the list it is in")),
    ],
)
def test_a_wrong_box(refuse, results, field, value, words):
    token, boxes = first_boxes(results)
    boxes[1][field] = value
    refuse((f"results.json cannot be evaluated: box 2 of the sample {token} has the ", *words), results)


def test_a_box_without_a_field(refuse, results):
    token, boxes = first_boxes(results)
    del boxes[1]["attribute_name"]
    refuse((f"box 2 of the sample {token} has no 'attribute_name'", "expected sample_token, translation"), results)


def test_a_split_that_the_version_does_not_have(refuse, results):
    words = ("version v1.0-sim-mini has no split 'test'", "it has mini_train, mini_val")
    refuse(words, results, "--split", "test")
    refuse(("version v1.0-sim-mini has no split 'holiday'", "it has"), results, "--split", "holiday")


def test_nothing_prepared(refused, tmp_path):
    (tmp_path / "results.json").write_text("{}")
    words = ("needs the tables of a data set", "with --nuscenes DIR, or prepare it with: crkd prepare --nuscenes DIR")
    refused(4, words, "evaluate", "--results", "results.json", "-w", tmp_path / "empty")
