"""A stage killed before any of its steps in the file system: the same command ends as one that was never killed."""

import shutil
from pathlib import Path

import pytest

from crkd_core.artifacts.atomic import write_text
from crkd_core.artifacts.journal import claim
from crkd_core.artifacts.status import workspace_status
from crkd_core.artifacts.workspace import Workspace
from crkd_core.artifacts.writer import ArtifactRequest
from tests.support.kills import run_until, run_watched, tree

CHECKPOINT = "checkpoint.safetensors"


class Stage:
    """A small training run: parts, a log that grows, a checkpoint that is replaced, and the result."""

    def __init__(self, folder: Path, value: str = "1", force: bool = False, replace: bool = False) -> None:
        self.root = folder / "workspace"
        self.trained = folder / "trained.txt"
        self._value, self._force, self._replace = value, force, replace

    def __call__(self) -> None:
        request = ArtifactRequest(
            "train-teacher",
            "run",
            command="crkd train-teacher --name run",
            settings={"value": self._value},
            force=self._force,
            replace=self._replace,
            irreplaceable=frozenset({CHECKPOINT}),
        )
        with Workspace(self.root).write(request) as writer:
            if writer.finished is not None:
                return
            if not (writer.path / CHECKPOINT).exists():
                with self.trained.open("a") as log:
                    log.write("from the start\n")
                write_text(writer.path / CHECKPOINT, "first")
            for name in ("a.txt", "logs/b.txt"):
                if not (writer.path / name).exists():
                    write_text(writer.path / name, f"{name} {self._value}")
            claim(writer.path / "logs" / "events")
            (writer.path / "logs" / "events").write_text("times")
            write_text(writer.path / CHECKPOINT, "second")
            write_text(writer.path / "model.txt", self._value)
            writer.finish({"rows": 2}, scratch=(CHECKPOINT,))

    def times_trained(self) -> int:
        return len(self.trained.read_text().splitlines()) if self.trained.exists() else 0


@pytest.fixture(autouse=True)
def fast_disk(monkeypatch):
    """A killed process loses nothing that it has handed to the system."""
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


def expected_tree(folder: Path, value: str) -> dict:
    stage = Stage(folder / value, value)
    stage()
    return tree(stage.root)


@pytest.fixture
def expected(tmp_path, fast_disk):
    return expected_tree(tmp_path / "expected", "1")


def test_a_finished_run_holds_nothing_but_its_files(expected):
    folder = "train-teacher/run"
    names = ["a.txt", "logs", "logs/b.txt", "logs/events", "manifest.json", "model.txt"]
    assert list(expected) == ["train-teacher", folder, *(f"{folder}/{name}" for name in names)]
    assert expected[f"{folder}/manifest.json"]["files"].keys() == {"a.txt", "logs/b.txt", "logs/events", "model.txt"}


def test_a_first_run(expected, tmp_path):
    for step in range(1, 1000):
        stage = Stage(tmp_path / str(step))
        stage.root.mkdir(parents=True)
        ended = run_until(step, stage, stage.root)
        had_checkpoint = bool(list(stage.root.rglob(CHECKPOINT)))
        trained = stage.times_trained()
        workspace_status(Workspace(stage.root))
        stage()
        assert tree(stage.root) == expected, f"killed before step {step}"
        assert stage.times_trained() == trained or not had_checkpoint, f"started anew after step {step}"
        if ended:
            break
    assert step > 30


def test_a_run_that_is_killed_again_while_it_continues(expected, tmp_path):
    tried = 0
    for step in range(2, 1000, 7):
        first = Stage(tmp_path / str(step))
        first.root.mkdir(parents=True)
        if run_until(step, first, first.root):
            break
        for again in range(1, 1000, 4):
            stage = Stage(tmp_path / f"{step}-{again}")
            shutil.copytree(first.root, stage.root)
            tried += 1
            ended = run_until(again, stage, stage.root)
            stage()
            assert tree(stage.root) == expected, f"killed before step {step} and then before step {again}"
            if ended:
                break
    assert tried > 40


@pytest.mark.parametrize("option", ["force", "replace"])
@pytest.mark.parametrize("value", ["1", "2"])
def test_a_remake(tmp_path, option, value):
    if (option, value) == ("replace", "1"):
        pytest.skip("what is there already is not made again")
    old, expected = (expected_tree(tmp_path / "expected", text) for text in ("1", value))
    for step in range(1, 1000):
        first, stage = Stage(tmp_path / str(step)), Stage(tmp_path / str(step), value, **{option: True})
        first()
        ended = run_until(step, stage, stage.root)
        is_finished = any(stage.root.rglob("manifest.json")) and len(list(stage.root.rglob("model.txt"))) > 1
        workspace = Workspace(stage.root)
        seen = workspace.get("train-teacher", "run")
        assert seen is not None
        assert seen.file("model.txt").read_text() in ("1", value)
        assert workspace_status(workspace).artifacts[0].state == "finished"
        trained, had_checkpoint = stage.times_trained(), bool(list(stage.root.rglob(CHECKPOINT)))
        if not ended:
            stage()
        assert tree(stage.root) == expected, f"killed before step {step}"
        if had_checkpoint or is_finished:
            assert stage.times_trained() == trained, f"started anew after step {step}"
        if ended:
            break
    assert step > 40
    assert old


def test_a_remake_that_has_finished_is_not_mistaken_for_a_stopped_one(tmp_path):
    Stage(tmp_path)()
    for times in (2, 3, 4):
        Stage(tmp_path, force=True)()
        assert Stage(tmp_path).times_trained() == times


def test_readers_between_all_steps_of_a_remake(tmp_path):
    Stage(tmp_path)()
    stage, workspace = Stage(tmp_path, "2", force=True), Workspace(tmp_path / "workspace")

    def look() -> None:
        artifact = workspace.find("train-teacher", needed_for="a test", make="crkd train-teacher")
        assert artifact.file("model.txt").read_text() in ("1", "2")
        assert len(workspace_status(workspace).artifacts) in (1, 2)
        assert workspace.artifacts("train-teacher")

    run_watched(stage, look, stage.root)
    assert tree(stage.root) == expected_tree(tmp_path / "expected", "2")
