"""--gpus and --processes: what is refused, and what is started."""

import pytest

from crkd_core.training import distributed

_QUICK = ("--preset", "tiny")


@pytest.fixture
def launched(monkeypatch):
    calls = []

    def launch(module, arguments, processes):
        calls.append((module, list(arguments), processes))
        return 7

    monkeypatch.setattr(distributed, "launch", launch)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    return calls


@pytest.mark.parametrize("command", ["train-teacher", "extract-teacher", "distill"])
def test_the_same_command_runs_in_several_processes(crkd, launched, command):
    for flag in ("--gpus", "--processes"):
        arguments = [command, *_QUICK, flag, "2", "--set", "train.seed=3"]
        assert crkd(*arguments).code == 7
        assert launched.pop() == ("crkd_cli", arguments, 2)


def test_evaluate_runs_in_several_processes(crkd, launched):
    for flag in ("--gpus", "--processes"):
        arguments = ["evaluate", flag, "2", "--precision", "bf16"]
        assert crkd(*arguments).code == 7
        assert launched.pop() == ("crkd_cli", arguments, 2)


@pytest.mark.parametrize("arguments", [("--gpus", "3"), ("--gpus", "2", "--processes", "2"), ("--precision", "fp8")])
def test_nothing_is_evaluated_when_options_are_wrong(crkd, launched, arguments):
    assert crkd("evaluate", *arguments).code == 2
    assert launched == []


@pytest.mark.parametrize("option", [("--gpus", "2"), ("--processes", "2"), ("--precision", "bf16")])
def test_a_file_is_scored_without_a_model(crkd, launched, option):
    refused = crkd("evaluate", "--results", "file.json", *option)
    assert refused.code == 2
    assert "--results runs no model: leave out --gpus, --processes, --precision and --weights." in refused.err
    assert launched == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("--gpus", "3"),
        ("--gpus", "2", "--processes", "2"),
        ("--gpus", "1", "--device", "cpu"),
        ("--processes", "2", "--device", "cuda"),
        ("--gpus", "2", "--set", "train.seeed=1"),
        ("--gpus", "0"),
        ("--device", "tpu"),
    ],
)
def test_nothing_is_started_when_options_are_wrong(crkd, launched, arguments):
    result = crkd("distill", *_QUICK, *arguments)
    assert result.code == 2
    assert launched == []


def test_more_gpus_than_there_are_says_how_many(crkd, launched):
    assert "torch sees 2 GPUs" in crkd("distill", *_QUICK, "--gpus", "3").err


def test_under_the_launcher_nothing_is_launched_again(monkeypatch, launched):
    from crkd_cli.relaunch import spread
    from crkd_cli.session import Session

    for name, value in (("RANK", "0"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "localhost"), ("MASTER_PORT", "29500")):
        monkeypatch.setenv(name, value)
    assert spread(Session(), "auto", None, 2) == "cpu"
    assert launched == []


def test_an_interrupted_launch_says_so_once(crkd, monkeypatch):
    monkeypatch.setattr(distributed, "launch", lambda *_: 130)
    result = crkd("distill", *_QUICK, "--processes", "2")
    assert result.code == 130
    assert result.err.count("Stopped.") == 1
