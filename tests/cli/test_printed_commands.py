"""Every command that is printed works when it is pasted, and what it was printed for is mended."""

import json
import re
import shutil

import pytest

from crkd_core.artifacts.manifest import read_manifest
from tests.support.printed import follow, paste, printed_commands

FILES = {
    "prepare/v1.0-sim-mini": "annotations.parquet",
    "train-teacher/teacher": "model.safetensors",
    "extract-teacher/targets": "shard-00000.safetensors",
    "distill/plain": "model.safetensors",
    "distill/crkd": "config.yaml",
    "evaluate/crkd-val": "detections.parquet",
}
# A command that needs it.
READERS = {
    "prepare/v1.0-sim-mini": ("train-teacher", "--name", "reader"),
    "train-teacher/teacher": ("extract-teacher", "--name", "reader", "--preset", "tiny"),
    "extract-teacher/targets": ("distill", "--name", "reader"),
    "distill/plain": ("distill", "--losses", "none", "--init", "plain", "--name", "reader"),
    "distill/crkd": ("evaluate", "--model", "crkd", "--split", "train"),
    "evaluate/crkd-val": ("visualize", "--samples", "2"),
}


@pytest.fixture
def root(evaluated, tmp_path):
    """A workspace with all six stages, which was moved since it was made."""
    return evaluated.copy(tmp_path / "my folder").workspace.root


def digests(root) -> dict[str, str]:
    return {label: read_manifest(root / label).digest for label in FILES}


def status(crkd, root) -> tuple[str | None, str]:
    following = json.loads(crkd("status", "--json", "-w", root).out)["next"]
    return following["command"], following["reason"]


def follow_status(crkd, root, folder, **places) -> list[str]:
    """Runs what status recommends until it recommends nothing."""
    done: list[str] = []
    while (command := status(crkd, root)[0]) is not None:
        assert command not in done, f"{command} changed nothing"
        assert printed_commands(crkd("status", "-w", root).out.splitlines()[-1]) == [command]
        done.append(paste(crkd, folder, command, **places))
    assert "all six stages are done" in status(crkd, root)[1]
    return done


@pytest.mark.parametrize("label", FILES)
def test_damage_is_mended_by_what_the_reader_says(crkd, root, tmp_path, label):
    before = digests(root)
    (root / label / FILES[label]).unlink()
    reader = (*READERS[label], "-w", root)
    if label == "train-teacher/teacher":
        reader = ("extract-teacher", "--name", "reader", "--verify", "0", "-w", root)
    pasted = follow(crkd, tmp_path, [*reader])
    assert len(pasted) == 1
    assert pasted[0].count("--force") == 1
    # The very same again: nothing that was made from it became stale.
    assert digests(root)[label] == before[label]


@pytest.mark.parametrize("label", ["train-teacher/teacher", "evaluate/crkd-val"])
def test_damage_is_mended_by_what_status_says(crkd, root, tmp_path, label):
    before = digests(root)
    (root / label / FILES[label]).unlink()
    assert len(follow_status(crkd, root, tmp_path)) == 1
    assert digests(root) == before


def test_a_damaged_artifact_of_damaged_inputs_begins_at_the_root(crkd, root, tmp_path):
    for label in ("prepare/v1.0-sim-mini", "train-teacher/teacher", "extract-teacher/targets"):
        (root / label / FILES[label]).unlink()
    ended = crkd("distill", "--name", "reader", "-w", root)
    assert "first make prepare/v1.0-sim-mini, which it was made from, again with: crkd prepare " in ended.err
    pasted = follow(crkd, tmp_path, ["distill", "--name", "reader", "-w", root])
    assert [command.split()[1] for command in pasted] == ["prepare", "train-teacher", "extract-teacher"]


def test_what_became_stale_is_made_again_root_first(crkd, root, evaluated, tmp_path):
    assert crkd("prepare", "--nuscenes", evaluated.nuscenes, "--radar-sweeps", "4", "--force", "-w", root).code == 0
    refused = crkd("evaluate", "--model", "crkd", "-w", root)
    assert refused.code == 4
    assert "first make distill/plain, which it was made from, again with: crkd distill" in refused.err
    pasted = follow_status(crkd, root, tmp_path)
    stages = [command.split()[1] for command in pasted]
    assert stages == ["train-teacher", "extract-teacher", "distill", "distill", "evaluate", "visualize"]
    assert "--losses none" in pasted[2]
    manifest = read_manifest(root / "distill" / "crkd")
    assert manifest.inputs["start"].digest == read_manifest(root / "distill" / "plain").digest


def test_targets_follow_a_teacher_that_was_trained_on_another_grid(crkd, root, tmp_path):
    grid = ("--set", "data.grid.x_range_m=[-24, 24]", "--set", "data.grid.y_range_m=[-24, 24]")
    # As a user's, who named no configuration after the teacher's.
    assert crkd("extract-teacher", "--name", "targets", "-w", root, "--force").code == 0
    assert crkd("distill", "--name", "crkd", "-w", root, "--force").code == 0
    assert crkd("train-teacher", "--name", "teacher", *grid, "--force", "-w", root).code == 0
    pasted = follow_status(crkd, root, tmp_path)
    assert [command.split()[1] for command in pasted] == ["extract-teacher", "distill", "evaluate", "visualize"]
    for label in ("extract-teacher/targets", "distill/crkd"):
        settings = read_manifest(root / label).settings
        assert settings.get("grid", settings.get("data", {}).get("grid"))["x_range_m"] == [-24.0, 24.0]


@pytest.mark.parametrize("first", ["extract-teacher", "evaluate"])
def test_the_chain_is_continued_from_any_stage(crkd, root, tmp_path, first):
    stages = ["extract-teacher", "distill", "evaluate", "visualize"]
    later = stages[stages.index(first) :]
    for stage in later:
        shutil.rmtree(root / stage)
    assert [command.split()[1] for command in follow_status(crkd, root, tmp_path)] == later


def test_the_chain_keeps_to_its_own_data_and_configuration(crkd, root, evaluated, tmp_path):
    """Later prepared data and a later teacher of another configuration do not draw the next command away."""
    prepare = ("prepare", "--nuscenes", evaluated.nuscenes, "--radar-sweeps", "2", "--lidar-sweeps", "2")
    assert crkd(*prepare, "--name", "newer", "-w", root).code == 0
    for stage in ("distill", "evaluate", "visualize"):
        shutil.rmtree(root / stage)
    command = status(crkd, root)[0]
    assert "--prepared v1.0-sim-mini" in command
    assert [text.split()[1] for text in follow_status(crkd, root, tmp_path)] == ["distill", "evaluate", "visualize"]


def test_an_evaluation_of_another_split_is_drawn(crkd, root, tmp_path):
    shutil.rmtree(root / "evaluate")
    shutil.rmtree(root / "visualize")
    assert crkd("evaluate", "--split", "train", "-w", root).code == 0
    assert "--split train" in status(crkd, root)[0]
    follow_status(crkd, root, tmp_path)


def test_a_student_that_shares_its_name_with_a_teacher_is_evaluated(crkd, root, tmp_path):
    assert crkd("distill", "--name", "teacher", "--set", "train.seed=1", "-w", root).code == 0
    assert crkd("distill", "--losses", "none", "--name", "later", "-w", root).code == 0
    assert "--model distill/teacher" in status(crkd, root)[0]
    follow_status(crkd, root, tmp_path)


def test_a_deleted_input_is_made_first(crkd, root, tmp_path):
    shutil.rmtree(root / "train-teacher" / "teacher")
    (root / "extract-teacher" / "targets" / FILES["extract-teacher/targets"]).unlink()
    assert status(crkd, root)[0].startswith("crkd train-teacher")
    follow_status(crkd, root, tmp_path)


@pytest.mark.parametrize(
    ("arguments", "places"),
    [
        (("train-teacher", "--name", "x", "--set", "data.lidar.sweeps=12"), {}),
        (("distill", "--losses", "none", "--name", "x", "--set", "data.radar.sweeps=7"), {}),
        (("extract-teacher", "--teacher", "x", "--name", "x"), {}),
        (("extract-teacher", "--name", "x", "--set", "data.grid.x_range_m=[-24, 24]"), {"NEW": "wide"}),
        (("distill", "--name", "x", "--targets", "x"), {}),
        (("distill", "--name", "x", "--init", "y"), {}),
        (("distill", "--name", "x", "--set", "distill.msfd.mask=plain"), {}),
        (("evaluate", "--model", "x"), {}),
        (("visualize", "--split", "train"), {}),
        (("visualize", "--model", "plain"), {}),
        (("visualize", "--missed", "x"), {}),
        (("train-teacher", "--name", "x", "--prepared", "x"), {}),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else None,
)
def test_what_is_missing_or_does_not_fit_is_made(crkd, root, evaluated, tmp_path, arguments, places):
    if arguments == ("visualize", "--missed", "x"):
        ended = crkd(*arguments, "-w", root)
        assert printed_commands(ended.err.splitlines()[-1])[0].startswith("crkd compare MODEL MODEL")
        return
    if arguments == ("evaluate", "--model", "x"):
        ended = crkd(*arguments, "-w", root)
        paste(crkd, tmp_path, printed_commands(ended.err.splitlines()[-1])[0])
        return
    pasted = follow(crkd, tmp_path, [*arguments, "-w", root], DIR=f"'{evaluated.nuscenes}'", **places)
    assert pasted


def test_a_stopped_run_is_continued_by_what_it_says(crkd, root, tmp_path, interrupt, monkeypatch):
    monkeypatch.setenv("CRKD_WORKSPACE", str(root))
    interrupt({"file": "model"})
    stopped = crkd("train-teacher", "--name", "half", "--set", "train.teacher.learning_rate=0.002", "--no-resume")
    assert stopped.code == 130
    monkeypatch.delenv("CRKD_WORKSPACE")
    (said,) = printed_commands(stopped.err.splitlines()[-1])
    refused = crkd("extract-teacher", "--teacher", "half", "--name", "x", "-w", root)
    (recorded,) = printed_commands(refused.err.splitlines()[-1])
    assert "train-teacher/half is unfinished; continue it with: " in refused.err
    shutil.copytree(root, tmp_path / "copy")
    for command in (said, recorded):
        shutil.rmtree(root)
        shutil.copytree(tmp_path / "copy", root)
        continued = crkd(*command_words(command, tmp_path))
        assert continued.code == 0, continued.err
        assert "continuing half at step 2 of 2" in continued.err
        assert read_manifest(root / "train-teacher" / "half").settings["run"]["learning_rate"] == 0.002


def command_words(command, folder):
    from tests.support.printed import pasted

    return pasted(command, folder)


def test_an_unfinished_run_whose_input_was_remade_begins_anew(crkd, root, evaluated, tmp_path, interrupt):
    shutil.rmtree(root / "visualize")
    shutil.rmtree(root / "evaluate")
    shutil.rmtree(root / "distill" / "crkd")
    interrupt({"file": "model"})
    assert crkd("distill", "-w", root).code == 130
    assert crkd("distill", "--losses", "none", "--name", "plain", "--force", "--seed", "1", "-w", root).code == 2
    other = ("--set", "train.student.learning_rate=0.002")
    assert crkd("distill", "--losses", "none", "--name", "plain", *other, "--force", "-w", root).code == 0
    pasted = follow_status(crkd, root, tmp_path)
    assert [command.split()[1] for command in pasted] == ["distill", "evaluate", "visualize"]


def test_the_workspace_is_named_where_a_pasted_command_would_not_find_it(crkd, evaluated, tmp_path, monkeypatch):
    root = tmp_path / "crkd-workspace"
    shutil.copytree(evaluated.workspace.root, root)
    (root / "distill" / "crkd" / "model.safetensors").unlink()
    assert "--workspace" not in crkd("evaluate", "--split", "train").err
    monkeypatch.setenv("CRKD_WORKSPACE", "crkd-workspace")
    assert f"--workspace {root} --force" in crkd("evaluate", "--split", "train").err
    monkeypatch.delenv("CRKD_WORKSPACE")
    relative = crkd("evaluate", "--split", "train", "-w", "../" + tmp_path.name + "/crkd-workspace")
    monkeypatch.chdir("/")
    command = printed_commands(relative.err)[0]
    assert re.search(rf" --config '?{root}/configs/", command)
    paste(crkd, "/", command if "--workspace" in command else f"{command} --workspace {root}")


def test_simulate_and_compare_say_what_comes_next(crkd, root, evaluated, tmp_path):
    out = tmp_path / "a world" / "of 'mine'"
    arguments = ("--size", "tiny", "--scenes", 1, "--val-scenes", 1, "--samples", 2)
    simulated = crkd("simulate", "--out", out, *arguments)
    command = re.search(r"^next +(crkd .*)$", simulated.out, re.MULTILINE).group(1)
    paste(crkd, tmp_path, f"{command} --workspace other")
    # Everything is found by a model whose boxes are the annotations, nothing by one that has none.
    compared = crkd("compare", "plain", "crkd", "--score", "0", "-w", root)
    assert compared.code == 0
    for shown in printed_commands(compared.out):
        paste(crkd, tmp_path, shown)
