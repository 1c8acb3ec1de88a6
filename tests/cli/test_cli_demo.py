"""crkd demo: its steps are what the commands it prints would do."""

import os
import re
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest

from crkd_cli.commands.demo import SHIPPED
from crkd_core.artifacts.manifest import Manifest
from crkd_core.artifacts.workspace import Artifact
from crkd_core.config.loading import load_config
from crkd_core.errors import TrainingError
from crkd_core.stages.evaluate import EvaluateRequest
from crkd_core.stages.simulate import SimulateRequest

STAGES = (
    "simulate", "prepare", "import_weights", "train_teacher", "extract_teacher", "distill", "evaluate", "visualize"
)  # fmt: skip
"""Modules of the stages, each with the function of its name."""


@pytest.fixture
def asked(monkeypatch):
    """Every stage only notes its request."""
    requests = []
    facts = {"model": "m", "split": "mini_val"}
    manifest = Manifest(stage="evaluate", name="m-val", created="", command="", facts=facts)
    artifact = Artifact(Path("artifact"), manifest)
    result = SimpleNamespace(
        artifact=artifact, root=Path("world"), version="v", scenes=1, samples=1, annotations=1, seconds=1.0,
        reused=False, samples_per_split={}, missing=[], epochs=1, steps=1, losses={}, items=1, views=1, bytes_total=1,
        bytes_per_item=1, metrics=None, split="mini_val", model="m", submission=Path("submission.json"),
        official_difference=None, analysis=None, results_file=None, teacher_mean_ap=None, verification=None,
        report=None, paths=(Path("one.png"),), index=Path("index.html"), tensors=1, parameters=1,
    )  # fmt: skip

    scored = SimpleNamespace(**{**vars(result), "samples": (1, 1)})

    def note(request, *_):
        requests.append(request)
        return scored if isinstance(request, EvaluateRequest) else result

    for stage in STAGES:
        monkeypatch.setattr(import_module(f"crkd_core.stages.{stage}"), stage, note)
    return requests


def _comparable(request) -> dict:
    # Without a trained teacher in the workspace the later commands resolve another configuration.
    # What `evaluate` shows beside the scores is not in the demo's table.
    ignored = {"processes"}
    if not isinstance(request, SimulateRequest):
        ignored |= {"config", "command", "analysis"}
    return {"request": type(request), **{name: value for name, value in vars(request).items() if name not in ignored}}


@pytest.fixture(autouse=True)
def threads(monkeypatch):
    """The demo chooses the number of threads for its process, which is the tests' here."""
    monkeypatch.setenv("OMP_NUM_THREADS", "")  # so that what was there comes back afterwards
    monkeypatch.delenv("OMP_NUM_THREADS")


def test_small_layers_get_one_thread_unless_more_are_asked_for(crkd, asked, monkeypatch):
    assert crkd("demo", "--quiet").code == 0
    assert os.environ["OMP_NUM_THREADS"] == "1"
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert crkd("demo", "--quiet").code == 0
    assert os.environ["OMP_NUM_THREADS"] == "2"


def test_every_step_is_the_command_it_prints(crkd, asked):
    result = crkd("demo", "--scenes", "2", "--samples", "3", "--set", "train.seed=5")
    assert result.code == 0
    demo = list(asked)
    asked.clear()
    commands = re.findall(r"^\[\d/9\] crkd (.*)$", result.err, flags=re.MULTILINE)
    assert len(commands) == 9
    for command in commands:
        assert crkd(*command.split()).code == 0
    assert [_comparable(request) for request in asked] == [_comparable(request) for request in demo]
    assert demo[2].config == asked[2].config == load_config("tiny", None, ["train.seed=5"])


def test_a_look_trains_nothing_and_every_step_is_the_command_it_prints(crkd, asked):
    result = crkd("demo", "--look", "--scenes", "3", "--samples", "2", "--seed", "7")
    assert result.code == 0
    demo = list(asked)
    asked.clear()
    commands = re.findall(r"^\[\d/6\] crkd (.*)$", result.err, flags=re.MULTILINE)
    assert len(commands) == 6
    assert not any("train" in command.split()[0] or command.startswith("distill") for command in commands)
    for command in commands:
        assert crkd(*command.split()).code == 0
    assert [_comparable(request) for request in asked] == [_comparable(request) for request in demo]
    assert [str(request.file) for request in demo[:2]] == list(SHIPPED.values())
    world = demo[2].config
    assert (world.train_scenes, world.val_scenes, world.samples_per_scene, world.seed) == (0, 3, 2, 7)
    assert (world.lidar_sweeps_per_key_frame, world.lead_in) == (9, True)


def test_a_look_refuses_what_only_training_needs(crkd, asked):
    for options in (("--preset", "tiny"), ("--set", "train.seed=1")):
        result = crkd("demo", "--look", *options)
        assert result.code == 2
        assert "--look trains nothing" in result.err
    assert asked == []


def test_both_worlds_have_folders_of_their_own(crkd, asked):
    for options, folder in (((), "crkd-demo"), (("--look",), "crkd-look")):
        asked.clear()
        assert crkd("demo", "--quiet", *options).code == 0
        (simulated,) = [request for request in asked if isinstance(request, SimulateRequest)]
        assert simulated.out.parent.name == folder


@pytest.mark.parametrize("options", [(), ("--look",)])
def test_the_pictures_come_last(crkd, asked, options):
    lines = crkd("demo", "--quiet", *options).out.splitlines()
    assert lines[-2:] == ["one.png", "index.html"]


def test_a_wrong_setting_is_found_before_anything_is_made(crkd, asked, tmp_path):
    assert crkd("demo", "--set", "train.epoch=5").code == 2
    assert asked == []
    assert not any(tmp_path.iterdir())


def test_a_failing_step_ends_the_demo(crkd, asked, monkeypatch):
    def fail(*_):
        raise TrainingError("the loss is not finite")

    monkeypatch.setattr("crkd_core.stages.train_teacher.train_teacher", fail)
    result = crkd("demo")
    assert result.code == 6
    assert len(asked) == 2
    assert result.err.endswith("error: the loss is not finite\n")
