"""Configurations, names and workspaces that cannot be, and stages without their input, through the real commands."""

import shutil

import pytest

from crkd_core.artifacts.workspace import locked
from crkd_core.config.loading import dump_config
from tests.support.chain import CHAIN_OVERRIDES

OVERRIDES = [word for override in CHAIN_OVERRIDES for word in ("--set", override)]
GRID = "data.grid.x_range_m=[-42, 42]"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.seeed=1", ("'train.seeed'", "did you mean 'seed'?")),
        ("train.teacher.epochs=many", ("'train.teacher.epochs'", "expected a valid integer", "found 'many'")),
        (
            "train.teacher.batch_size=0",
            ("'train.teacher.batch_size'", "expected greater than or equal to 1", "found 0"),
        ),
        ("train.teacher.learning_rate=nan", ("'train.teacher.learning_rate'", "expected a finite number, found 'nan'")),
        ("data=3", ("'data'", "expected a section of keys", "found 3")),
        ("data.grid.x_range_m=5", ("'data.grid.x_range_m'", "expected a list", "found 5")),
        ("data.grid.cell_m=0.7", ("data.grid", "whole cells of 0.7 m", "found")),
        ("teacher.modalities=[camera, sonar]", ("'teacher.modalities.1'", "'camera', 'lidar' or 'radar'", "'sonar'")),
        ("teacher.modalities=[]", ("teacher: modalities", "found none")),
        ("teacher.camera.backbone={kind: vgg}", ("'teacher.camera.backbone.kind'", "'resnet'", "found 'vgg'")),
        ("train.seed", ("--set", "section.field=value", "found 'train.seed'")),
        ("train.seed=[", ("--set train.seed", "not valid YAML")),
    ],
)
def test_a_wrong_value(refused, override, words):
    refused(2, words, "train-teacher", "--preset", "tiny", "--set", override)


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        (b"train: {teacher: {epochs: many}}", ("'train.teacher.epochs'", "found 'many'")),
        (b"- 1\n", ("mine.yaml must hold sections", "found list")),
        (b"\xff\xfe", ("mine.yaml is not UTF-8 text",)),
        (b"a:\n\t- b", ("mine.yaml is not valid YAML at line 2",)),
        (None, ("mine.yaml cannot be read",)),
    ],
)
def test_a_wrong_config_file(refused, tmp_path, contents, words):
    if contents is not None:
        (tmp_path / "mine.yaml").write_bytes(contents)
    refused(2, words, "distill", "--config", "mine.yaml")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (
            ("train-teacher", "--set", "data.lidar.sweeps=20"),
            2,
            ("prepared with 10", "crkd prepare --nuscenes", "--lidar-sweeps 20"),
        ),
        (
            ("distill", "--losses", "none", "--set", "data.radar.sweeps=20"),
            2,
            ("asks for 20 sweeps", "prepared with 6", "crkd prepare --nuscenes", "--radar-sweeps 20", "--force"),
        ),
        (("extract-teacher", "--set", GRID), 4, ("data.grid.x_range_m", "crkd train-teacher --name NEW")),
        (("extract-teacher", "--preset", "paper-r50"), 4, ("data.grid", "crkd train-teacher --name NEW")),
        (("distill", "--set", GRID), 4, ("extract-teacher/targets", "grid", "(--config ")),
        (("distill", "--preset", "paper-r50"), 4, ("extract-teacher/targets", "grid", "(--config ")),
        (
            ("distill", "--teacher", "online", "--set", GRID),
            4,
            (
                "train-teacher/teacher has another BEV grid: expected x_range_m",
                "found",
                "crkd train-teacher --name NEW",
            ),
        ),
        (
            ("distill", "--losses", "none", "--init", "plain", "--set", "student.decoder.channels=[32, 64, 96]"),
            4,
            ("distill/plain", "another detector", "31 tensors of another shape", "--init"),
        ),
    ],
)
def test_a_config_that_does_not_fit_what_is_there(refused, chain, tmp_path, arguments, code, words):
    workspace = chain.copy(tmp_path).workspace
    refused(code, words, *arguments, "--name", "n", "-w", workspace.root)


def test_prepared_data_without_radar(crkd, refused, chain, tmp_path):
    world, workspace = chain.copy_world(tmp_path), chain.copy(tmp_path).workspace
    for folder in (world / "samples", world / "sweeps"):
        for channel in folder.glob("RADAR_*"):
            shutil.rmtree(channel)
    missing = ("--allow-missing", "radar,sweeps")
    assert crkd("prepare", "--nuscenes", world, *missing, "--name", "deaf", "-w", workspace.root).code == 0
    words = ("needs camera, radar", "prepare/deaf has camera, lidar only")
    refused(2, words, "distill", "--losses", "none", "--prepared", "deaf", "--name", "n", "-w", workspace.root)


def test_targets_of_another_teacher(crkd, refused, chain, tmp_path):
    workspace = chain.copy(tmp_path).workspace
    (tmp_path / "other.yaml").write_text(dump_config(chain.config))
    other = ("--config", "other.yaml", "--set", "train.seed=1", "--set", "train.teacher.epochs=1", "--force")
    assert crkd("train-teacher", *other, "-w", workspace.root).code == 0
    words = ("extract-teacher/targets is stale", "teacher train-teacher/teacher has been remade", "--force")
    refused(4, words, "distill", "--name", "n", "-w", workspace.root)


def test_a_run_of_other_settings_is_in_the_way(crkd, refused, chain, tmp_path):
    workspace = chain.copy(tmp_path).workspace
    words = ("train-teacher/teacher exists", "train.seed (0 -> 4)", "--name", "--force")
    refused(4, words, "train-teacher", "--set", "train.seed=4", "-w", workspace.root)
    world = chain.copy_world(tmp_path)
    (world / "v1.0-sim-mini" / "log.json").open("a").write("\n")
    said = refused(4, ("tables_sha256 (changed)", "--force"), "prepare", "--nuscenes", world, "-w", workspace.root)
    assert "->" not in said


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (
            ("train-teacher", "--prepared", "x"),
            4,
            ("prepare/x", "has only prepare/v1.0-sim-mini", "crkd prepare --nuscenes DIR --name x"),
        ),
        (
            ("extract-teacher", "--teacher", "x"),
            4,
            ("train-teacher/x", "has only train-teacher/teacher", "crkd train-teacher --name x"),
        ),
        (("distill", "--targets", "x"), 4, ("extract-teacher/x", "crkd extract-teacher --name x")),
        (("distill", "--init", "x"), 4, ("distill/x", "crkd distill --losses none --name x")),
        (("evaluate", "--model", "x"), 4, ("'x'", "there is train-teacher/teacher, distill/plain, distill/crkd")),
        (("evaluate", "--model", "../x"), 4, ("'../x'",)),
        (("evaluate", "--split", "test"), 2, ("no split 'test'", "mini_train, mini_val")),
        (
            ("visualize", "--model", "plain"),
            4,
            ("detections of plain on val", "crkd evaluate --model plain --split val"),
        ),
        (("visualize", "--split", "train"), 4, ("detections on train", "make them with: crkd evaluate --split train")),
        (("visualize", "--token", "abc"), 2, ("'abc' is no sample of mini_val", "--token")),
        (("train-teacher", "--device", "tpu"), 2, ("'tpu'", "expected auto, cpu, cuda")),
    ],
)
def test_an_unknown_name(refused, evaluated, tmp_path, arguments, code, words):
    workspace = evaluated.copy(tmp_path).workspace
    refused(code, words, *arguments, "-w", workspace.root)


@pytest.mark.parametrize("name", ["a/b", "..", ".hidden", "a b", "line\nbreak", "-x", "*", "ü", "x.partial", "x" * 101])
def test_a_name_that_is_no_name(refused, chain, tmp_path, name):
    words = ("cannot name a run", "expected at most 100 letters")
    refused(2, words, "prepare", "--nuscenes", chain.nuscenes, f"--name={name}")
    refused(2, words, "train-teacher", f"--name={name}", "-w", chain.copy(tmp_path).workspace.root)


COMMANDS = {
    "prepare": "",
    "train-teacher": "crkd prepare --nuscenes DIR",
    "extract-teacher": "crkd train-teacher",
    "distill": "crkd extract-teacher",
    "evaluate": "crkd train-teacher",
    "visualize": "crkd evaluate",
    "status": "",
}


def command_of(stage, chain):
    return (stage, "--nuscenes", chain.nuscenes) if stage == "prepare" else (stage,)


@pytest.mark.parametrize("stage", [stage for stage, make in COMMANDS.items() if make])
def test_a_stage_before_its_input_exists(refused, stage):
    refused(4, (f"crkd {stage} needs", "crkd-workspace has none", COMMANDS[stage]), stage)


@pytest.mark.parametrize("stage", COMMANDS)
def test_a_workspace_that_is_a_file(refused, chain, tmp_path, stage):
    (tmp_path / "file").write_text("mine")
    words = (f"{tmp_path / 'file'} is not a folder", "--workspace")
    for workspace in (tmp_path / "file", tmp_path / "file" / "below"):
        refused(2, words, *command_of(stage, chain), "-w", workspace)


def test_a_simulation_where_something_else_is(refused, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years")
    refused(2, ("is not a simulated data set", "--force"), "simulate", "--size", "tiny", "--out", "mine")
    refused(5, ("thesis.tex", "could not be written"), "simulate", "--size", "tiny", "--out", "mine/thesis.tex/world")


@pytest.mark.parametrize("stage", ["train-teacher", "extract-teacher", "distill"])
def test_another_process_writes_the_run(refused, chain, tmp_path, stage):
    workspace = chain.copy(tmp_path).workspace
    partial = workspace.root / stage / "n.partial"
    partial.mkdir()
    with locked(partial):
        words = ("another process is writing", str(partial), "--name")
        refused(2, words, stage, "--name", "n", "-w", workspace.root)
        refused(2, words, stage, "--name", "n", "--force", "-w", workspace.root)


def test_another_process_writes_the_simulated_world(refused, tmp_path):
    partial = tmp_path / "world.partial"
    partial.mkdir()
    with locked(partial):
        refused(2, ("another process is writing", str(partial)), "simulate", "--size", "tiny", "--out", "world")


@pytest.mark.parametrize("stage", ["prepare", "train-teacher", "extract-teacher", "distill", "evaluate", "visualize"])
def test_an_unwritable_workspace(runner, evaluated, tmp_path, stage):
    workspace = evaluated.copy(tmp_path).workspace
    shutil.rmtree(workspace.root / "visualize")
    names = {"evaluate": ("--model", "plain", "--workers", "0"), "visualize": ()}.get(stage, ("--name", "n"))
    folders = [workspace.root, *workspace.root.iterdir()]
    try:
        for folder in folders:
            folder.chmod(0o555)
        ended = runner.run(*command_of(stage, evaluated), *names, "-w", workspace.root)
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert ended.code == 5, ended.err
    assert ended.out == ""
    said = ended.err.splitlines()[-1]
    assert said.startswith(f"error: {workspace.root / stage}")
    assert "could not be written: Permission denied; check the path and its permissions" in said
    assert "Traceback" not in ended.err
