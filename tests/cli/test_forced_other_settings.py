"""What a manifest records makes the same again, and a forced remake that makes something else says so first."""

import json
import shlex
import shutil

import pytest

from crkd_core.artifacts.manifest import read_manifest
from crkd_core.config.loading import dump_config
from tests.support.printed import paste, pasted


@pytest.fixture
def root(evaluated, tmp_path):
    return evaluated.copy(tmp_path).workspace.root


@pytest.fixture
def recipe(evaluated, tmp_path):
    """The configuration of the chain as a file of the user's, and options that name it from the user's folder."""
    path = tmp_path / "my recipe.yaml"
    path.write_text(dump_config(evaluated.config))
    return path, ("--preset", "tiny", "--config", path.name)


def command_of(root, label: str) -> str:
    return read_manifest(root / label).command


def test_a_remake_is_the_same_whatever_came_later(crkd, root, evaluated, recipe, tmp_path, monkeypatch):
    path, chosen = recipe
    at, two = ("-w", "workspace"), ("--set", "train.teacher.epochs=2")
    first = "v1.0-sim-mini"
    assert crkd("train-teacher", *chosen, *two, "--name", "special", *at, "-q").code == 0
    assert crkd("extract-teacher", "--teacher", "special", "--name", "its", *at, "-q").code == 0
    assert crkd("distill", "--losses", "respd", "--targets", "its", "--name", "taught", *at, "-q").code == 0
    labels = ("train-teacher/special", "extract-teacher/its", "distill/taught")
    before = {label: read_manifest(root / label).digest for label in labels}
    # Everything that those commands did not say changes.
    assert crkd("prepare", "--nuscenes", evaluated.nuscenes, "--name", "later", *at, "-q").code == 0
    assert crkd("train-teacher", *chosen, "--name", "later", "--set", "train.distill.epochs=1", *at, "-q").code == 0
    path.unlink()
    monkeypatch.chdir("/")
    for label in labels:
        command = command_of(root, label)
        assert f"--prepared {first}" in command
        assert f"--workspace {root}" in command
        assert "--quiet" not in command
        shutil.rmtree(root / label)
        ended = crkd(*pasted(f"{command} --force", tmp_path))
        assert ended.code == 0, ended.err
        assert "warning: " not in ended.err.replace("warning: the teacher of", "")
        assert read_manifest(root / label).digest == before[label]


def test_presets_and_settings_are_recorded_as_given(crkd, root, evaluated):
    options = ("--preset", "tiny", "--set", "train.teacher.epochs=1", "--set", "data.grid.x_range_m=[-36, 36]")
    others = ("--set", "data.grid.y_range_m=[-36, 36]", "--set", "train.seed=3", "--device", "cpu")
    assert crkd("train-teacher", *options, *others, "--name", "t", "--no-resume", "--force", "-w", root).code == 0
    assert shlex.split(command_of(root, "train-teacher/t")) == [
        *("crkd", "train-teacher", "--name", "t", *options, *others),
        *("--init", "none", "--prepared", "v1.0-sim-mini", "--backbone", "none", "--workspace", str(root)),
    ]


def test_the_live_teacher_is_named(crkd, root, tmp_path):
    online = ("distill", "--teacher", "online", "--losses", "respd", "--name", "live", "-w", root)
    assert crkd(*online).code == 0
    assert "--teacher online:teacher" in command_of(root, "distill/live")
    before = read_manifest(root / "distill/live").digest
    assert crkd("train-teacher", "--name", "later", "-w", root).code == 0
    shutil.rmtree(root / "distill" / "live")
    paste(crkd, tmp_path, command_of(root, "distill/plain") + "")
    assert crkd(*online[:2], "online:teacher", *online[3:]).code == 0
    assert read_manifest(root / "distill/live").digest == before
    refused = crkd("distill", "--teacher", "offline", "-w", root)
    assert refused.code == 2
    assert "--teacher expects cache, online or online:RUN, found 'offline'" in refused.err


def test_several_processes_record_the_same_command(crkd, root, start_python):
    options = ("--processes", "2", "--name", "two", "--set", "train.seed=4", "-w", str(root))
    process = start_python("-m", "crkd_cli", "train-teacher", *options)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    command = command_of(root, "train-teacher/two")
    assert "--processes 2" in command
    assert read_manifest(root / "train-teacher" / "two").settings["processes"] == 2


def test_each_of_several_evaluations_records_its_own(crkd, root):
    assert crkd("evaluate", "--all", "--breakdown", "range", "--json", "--workers", "0", "-w", root).code == 0
    for name in ("teacher", "plain", "crkd"):
        words = shlex.split(command_of(root, f"evaluate/{name}-val"))
        assert words.count("--model") == 1
        assert not {"--all", "--json", "--breakdown"} & set(words)
    nms = ("--set", "student.head.nms.circle_classes={car: 1.0}", "--set", "student.head.nms.score_threshold=0.3")
    assert crkd("evaluate", "--model", "crkd", *nms, "--workers", "0", "-w", root).code == 0
    before = read_manifest(root / "evaluate/crkd-val")
    shutil.rmtree(root / "evaluate" / "crkd-val")
    assert crkd(*pasted(before.command, root)).code == 0
    assert read_manifest(root / "evaluate/crkd-val").fingerprint == before.fingerprint


RATE = ("--set", "train.teacher.learning_rate=0.002")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ("train-teacher", "--name", "teacher", *RATE),
            "train-teacher/teacher is replaced by one with other settings or inputs: "
            "run.learning_rate (0.001 -> 0.002)",
        ),
        (
            ("extract-teacher", "--teacher", "b", "--name", "targets"),
            "extract-teacher/targets is replaced by one with other settings or inputs: "
            "teacher (train-teacher/teacher -> train-teacher/b)",
        ),
        (
            ("distill", "--losses", "none", "--name", "plain", "--init", "crkd"),
            "start (none -> distill/crkd)",
        ),
        (("prepare", "--radar-sweeps", "2", "--nuscenes", "WORLD"), "radar_sweeps (6 -> 2)"),
        (("train-teacher", "--name", "teacher"), None),
        (("evaluate", "--model", "crkd", "--workers", "0"), None),
    ],
)
def test_a_forced_remake_says_what_is_different(crkd, root, evaluated, arguments, says):
    if "b" in arguments:
        assert crkd("train-teacher", "--name", "b", *RATE, "-w", root).code == 0
    arguments = [evaluated.nuscenes if word == "WORLD" else word for word in arguments]
    ended = crkd(*arguments, "--force", "--quiet", "-w", root)
    assert ended.code == 0, ended.err
    told = [line for line in ended.err.splitlines() if "is replaced" in line]
    if says is None:
        assert told == []
    else:
        assert len(told) == 1
        assert told[0].startswith("warning: ")
        assert says in told[0]
        # Before anything was made.
        assert ended.err.splitlines()[0] == told[0]


def test_a_discarded_unfinished_run_is_told_of(crkd, root):
    partial = root / "train-teacher" / "half.partial"
    partial.mkdir()
    shutil.copy(root / "train-teacher" / "teacher" / "manifest.json", root / "kept.json")
    manifest = json.loads((root / "kept.json").read_text())
    request = {"fingerprint": "0" * 64, "command": "crkd train-teacher --name half", "settings": manifest["settings"]}
    (partial / "request.json").write_text(json.dumps({**request, "inputs": manifest["inputs"]}))
    ended = crkd("train-teacher", "--name", "half", *RATE, "--force", "-w", root)
    assert ended.code == 0
    assert "train-teacher/half is replaced by one with other settings or inputs: run.learning_rate" in ended.err
