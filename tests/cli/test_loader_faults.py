"""Loader processes that are killed, get stuck or outlive their command: one sentence, and the same command goes on."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from crkd_core.artifacts.workspace import locked
from crkd_core.data.packing import SHARED_MEMORY
from crkd_core.training.loop import Trainer
from tests.support.child_processes import LONG_S, children, is_dead, wait_until
from tests.support.stopped_stages import Stage

_LOADERS = {
    "train-teacher": ("--set", "train.workers=2"),
    "extract-teacher": ("--set", "train.workers=2"),
    "distill": ("--set", "train.workers=2"),
    "evaluate": ("--workers", "2"),
}
_FEWER = {**dict.fromkeys(_LOADERS, "--set train.workers=1"), "evaluate": "--workers 0"}  # its one batch needs one


@pytest.fixture(autouse=True)
def _nothing_left():
    """After every test, no child and no shared memory is there that was not there before."""
    before = _shared()
    yield
    assert not multiprocessing.active_children()
    assert _shared() <= before


def _shared() -> set[str]:
    return {path.name for path in SHARED_MEMORY.glob("torch_*")} if SHARED_MEMORY.is_dir() else set()


def check_one_sentence(ended, *words: str) -> None:
    assert ended.code == 1, ended.err
    said = ended.err.splitlines()[-1]
    assert said.startswith("error: loader process ")
    for word in words:
        assert word in said
    for word in ("Traceback", "bug", "Exception", "DataLoader"):
        assert word not in ended.err, ended.err


@pytest.mark.parametrize("name", _LOADERS)
def test_a_loader_process_that_is_killed(crkd, evaluated, tmp_path, monkeypatch, name):
    stage = Stage(evaluated, tmp_path, name)
    if name == "evaluate":
        stage.command = [*stage.command[:1], *stage.command[3:]]
    with monkeypatch.context() as fault:
        fault.setattr("crkd_core.data.dataset.read_image", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        ended = crkd(*stage.command, *_LOADERS[name])
    check_one_sentence(ended, "was ended by signal 9 (out of memory?); run it again with fewer: " + _FEWER[name])
    stage.check_nothing_lost()
    assert crkd(*stage.command).code == 0
    stage.check_result()


def test_one_that_is_killed_during_a_step_is_no_bug(crkd, evaluated, tmp_path, monkeypatch):
    stage = Stage(evaluated, tmp_path, "train-teacher")
    step = Trainer._step

    def kill_and_step(self, batch, number):
        loader = multiprocessing.active_children()[0]
        os.kill(loader.pid, signal.SIGKILL)
        wait_until(lambda: not Path(f"/proc/{loader.pid}").exists() or is_dead(loader.pid))
        return step(self, batch, number)

    with monkeypatch.context() as fault:
        fault.setattr(Trainer, "_step", kill_and_step)
        ended = crkd(*stage.command, *_LOADERS["train-teacher"])
    check_one_sentence(ended, "was ended by signal 9")
    assert crkd(*stage.command).code == 0
    stage.check_result()


@pytest.mark.parametrize("name", ["train-teacher", "extract-teacher"])
def test_loader_processes_that_send_nothing(crkd, evaluated, tmp_path, monkeypatch, name):
    stage = Stage(evaluated, tmp_path, name)
    with monkeypatch.context() as fault:
        fault.setattr("crkd_core.data.dataset.read_image", lambda *_: time.sleep(LONG_S))
        ended = crkd(*stage.command, *_LOADERS[name], "--set", "train.loader_timeout_s=1")
    check_one_sentence(ended, "loader process 1 of ", "has sent no batch for ", "--set train.loader_timeout_s=2")
    stage.check_nothing_lost()
    assert crkd(*stage.command).code == 0
    stage.check_result()


def test_loader_processes_end_with_a_command_that_is_killed(start_python, evaluated, tmp_path):
    stage = Stage(evaluated, tmp_path, "train-teacher")
    arguments = [str(word) for word in (*stage.command, *_LOADERS["train-teacher"], "--set", "train.teacher.epochs=99")]
    process = start_python("-m", "crkd_cli", *arguments)
    loaders: list[int] = []

    def started() -> bool:
        assert process.poll() is None, process.stderr.read()
        loaders[:] = children(process.pid)
        return len(loaders) == 2

    wait_until(started)
    process.kill()
    process.communicate()
    wait_until(lambda: all(is_dead(loader) for loader in loaders))
    with locked(stage.root / "train-teacher" / "again.partial"):
        pass
