"""crkd evaluate --results without prepare: from the tables alone, on a part of a split, with unknown velocities."""

import json
import math
import shutil
from pathlib import Path

import pytest

from crkd_core.artifacts.workspace import Workspace
from tests.support.refusals import check_message
from tests.support.result_files import perfect_results, prepared_of, write_results

VERSION = "v1.0-sim-mini"


@pytest.fixture
def tables(chain, tmp_path) -> Path:
    """The tables of the simulated world and nothing else: no sensor file, no map."""
    shutil.copytree(chain.nuscenes / VERSION, tmp_path / "tables" / VERSION)
    return tmp_path / "tables"


@pytest.fixture
def file(chain, tmp_path) -> Path:
    return write_results(tmp_path / "other.json", perfect_results(prepared_of(chain.workspace)))


def models(out: str) -> list[dict]:
    return json.loads(out)["models"]


def test_the_tables_are_enough(crkd, chain, tables, file, tmp_path):
    result = crkd("evaluate", "--results", file, "--nuscenes", tables, "-w", "ws", "--json")
    assert result.code == 0, result.err
    (entry,) = models(result.out)
    copy = chain.copy(tmp_path / "prepared").workspace.root
    (expected,) = models(crkd("evaluate", "--results", file, "-w", copy, "--json").out)
    assert entry["metrics"] == expected["metrics"]
    assert (entry["samples"], entry["samples_of_split"]) == (2, 2)
    manifest = json.loads((tmp_path / "ws" / "evaluate" / "other-val" / "manifest.json").read_text())
    assert manifest["inputs"]["prepared"]["stage"] == "tables"
    assert "--nuscenes" in manifest["command"]
    recorded = json.loads((tmp_path / "ws" / "tables" / VERSION / "manifest.json").read_text())
    prepared = json.loads((copy / "prepare" / VERSION / "manifest.json").read_text())
    assert recorded["settings"]["tables_sha256"] == prepared["settings"]["tables_sha256"]
    # What it gives can be broken down, compared and looked at like any evaluation; only pictures need images.
    for more in ("--breakdown", "range"), ("--bootstrap", "7"), ("--curves",):
        assert crkd("evaluate", "--results", file, "--nuscenes", tables, "-w", "ws", *more).code == 0
    other = shutil.copy(file, tmp_path / "second.json")
    assert crkd("evaluate", "--results", other, "--nuscenes", tables, "-w", "ws").code == 0
    assert crkd("compare", "other", "second", "-w", "ws").code == 0
    assert crkd("status", "-w", "ws").code == 0
    refusal = crkd("visualize", "--model", "other", "-w", "ws")
    check_message(refusal.code, 2, "", refusal.err, ("was scored from the tables alone", "crkd prepare"))


@pytest.mark.devkit
def test_the_devkit_agrees_where_it_has_maps(crkd, chain, tables, file):
    asked = ("evaluate", "--results", file, "--official", "-w", "ws")
    result = crkd(*asked, "--nuscenes", chain.nuscenes)
    assert result.code == 0, result.err
    assert "The nuScenes devkit agrees" in result.out
    refusal = crkd(*asked, "--nuscenes", tables)
    check_message(refusal.code, 3, "", refusal.err, ("cannot open", "map files"))


def test_fitting_prepared_data_are_used_and_others_are_not(crkd, chain, tables, file, tmp_path):
    root = chain.copy(tmp_path).workspace.root
    asked = ("evaluate", "--results", file, "--nuscenes", tables, "-w", root)
    assert crkd(*asked).code == 0
    assert not (root / "tables").exists()
    scenes = tables / VERSION / "scene.json"
    scenes.write_text(scenes.read_text() + "\n")
    assert crkd(*asked).code == 0
    assert (root / "tables" / VERSION).is_dir()


def test_changed_tables_are_read_again(crkd, tables, file, tmp_path):
    asked = ("evaluate", "--results", file, "--nuscenes", tables, "-w", "ws", "--json")
    first = models(crkd(*asked).out)[0]
    made = tmp_path / "ws" / "tables" / VERSION / "manifest.json"
    before = made.stat().st_mtime_ns
    assert models(crkd(*asked).out)[0] == first
    assert made.stat().st_mtime_ns == before
    path = tables / VERSION / "sample_annotation.json"
    records = json.loads(path.read_text())
    for record in records:
        record["translation"][0] += 0.7
    path.write_text(json.dumps(records))
    assert models(crkd(*asked).out)[0]["metrics"]["mean_ap"] < first["metrics"]["mean_ap"]


def test_the_version_that_can_have_the_split_is_taken(crkd, tables, file):
    shutil.copytree(tables / VERSION, tables / "v1.0-sim-test")
    asked = ("evaluate", "--results", file, "--nuscenes", tables, "-w", "ws")
    assert crkd(*asked, "--split", "mini_val").code == 0
    assert crkd(*asked, "--split", "mini_val", "--version", VERSION).code == 0
    refusal = crkd(*asked, "--split", "nothing")
    check_message(refusal.code, 2, "", refusal.err, ("several versions", "--version"))


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ((), 4, ("needs the tables of a data set", "--nuscenes DIR")),
        (("--nuscenes", "nowhere"), 3, ("nowhere is not a folder",)),
        (("--nuscenes", "tables", "--version", "v1.0-test"), 3, ("has no version 'v1.0-test'",)),
        (("--nuscenes", "tables", "--split", "x"), 2, ("has no split 'x'",)),
    ],
)
def test_what_cannot_be_read_is_refused(crkd, tables, file, options, code, words):
    refusal = crkd("evaluate", "--results", file, "-w", "ws", *options)
    check_message(refusal.code, code, "", refusal.err, words)


def test_tables_without_the_lidar_record_of_a_sample(crkd, tables, file):
    path = tables / VERSION / "sample_data.json"
    records = json.loads(path.read_text())
    records.remove(next(r for r in records if r["is_key_frame"] and "LIDAR_TOP" in r["filename"]))
    path.write_text(json.dumps(records))
    refusal = crkd("evaluate", "--results", file, "--nuscenes", tables, "-w", "ws")
    check_message(refusal.code, 3, "", refusal.err, ("no key frame of LIDAR_TOP",))


@pytest.mark.parametrize("more", [("--subset",), ("--version", "v1.0-x")])
def test_options_of_files_are_not_for_models(refused, more):
    refused(2, (more[0], "--results FILE only"), "evaluate", *more)


@pytest.fixture
def part(file, tmp_path) -> Path:
    """Half of the split, the second sample of it."""
    results = json.loads(file.read_text())
    results["results"] = dict(list(results["results"].items())[1:])
    return write_results(tmp_path / "part.json", results)


@pytest.mark.devkit
def test_a_part_of_a_split_is_scored_and_said_to_be(crkd, chain, part, file, tmp_path):
    root = chain.copy(tmp_path).workspace.root
    asked = ("evaluate", "--results", part, "-w", root)
    refusal = crkd(*asked)
    check_message(refusal.code, 2, "", refusal.err, ("lacks 1 of the 2 samples of mini_val", "--subset"))
    result = crkd(*asked, "--subset", "--official")
    assert result.code == 0, result.err
    assert "part was scored on 1 of 2 samples of mini_val, not on all." in result.out
    assert "The nuScenes devkit agrees" in result.out
    assert str(root / "evaluate" / "part-val-subset") in result.out
    again = crkd(*asked, "--subset", "--json", "--official")
    (entry,) = models(again.out)
    assert (entry["samples"], entry["samples_of_split"]) == (1, 2)
    assert entry["official_difference"] < 1e-9
    manifest = json.loads((root / "evaluate" / "part-val-subset" / "manifest.json").read_text())
    assert (manifest["facts"]["samples"], manifest["facts"]["samples_of_split"]) == (1, 2)
    assert "--subset" in manifest["command"]
    # Other resamples are scored on the same samples.
    assert crkd(*asked, "--subset", "--bootstrap", "5").code == 0
    assert crkd("evaluate", "--results", file, "-w", root).code == 0
    refusal = crkd("compare", "part-val-subset", "other", "-w", root)
    check_message(refusal.code, 2, "", refusal.err, ("not the same ones",))
    assert crkd("visualize", "--samples", "2", "-w", root).code == 0


@pytest.mark.parametrize(
    ("results", "words"), [({}, ("none of the 2 samples",)), ({"stranger": []}, ("'stranger' is not among",))]
)
def test_a_part_must_be_one(refused, chain, tmp_path, results, words):
    root = chain.copy(tmp_path).workspace.root
    file = write_results(tmp_path / "r.json", {"meta": {}, "results": results})
    refused(2, words, "evaluate", "--results", file, "--subset", "-w", root)


@pytest.mark.devkit
@pytest.mark.parametrize("pattern", ["some", "one component", "all of a class", "all"])
def test_unknown_velocities_count_as_in_the_devkit(crkd, chain, file, tmp_path, pattern):
    results = json.loads(file.read_text())
    boxes = [box for sample in results["results"].values() for box in sample]
    for number, box in enumerate(boxes):
        is_unknown = {
            "some": number % 3 == 0,
            "one component": number % 2 == 0,
            "all of a class": box["detection_name"] == "car",
            "all": True,
        }
        if is_unknown[pattern]:
            box["velocity"] = [math.nan, 1.0 if pattern == "one component" else math.nan]
    file = write_results(tmp_path / "nan.json", results)
    root = chain.copy(tmp_path).workspace.root
    result = crkd("evaluate", "--results", file, "--official", "--json", "--curves", "-w", root)
    assert result.code == 0, result.err
    assert models(result.out)[0]["official_difference"] < 1e-9
    assert crkd("visualize", "--model", "nan", "--samples", "1", "-w", root).code == 0


@pytest.mark.parametrize("velocity", [[math.inf, 0.0], [None, None], ["NaN", 0.0], [math.nan], math.nan])
def test_other_velocities_are_refused(refused, chain, file, tmp_path, velocity):
    results = json.loads(file.read_text())
    next(iter(results["results"].values()))[0]["velocity"] = velocity
    write_results(file, results)
    words = ("has the velocity", "expected 2 finite numbers (NaN where unknown)")
    refused(2, words, "evaluate", "--results", file, "-w", chain.copy(tmp_path).workspace.root)


@pytest.mark.parametrize("name", ["translation", "size", "rotation"])
def test_nothing_else_may_be_unknown(refused, chain, file, tmp_path, name):
    results = json.loads(file.read_text())
    next(iter(results["results"].values()))[0][name][0] = math.nan
    write_results(file, results)
    refused(2, (f"has the {name}", "finite"), "evaluate", "--results", file, "-w", chain.copy(tmp_path).workspace.root)


@pytest.mark.devkit
def test_a_whole_file_is_scored_on_what_was_prepared(crkd, chain, tmp_path, file):
    """Key frames that prepare left out are in the file; it is scored on the others, unless the tables are named."""
    world = chain.copy_world(tmp_path)
    token = prepared_of(chain.workspace).tokens("val")[0]
    records = json.loads((world / VERSION / "sample_data.json").read_text())
    lost = next(r for r in records if r["sample_token"] == token and "CAM_BACK/" in r["filename"] and r["is_key_frame"])
    (world / lost["filename"]).unlink()
    assert crkd("prepare", "--nuscenes", world, "-w", "ws", "--allow-missing", "samples").code == 0
    result = crkd("evaluate", "--results", file, "--official", "-w", "ws")
    assert result.code == 0, result.err
    assert "other was scored on 1 of 2 samples of mini_val" in result.out
    result = crkd("evaluate", "--results", file, "--official", "--nuscenes", world, "-w", "ws")
    assert result.code == 0, result.err
    assert "was scored on" not in result.out
    assert Workspace(tmp_path / "ws").artifacts("tables")
