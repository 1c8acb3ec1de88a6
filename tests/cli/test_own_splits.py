"""Scenes of one's own in splits.json, train and val together, and several prepared data sets in one workspace."""

import json
import shutil
from pathlib import Path

import pytest

from crkd_core.artifacts.workspace import Workspace
from crkd_core.datasets.prepared.prepared_data import PreparedData
from tests.support.nuscenes_factory import TinyFolder, write_folder
from tests.support.refusals import check_message
from tests.support.result_files import perfect_results, prepared_of, write_results
from tests.support.unlabelled_world import TEST_VERSION, write_test_world

OWN = {"my_train": ["street-1", "street-2"], "my_val": ["street-3"]}


@pytest.fixture
def folder(tmp_path) -> TinyFolder:
    return write_folder(tmp_path / "own", version="v1.0-own", scenes={f"street-{n}": 2 for n in (1, 2, 3)})


def write_splits(folder: TinyFolder, contents: object) -> Path:
    path = folder.root / folder.version / "splits.json"
    path.write_text(contents if isinstance(contents, str) else json.dumps(contents))
    return path


def said(out: str) -> str:
    return " ".join(out.split())


@pytest.mark.devkit
def test_own_splits_are_the_devkits(crkd, folder, tmp_path):
    from nuscenes.utils.splits import get_scenes_of_custom_split

    write_splits(folder, OWN)
    result = crkd("prepare", "--nuscenes", folder.root, "-w", "ws")
    assert result.code == 0, result.err
    assert "4 my_train, 2 my_val" in result.out
    assert "warning" not in result.out
    prepared = prepared_of(Workspace(tmp_path / "ws"))

    class Opened:
        dataroot, version = str(folder.root), folder.version

    for split in OWN:
        scenes = get_scenes_of_custom_split(split, Opened)
        expected = [f"{scene}-sample-{index}" for scene in scenes for index in range(2)]
        assert prepared.tokens(split) == expected


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        ("", ("splits.json is not valid JSON",)),
        ("{", ("splits.json is not valid JSON", "line 1")),
        ("[" * 100_000, ("splits.json is not valid JSON",)),
        (["street-1"], ("is not an object of splits", '{"my_train"')),
        ({"my_train": "street-1"}, ("the split 'my_train'", "is not a list of scene names")),
        ({"my_train": [1]}, ("the split 'my_train'", "is not a list of scene names")),
        ({"my_train": ["street-9"]}, ("no sample in any split", "found street-1")),
        ({}, ("no sample in any split", "splits.json")),
        (
            {"my_train": ["street-1", "street-2"], "my_val": ["street-2", "street-3"]},
            ("my_train and my_val", "share the scene 'street-2'", "keep each scene in one"),
        ),
    ],
)
def test_a_damaged_file_of_splits(refused, folder, contents, words):
    write_splits(folder, contents)
    refused(3, words, "prepare", "--nuscenes", folder.root, "-w", "ws")


def test_a_file_of_splits_that_cannot_be_read(refused, folder):
    path = write_splits(folder, OWN)
    path.write_bytes(b"\xff\xfe")
    refused(3, ("splits.json is not valid JSON",), "prepare", "--nuscenes", folder.root)
    path.unlink()
    path.symlink_to("/nowhere/splits.json")
    refused(3, ("splits.json is a link to a file that is not there",), "prepare", "--nuscenes", folder.root)
    path.unlink()
    path.mkdir()
    refused(3, ("splits.json is a folder and not a regular file",), "prepare", "--nuscenes", folder.root)


@pytest.mark.parametrize(
    ("contents", "warning"),
    [
        ({"a": ["street-1"]}, "4 of 6 samples are in no split and will not be used (scenes street-2, street-3)"),
        (
            {**OWN, "a": ["street-1", "gone"]},
            "1 of the 2 scenes of a in splits.json are not in scene.json, such as gone",
        ),
        ({**OWN, "empty": []}, "no sample in empty"),
        ({"train": ["street-1"], "val": ["street-2", "street-3"]}, "train, val are those of splits.json"),
    ],
)
def test_odd_splits_are_told(crkd, folder, contents, warning):
    write_splits(folder, contents)
    result = crkd("prepare", "--check", "--nuscenes", folder.root)
    assert result.code == 0, result.err
    assert warning in said(result.out)


def test_nuscenes_names_mean_nuscenes_lists(crkd, tmp_path):
    folder = write_folder(tmp_path / "mini")
    write_splits(folder, {"mini_val": ["scene-0061"], "mine": ["scene-0061"]})
    result = crkd("prepare", "--nuscenes", folder.root, "-w", "ws")
    assert "2 mini_val" in result.out
    assert "splits.json lists mini_val: nuScenes' own lists of that name are used, as in the devkit" in said(result.out)
    prepared = prepared_of(Workspace(tmp_path / "ws"))
    assert prepared.tokens("mine") == prepared.tokens("train")


def test_a_changed_split_makes_other_data(crkd, folder):
    write_splits(folder, OWN)
    asked = ("prepare", "--nuscenes", folder.root, "-w", "ws")
    assert crkd(*asked).code == 0
    assert "up to date" in crkd(*asked).err
    write_splits(folder, {**OWN, "my_train": ["street-2"]})
    refusal = crkd(*asked)
    check_message(refusal.code, 4, refusal.out, refusal.err, ("splits.my_train", "--force"))


def test_the_next_command_names_the_own_split(crkd, folder):
    write_splits(folder, OWN)
    crkd("prepare", "--nuscenes", folder.root, "-w", "ws")
    assert "next: crkd train-teacher --split my_train" in crkd("status", "-w", "ws").out


@pytest.fixture
def own_chain(chain, tmp_path) -> tuple[Path, Path]:
    """The simulated world with scenes of its own, and a workspace without prepared data."""
    world, root = chain.copy_world(tmp_path), chain.copy(tmp_path).workspace.root
    shutil.rmtree(root)
    scenes = world / "v1.0-sim-mini" / "scene.json"
    scenes.write_text(scenes.read_text().replace('"scene-', '"street-'))
    names = [scene["name"] for scene in json.loads(scenes.read_text())]
    (world / "v1.0-sim-mini" / "splits.json").write_text(json.dumps({"odd name!": names[:2], "mine": names[2:]}))
    return world, root


@pytest.mark.devkit
def test_every_command_takes_an_own_split(crkd, own_chain, chain, tmp_path):
    world, root = own_chain
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps(chain.config.model_dump(mode="json")))
    assert crkd("prepare", "--nuscenes", world, "-w", root).code == 0
    refusal = crkd("distill", "--losses", "none", "--config", config, "-w", root)
    check_message(refusal.code, 3, "", refusal.err, ("no sample of the split 'mini_train'", "mine (2 samples)"))
    asked = ("distill", "--losses", "none", "--config", config, "--split", "odd name!", "-w", root)
    assert crkd(*asked).code == 0
    settings = json.loads((root / "distill" / "plain" / "manifest.json").read_text())["settings"]
    assert settings["split"] == "odd name!"
    assert "next: crkd" in crkd("status", "-w", root).out
    for split, folder in (("mine", "plain-mine"), ("odd name!", "plain-odd-name")):
        result = crkd("evaluate", "--workers", "0", "--official", "--split", split, "-w", root)
        assert result.code == 0, result.err
        assert "The nuScenes devkit agrees" in result.out
        assert (root / "evaluate" / folder).is_dir()
    assert crkd("visualize", "--split", "mine", "--samples", "1", "-w", root).code == 0
    file = write_results(tmp_path / "r.json", perfect_results(prepared_of(Workspace(root)), "mine"))
    result = crkd("evaluate", "--results", file, "--split", "mine", "--official", "-w", root)
    assert result.code == 0, result.err


@pytest.mark.devkit
def test_train_and_val_together(crkd, chain, tmp_path):
    """For the test server: the run is another one, its targets must cover it, and its own samples are not new to it."""
    root = chain.copy(tmp_path).workspace.root
    refusal = crkd("distill", "--split", "trainval", "--name", "both", "-w", root)
    words = (
        "extract-teacher/targets lacks 2 of the 6 samples of trainval",
        "--name targets-trainval",
        "--split trainval",
    )
    check_message(refusal.code, 4, refusal.out, refusal.err, words)
    result = crkd("extract-teacher", "--split", "trainval", "--name", "targets-trainval", "-w", root)
    assert "12 (samples x 2 views)" in result.out
    asked = ("distill", "--split", "trainval", "--name", "both", "-w", root)
    assert crkd(*asked).code == 0
    manifest = json.loads((root / "distill" / "both" / "manifest.json").read_text())
    assert manifest["settings"]["split"] == "mini_trainval"
    assert manifest["inputs"]["targets"]["name"] == "targets-trainval"
    assert "--split trainval" in manifest["command"]
    assert "already there" in crkd(*asked).out
    for split in "train", "mini_train":
        # The default's runs are what they were, and take the targets of their own split.
        assert "already there" in crkd("distill", "--split", split, "-w", root).out
    result = crkd("evaluate", "--model", "both", "--workers", "0", "-w", root)
    assert result.code == 0, result.err
    assert "distill/both was trained on mini_trainval, with 2 of the 2 samples of mini_val among" in said(result.err)
    result = crkd("evaluate", "--model", "both", "--workers", "0", "--split", "trainval", "--official", "-w", root)
    assert result.code == 0, result.err
    assert "was trained on" not in result.err
    assert "The nuScenes devkit agrees" in result.out


def test_each_command_takes_the_data_that_have_its_split(crkd, chain, tmp_path):
    world, root = write_test_world(chain, tmp_path), chain.copy(tmp_path).workspace.root
    assert crkd("prepare", "--nuscenes", world, "-w", root).code == 0
    asked = ("evaluate", "--model", "crkd", "--workers", "0", "-w", root)
    result = crkd(*asked, "--split", "test")
    assert result.code == 0, result.err
    submission = json.loads((root / "evaluate" / "crkd-test" / "submission.json").read_text())
    of_test = PreparedData(Workspace(root).find("prepare", TEST_VERSION, needed_for="test", make="")).tokens("test")
    assert list(submission["results"]) == of_test
    assert crkd(*asked).code == 0
    assert "already there" in crkd("distill", "-w", root).out
    refusal = crkd(*asked, "--split", "my_val")
    check_message(refusal.code, 2, "", refusal.err, ("my_val", "which no prepared data have", TEST_VERSION))
    # A second data set with the same split: the model's own comes first, and a choice between equals is told.
    assert crkd("prepare", "--nuscenes", chain.nuscenes, "--name", "again", "-w", root).code == 0
    assert "already there" in crkd("distill", "-w", root).out
    file = write_results(tmp_path / "r.json", perfect_results(prepared_of(Workspace(root))))
    result = crkd("evaluate", "--results", file, "-w", root)
    assert "using prepare/again, the latest that has val (so has v1.0-sim-mini: choose with --prepared)" in result.err
