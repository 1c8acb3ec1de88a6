"""Commands that manifests record and messages print."""

import shlex
from pathlib import Path

import pytest

from crkd_core.artifacts.command import Command, command_like, command_text
from crkd_core.artifacts.difference import MadeOf, difference
from crkd_core.artifacts.location import absolute
from crkd_core.artifacts.manifest import InputRef


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CRKD_WORKSPACE", raising=False)
    return tmp_path


@pytest.mark.parametrize(
    "text",
    [
        "crkd status",
        "crkd compare a b --split val",
        "crkd train-teacher --preset tiny --set 'data.grid.x_range_m=[-36, 36]' --set train.seed=1 --compile",
        "crkd prepare --nuscenes '/my data/it'\"'\"'s' --force",
        "crkd evaluate --set 'student.head.nms.circle_classes={\"car\": 4.0}' --model -x",
    ],
)
def test_what_is_printed_is_what_is_read(text):
    command = Command.parse(text)
    assert command.text(None) == text
    assert Command.parse(command.text(None)) == command


@pytest.mark.parametrize("text", ["", "c", "crkd", "remove it", "crkd 'unclosed"])
def test_what_is_no_command_stays_as_it_is(text):
    assert Command.parse(text) is None
    assert command_text(text, Path("elsewhere")) == text


def test_the_workspace_is_named_unless_a_command_finds_it(folder, monkeypatch):
    command = Command("status")
    assert command.text(Path("crkd-workspace")) == command.text(folder / "crkd-workspace") == "crkd status"
    assert command.text(Path("other")) == f"crkd status --workspace {folder}/other"
    assert command.text(Path("crkd-workspace"), explicit=True) == f"crkd status --workspace {folder}/crkd-workspace"
    # The variable may have been set for one command only.
    monkeypatch.setenv("CRKD_WORKSPACE", "crkd-workspace")
    assert command.text(Path("crkd-workspace")) == f"crkd status --workspace {folder}/crkd-workspace"
    monkeypatch.delenv("CRKD_WORKSPACE")
    monkeypatch.chdir("/")
    assert command.text(folder / "crkd-workspace") == f"crkd status --workspace {folder}/crkd-workspace"


def test_force_stands_there_once(folder):
    recorded = "crkd distill --force --name a --workspace /w"
    assert command_text(recorded, Path("/w"), force=True) == "crkd distill --name a --workspace /w --force"
    assert command_text(command_text(recorded, Path("/w"), True), Path("/w"), True).count("--force") == 1


def test_a_workspace_that_was_moved_is_named_where_it_is(folder):
    recorded = "crkd distill --config /old/place/configs/a-1.yaml --nuscenes /old/placebo --workspace /old/place"
    moved = command_text(recorded, Path("new place"))
    words = shlex.split(moved)
    assert words[2:] == [
        "--config",
        f"{folder}/new place/configs/a-1.yaml",
        "--nuscenes",
        "/old/placebo",
        "--workspace",
        f"{folder}/new place",
    ]
    assert command_text(recorded, Path("crkd-workspace")).count("--workspace") == 0


def test_settings_replace_in_place_and_repeat():
    command = Command.parse("crkd evaluate --model a --split val --model b")
    assert command.setting("--model", "c").text(None) == "crkd evaluate --model c --split val"
    assert command.setting("--model", "c", "d").text(None) == "crkd evaluate --model c --model d --split val"
    assert command.adding("--model", "c").get("--model") == "c"
    assert not command.without("--model").has("--model")


def test_kept_configurations_are_named_by_their_contents(folder):
    command = Command("distill").keeping(Path("ws"), "mine", "a: 1\n")
    ((path, text),) = command.configurations
    assert (path.parent, text) == (folder / "ws" / "configs", "a: 1\n")
    assert command.get("--config") == str(path)
    # A command that is pasted names the copy, which is not copied under a longer name.
    assert command.keeping(Path("ws"), path.stem, "a: 1\n") == command
    other = command.keeping(Path("ws"), path.stem, "a: 2\n")
    assert other != command
    assert [text for _, text in other.configurations] == ["a: 2\n"]
    both = command.keeping(Path("ws"), "car", "name: car\n", "--dataset")
    assert [text for _, text in both.configurations] == ["a: 1\n", "name: car\n"]
    assert both.get("--config") == str(path)


def test_a_command_like_another_has_its_configuration():
    given = Command.parse("crkd distill --preset tiny --name a --set b.c=1")
    text = command_like(given, "crkd train-teacher --name NEW", Path("/w"))
    assert text == "crkd train-teacher --name NEW --preset tiny --set b.c=1 --workspace /w"
    assert command_like(None, "crkd train-teacher", Path("/w")) == "crkd train-teacher --workspace /w"


def test_paths_mean_the_same_in_every_folder(folder):
    assert absolute(Path("a")) == folder / "a"
    (folder / "b").mkdir()
    assert absolute(Path("b/../a")) == folder.resolve() / "a"
    assert absolute(Path("/x")) == Path("/x")


def test_differences_name_what_was_and_what_is():
    ref = InputRef(stage="train-teacher", name="a", digest="1" * 64)
    old = MadeOf({"run": {"epochs": 3}, "seed": 0}, {"teacher": ref, "start": ref})
    other, remade = ref.model_copy(update={"name": "b"}), ref.model_copy(update={"digest": "2" * 64})
    assert difference(old, old) == ""
    new = MadeOf({"run": {"epochs": 1}, "seed": 0}, {"teacher": other, "start": remade})
    assert difference(old, new) == (
        "run.epochs (3 -> 1), start train-teacher/a (remade), teacher (train-teacher/a -> train-teacher/b)"
    )
    fewer = MadeOf({"run": {"epochs": 3}, "seed": 0}, {"teacher": ref, "backbone": ref})
    assert difference(old, fewer) == "backbone (none -> train-teacher/a), start (train-teacher/a -> none)"
    many = MadeOf({str(number): number for number in range(9)}, {})
    assert difference(MadeOf({}, {}), many).endswith(" and 6 more")
    assert difference(MadeOf({"tokens": ["x"] * 99}, {}), MadeOf({"tokens": []}, {})) == "tokens (changed)"
