"""Settings, numbers, devices and empty words that no command takes, through the real commands."""

import math
import os
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import pytest

from crkd_cli import options
from crkd_cli.app import app
from crkd_core.config import numbers

HUGE = "1" + "0" * 5000
SMALL_WORLD = ("--val-scenes", 0, "--samples", 1, "--set", "lidar_azimuth_steps=36", "--set", "image_width=64")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("data.image.train_resize=[0.135, 0.11]", ("'data.image.train_resize'", "a lower and then a higher value")),
        ("data.image.rotation_deg=[5, -5]", ("'data.image.rotation_deg'", "found [5, -5]")),
        ("data.augment_student.scale=[0, 0]", ("'data.augment_student.scale.0'", "greater than 0")),
        ("data.grid.z_range_m=[0, 0]", ("'data.grid.z_range_m'", "a lower and then a higher value, found [0, 0]")),
        ("data.grid.x_range_m=[-.inf, .inf]", ("'data.grid.x_range_m.0'", "expected a finite number, found -inf")),
        ("student.camera.view_transform.depth_range_m=[.nan, 60]", ("depth_range_m.0'", "finite number, found nan")),
        ("distill.reld.scales=[]", ("'distill.reld.scales'", "expected a list of at least 1, found []")),
        ("teacher.lidar.stage_channels=[[]]", ("'teacher.lidar.stage_channels.0'", "a list of at least 1")),
        (f"train.seed={HUGE}", ("--set train.seed: a number has 5001 digits",)),
        (f"train.seed={2**63}", ("'train.seed'", "found 9223372036854775808")),
        ("train.seed=true", ("'train.seed'", "expected a number, found True")),
        ("train.teacher.batch_size=100000", ("'train.teacher.batch_size'", "less than or equal to 1024")),
        ("train.workers=100000", ("'train.workers'", "less than or equal to 256")),
        ("data.radar.sweeps=1000000", ("'data.radar.sweeps'", "less than or equal to 100")),
        ("train={seed: 1, seed: 2}", ("--set train: the key 'seed' stands there twice",)),
        ("train.seed=" + "[" * 10_000, ("--set train.seed: more than 20 levels",)),
        ("a." * 5000 + "b=1", ("--set expects section.field=value",)),
        ("train.seed=" + "x" * 10_000, ("'train.seed'", "found 'xxx")),
        ("x" * 10_000 + "=1", ("the config has no key 'xxx", "known here: data")),
        ("=", ("--set expects section.field=value",)),
        (".=1", ("--set expects section.field=value",)),
        ("train=", ("'train'", "a section of keys, found nothing")),
        ("train.seed.x=1", ("'train.seed'", "found {'x': 1}")),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)  # fmt: skip
def test_a_setting_that_cannot_be(refused, override, words):
    said = refused(2, words, "train-teacher", "--preset", "tiny", "--set", override)
    assert len(said) < 300


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("density=.nan", ("'density'", "expected a finite number, found nan")),
        ("density=true", ("'density'", "expected a number, found True")),
        (f"seed={HUGE}", ("--set seed: a number has 5001 digits",)),
        ("seed=4294967296", ("'seed'", "less than 4294967296")),
        ("image_width=[", ("--set image_width: the value is not valid YAML",)),
        ("image_width=1:40", ("'image_width'", "found '1:40'")),
        ("seed=2020-99-99", ("'seed'", "found '2020-99-99'")),
        ("density=" + "[" * 10_000, ("more than 20 levels",)),
        ("dense=1", ("no setting 'dense'", "did you mean 'density'?")),
        ("image_width", ("--set expects field=value here",)),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_a_world_that_cannot_be(refused, override, words):
    refused(2, words, "simulate", "--size", "tiny", "--out", "world", "--set", override)


def contents_of(kind: str) -> bytes:
    return {
        "bomb": b"a: &a [x,x,x,x,x,x,x,x,x,x]\n"
        + b"".join(b"%c: &%c [%s]\n" % (98 + n, 98 + n, b",".join([b"*%c" % (97 + n)] * 10)) for n in range(8)),
        "nested": b"{a: " * 10_000,
        "twice": b"train: {seed: 1}\ntrain: {seed: 2}\n",
        "large": b"# nothing\n" * 200_000,
        "number": b"train: {seed: " + HUGE.encode() + b"}",
        "keys": b"1: 2",
    }[kind]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("bomb", "stands for more than 10000 values"),
        ("nested", "mine.yaml, line 1: more than 20 levels"),
        ("twice", "mine.yaml, line 2: the key 'train' stands there twice"),
        ("large", "has 2000000 bytes"),
        ("number", "mine.yaml, line 1: a number has 5001 digits"),
        ("keys", "the key '1' is no name"),
        ("folder", "mine.yaml is a folder"),
        ("pipe", "mine.yaml is no regular file"),
        ("device", "mine.yaml is no regular file"),
        ("long", "cannot be read: File name too long"),
    ],
)
def test_a_config_file_that_is_none(refused, tmp_path, kind, words):
    file = tmp_path / "mine.yaml"
    if kind == "folder":
        file.mkdir()
    elif kind == "pipe":
        os.mkfifo(file)
    elif kind == "device":
        file.symlink_to("/dev/zero")
    elif kind == "long":
        file = Path("x" * 5000)
    else:
        file.write_bytes(contents_of(kind))
    said = refused(2, (words,), "train-teacher", "--preset", "tiny", "--config", file)
    assert len(said) < 300
    if kind == "pipe":
        file.unlink()


def test_an_empty_word_is_never_a_default(refused):
    for command, *words in (
        ("train-teacher", "--preset", ""),
        ("train-teacher", "--preset="),
        ("train-teacher", "--config", ""),
        ("train-teacher", "--workspace", ""),
        ("train-teacher", "--name", ""),
        ("train-teacher", "--device", ""),
        ("train-teacher", "--set", ""),
        ("distill", "--targets", " "),
        ("distill", "--init", ""),
        ("evaluate", "--split", ""),
        ("evaluate", "--model", ""),
        ("evaluate", "--prepared", ""),
        ("extract-teacher", "--teacher", ""),
        ("visualize", "--missed", ""),
        ("prepare", "--nuscenes", ""),
        ("simulate", "--out", ""),
        ("demo", "--preset", ""),
        ("ablate", "--comparison", ""),
    ):
        option = words[0].removesuffix("=")
        refused(2, (f"{option} is empty; give it a value, or leave it out",), command, *words)
    refused(2, ("-w is empty",), "status", "-w", "")
    refused(2, ("an argument is empty",), "presets", "")


@pytest.mark.parametrize(
    "device",
    ["mps", "meta", "xpu", "cpu:1", "cpu:0", "CPU", "tpu", "cuda:-1", "cuda:", "cuda:01", "vulkan", "0", " cpu"],
)
@pytest.mark.parametrize("command", ["train-teacher", "demo", "evaluate"])
def test_a_device_that_crkd_does_not_run_on(refused, device, command):
    refused(2, (f"on a device called {device!r}; expected auto, cpu, cuda or cuda:N",), command, "--device", device)


def test_a_gpu_that_is_not_there(refused, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    for device in ("cuda:2", "cuda:99"):
        words = (f"--device {device} was asked for", "torch sees 2 GPUs", "use --device cuda:0 to cuda:1")
        refused(2, words, "train-teacher", "--device", device)
    words = ("--gpus 2 does not go with --device cuda:1",)
    refused(2, words, "train-teacher", "--preset", "tiny", "--gpus", "2", "--device", "cuda:1")


def numeric_options() -> Iterator[tuple[str, str, typing.Any]]:
    """Command, option and how it is declared, of every option that takes a number."""
    for command in app.registered_commands:
        for hint in typing.get_type_hints(command.callback, include_extras=True).values():
            kind, declared = (
                (*typing.get_args(hint), None)[:2] if typing.get_origin(hint) is Annotated else (hint, None)
            )
            if {int, float} & {kind, *typing.get_args(kind)} and kind is not bool:
                # The first of the names that an annotation declares stands where a default would.
                names = [str(declared.default), *declared.param_decls]
                yield str(command.name), next(name for name in names if name.startswith("--")), declared


NUMERIC = list(numeric_options())


def test_the_numeric_options_are_all_there():
    seen = {option for _, option, _ in NUMERIC}
    expected = {
        "--workers",
        "--batch-size",
        "--processes",
        "--gpus",
        "--bootstrap",
        "--verify",
        "--samples",
        "--scenes",
    }
    assert expected | {"--seed", "--radar-sweeps", "--lidar-sweeps", "--score", "--log-gradients"} <= seen
    assert (options.MOST_SWEEPS, options.MOST_SEED) == (numbers.MOST_SWEEPS, numbers.MOST_SEED)
    assert (options.MOST_BATCH, options.MOST_WORKERS) == (numbers.MOST_BATCH, numbers.MOST_WORKERS)


@pytest.mark.parametrize(("command", "option", "declared"), NUMERIC, ids=[f"{c} {o}" for c, o, _ in NUMERIC])
def test_a_number_on_the_command_line_has_bounds(crkd, command, option, declared):
    assert None not in (declared.min, declared.max), "a number without bounds"
    beyond = [declared.min - 1, declared.max + 1]
    needed = {"prepare": ("--nuscenes", "x"), "compare": ("a", "b")}.get(command, ())
    for value in (*beyond, HUGE, "nan", "inf", "-inf", "many", "1e400", math.nan):
        result = crkd(command, *needed, f"{option}={value}")
        assert result.code == 2
        assert result.out == ""
        assert f"Invalid value for '{option}'" in result.err
        assert "bug" not in result.err
        assert len(result.err) < 1000


def test_absurd_numbers_of_processes_and_sweeps(crkd, refused, chain, tmp_path):
    for option, most in (("--radar-sweeps", 100), ("--lidar-sweeps", 100), ("--processes", 1024)):
        result = crkd("prepare", "--nuscenes", chain.nuscenes, option, "1000000")
        assert result.code == 2
        assert str(most) in result.err
    refused(
        2,
        ("--processes 1000 was asked for", "CPU cores; use at most"),
        "distill",
        "--preset",
        "tiny",
        "--processes",
        1000,
    )


def test_more_processes_than_there_is_work_for(crkd, chain, monkeypatch):
    monkeypatch.setattr("crkd_core.cores.most_helpers", lambda: 1)
    for command in (
        ("prepare", "--nuscenes", chain.nuscenes),
        ("simulate", "--size", "tiny", "--scenes", 2, *SMALL_WORLD),
    ):
        result = crkd(*command, "--processes", "100")
        assert result.code == 0, result.err
        assert "using 1 of the 100 processes asked for: there are" in result.err
