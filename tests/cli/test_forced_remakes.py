"""``--force`` that was stopped: the same command continues it, and begins anew once it has finished."""

import pytest

from tests.support.kills import tree


@pytest.fixture
def train(crkd, evaluated, tmp_path):
    """``train(*options)`` runs the teacher's training of the chain with options, in the workspace ``train.root``."""
    root = evaluated.copy(tmp_path).workspace.root

    def run(*options):
        return crkd("train-teacher", *options, "-w", root)

    run.root = root
    return run


OTHER = ("--set", "train.teacher.learning_rate=0.002")


@pytest.mark.parametrize("options", [(), OTHER])
def test_the_same_command_continues_a_stopped_remake(train, interrupt, options):
    folder = train.root / "train-teacher" / "teacher"
    before = tree(folder)
    interrupt({"file": "model"})
    assert train(*options, "--force").code == 130
    assert tree(folder) == before
    ended = train(*options, "--force")
    assert ended.code == 0
    assert "continuing teacher at step 2 of 2" in ended.err
    weights = {path: contents for path, contents in tree(folder).items() if path == "model.safetensors"}
    assert (weights.items() <= before.items()) == (options == ())
    # It has finished: the same command now means another one.
    again = train(*options, "--force")
    assert again.code == 0
    assert "continuing" not in again.err
    assert not folder.with_name("teacher.partial").exists()


def test_without_force_a_stopped_remake_is_explained(train, interrupt, crkd):
    interrupt({"file": "model"})
    assert train(*OTHER, "--force").code == 130
    ended = train(*OTHER)
    assert ended.code == 4
    said = " ".join(ended.err.split())
    assert "its remake with yours is unfinished: continue it with --force" in said
    shown = crkd("status", "--json", "-w", train.root).out
    assert "crkd train-teacher " in shown
    assert "--force" in shown
    same = train()
    assert same.code == 0
    said = " ".join(same.err.split())
    assert "a stopped remake of train-teacher/teacher is in" in said
    assert "continue it with: crkd train-teacher " in said


@pytest.mark.parametrize("options", [("--force", "--no-resume"), ("--force", *OTHER)])
def test_what_discards_a_stopped_remake(train, interrupt, options):
    interrupt({"file": "model"})
    assert train("--force").code == 130
    ended = train(*options)
    assert ended.code == 0
    assert "continuing" not in ended.err
    # Who says --no-resume has said so.
    is_told = "teacher.partial (crkd train-teacher " in ended.err and ") is discarded" in ended.err
    assert is_told == ("--no-resume" not in options)
    assert not (train.root / "train-teacher" / "teacher.partial").exists()


def test_force_begins_anew_what_was_stopped_without_it(train, interrupt):
    interrupt({"file": "model"})
    assert train("--name", "n").code == 130
    ended = train("--name", "n", "--force")
    assert ended.code == 0
    assert "continuing" not in ended.err


def test_a_remake_of_something_that_was_remade_meanwhile_begins_anew(train, interrupt):
    folder = train.root / "train-teacher" / "teacher"
    interrupt({"file": "model"})
    assert train("--force").code == 130
    partial = folder.with_name("teacher.partial")
    partial.rename(folder.with_name("kept"))
    assert train(*OTHER, "--force").code == 0
    folder.with_name("kept").rename(partial)
    ended = train("--force")
    assert ended.code == 0
    assert "continuing" not in ended.err
