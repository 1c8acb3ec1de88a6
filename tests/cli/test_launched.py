"""Processes of ``--processes`` and torchrun: they end with their launcher, and left-over variables are told."""

import os
import signal
import subprocess
import sys
from datetime import timedelta

import pytest

from crkd_core.artifacts.workspace import locked
from crkd_core.errors import UsageError
from crkd_core.processes import LAUNCH_VARIABLES, LaunchedRank, launched_rank
from crkd_core.training import distributed
from tests.support.checkout import ROOT
from tests.support.child_processes import children, is_dead, wait_until
from tests.support.stopped_stages import Stage

COMPLETE = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}
UNSET = "unset RANK WORLD_SIZE LOCAL_RANK MASTER_ADDR MASTER_PORT"


@pytest.fixture
def launcher_variables(monkeypatch):
    """Sets the variables of a launcher, and no others."""
    for name in (*LAUNCH_VARIABLES, "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)

    def set_variables(**values: str) -> None:
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return set_variables


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"RANK": "", "WORLD_SIZE": ""},
        {"WORLD_SIZE": "1"},
        {"LOCAL_RANK": "3"},
        {"MASTER_ADDR": "localhost", "MASTER_PORT": "29500"},
    ],
)
def test_variables_that_launch_nothing(launcher_variables, values):
    launcher_variables(**values)
    assert launched_rank() is None


def test_variables_of_a_launcher(launcher_variables):
    launcher_variables(**COMPLETE)
    assert launched_rank() == LaunchedRank(1, 2, None, "localhost:29500")
    launcher_variables(LOCAL_RANK="0")
    assert launched_rank() == LaunchedRank(1, 2, 0, "localhost:29500")


LEFT_OVER = [
    ({"RANK": "abc"}, "(RANK=abc), without WORLD_SIZE, MASTER_ADDR, MASTER_PORT;"),
    ({"RANK": "1"}, "(RANK=1), without WORLD_SIZE"),
    ({"WORLD_SIZE": "2"}, "(WORLD_SIZE=2), without RANK"),
    ({"RANK": "0", "WORLD_SIZE": "2"}, "without MASTER_ADDR, MASTER_PORT"),
    ({**COMPLETE, "RANK": "abc"}, "expected RANK to be a whole number"),
    ({**COMPLETE, "RANK": "2"}, "expected RANK from 0 to WORLD_SIZE - 1 = 1"),
    ({**COMPLETE, "RANK": "-1"}, "expected RANK from 0 to"),
    ({**COMPLETE, "WORLD_SIZE": "0"}, "expected a WORLD_SIZE of at least 1"),
    ({**COMPLETE, "WORLD_SIZE": "two"}, "expected WORLD_SIZE to be a whole number"),
    ({**COMPLETE, "MASTER_PORT": "port"}, "expected MASTER_PORT to be a whole number"),
    ({**COMPLETE, "MASTER_PORT": "70000"}, "expected MASTER_PORT from 1 to 65535"),
    ({**COMPLETE, "LOCAL_RANK": "x"}, "expected LOCAL_RANK to be a whole number"),
    ({**COMPLETE, "LOCAL_RANK": "2"}, "expected LOCAL_RANK from 0 to"),
]


@pytest.mark.parametrize(("values", "problem"), LEFT_OVER)
def test_left_over_variables_are_named(crkd, launcher_variables, values, problem):
    launcher_variables(**values)
    ended = crkd("train-teacher", "--preset", "tiny")
    assert ended.code == 2
    assert problem in ended.err
    assert ended.err.endswith(f"left over: {UNSET}\n")
    assert len(ended.err.splitlines()) == 1
    with pytest.raises(UsageError), distributed.process_group("cpu"):
        pass
    assert crkd("status").code == 0


@pytest.mark.parametrize("rank", ["0", "1"])
def test_variables_without_their_launcher(crkd, launcher_variables, evaluated, tmp_path, monkeypatch, rank):
    stage = Stage(evaluated, tmp_path, "train-teacher")
    monkeypatch.setattr(distributed, "_MEETING", timedelta(seconds=1))
    monkeypatch.setattr("crkd_cli.session._OTHERS_WAIT_S", 0.0)
    monkeypatch.setattr(distributed.dist, "rendezvous", _no_others)
    launcher_variables(**{**COMPLETE, "RANK": rank})
    ended = crkd(*stage.command)
    assert ended.code == 6
    *_, error = lines = ended.err.splitlines()
    note = next(line for line in lines if line.startswith("Process"))
    assert note.startswith(f"Process {rank} of 2 (RANK, WORLD_SIZE), waiting for the others at localhost:29500.")
    assert note.endswith(UNSET)
    assert "did not meet at localhost:29500 within 1 s" in error
    assert error.endswith(UNSET)
    stage.check_nothing_lost()


def _no_others(*_, timeout):
    raise distributed.dist.DistNetworkError(f"The client socket has timed out after {timeout}.")


def test_an_address_in_use_is_told(launcher_variables, monkeypatch):
    def fail(*_, **__):
        raise distributed.dist.DistNetworkError("The server socket has failed to listen (EADDRINUSE).")

    monkeypatch.setattr(distributed.dist, "rendezvous", fail)
    launcher_variables(**COMPLETE)
    with (
        pytest.raises(distributed.TrainingError, match="in use; choose another MASTER_PORT"),
        distributed.process_group("cpu"),
    ):
        pass


def test_a_single_launched_process_meets_nobody(launcher_variables, monkeypatch):
    monkeypatch.setattr(distributed.dist, "rendezvous", _no_others)
    launcher_variables(**{**COMPLETE, "RANK": "0", "WORLD_SIZE": "1"})
    with distributed.process_group("cpu") as processes:
        assert (processes.rank, processes.size) == (0, 1)


def test_more_processes_than_were_launched(crkd, launcher_variables):
    launcher_variables(**COMPLETE)
    ended = crkd("train-teacher", "--preset", "tiny", "--processes", "3")
    assert ended.code == 2
    assert "3 processes were asked for in one of 2 that a launcher started" in ended.err


def test_another_process_that_ends_is_no_bug(launcher_variables, monkeypatch):
    monkeypatch.setattr(distributed, "_LAUNCHER_WAIT_S", 0.0)
    monkeypatch.setattr(distributed.dist, "rendezvous", lambda *_, **__: iter([(distributed.dist.HashStore(), 0, 2)]))
    monkeypatch.setattr(distributed.dist, "init_process_group", _peer_closed)
    launcher_variables(**COMPLETE)
    with (
        pytest.raises(distributed.TrainingError, match="another of the 2 processes of this run has ended"),
        distributed.process_group("cpu"),
    ):
        pass


def _peer_closed(*_, **__):
    raise RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:4711")


@pytest.fixture
def launched(start_python, evaluated, tmp_path):
    """Starts training in two processes; gives the stage, the launcher and the ids of the two."""
    stage = Stage(evaluated, tmp_path, "train-teacher")
    longer = ("--set", "train.teacher.epochs=500", "--set", "train.workers=1")
    arguments = [str(word) for word in (*stage.command, "--processes", "2", *longer)]

    def start():
        process = start_python("-m", "crkd_cli", *arguments)
        ranks: list[int] = []

        def started() -> bool:
            assert process.poll() is None, process.stderr.read()
            ranks[:] = children(process.pid)
            return len(ranks) == 2

        wait_until(started)
        return process, ranks

    return stage, start


@pytest.mark.parametrize("moment", ["importing", "training"])
def test_launched_processes_end_with_a_launcher_that_is_killed(launched, moment):
    stage, start = launched
    process, ranks = start()
    loaders: list[int] = []
    if moment == "training":
        while "steps" not in process.stderr.readline():
            assert process.poll() is None
        wait_until(lambda: loaders.extend(child for rank in ranks for child in children(rank)) or loaders)
    process.kill()
    process.communicate()
    wait_until(lambda: all(is_dead(rank) for rank in (*ranks, *loaders)))
    partial = stage.root / "train-teacher" / "again.partial"
    if moment == "training":
        with locked(partial):
            pass
    stage.check_nothing_lost()


def test_a_launched_process_that_is_killed(launched):
    stage, start = launched
    process, ranks = start()
    while "steps" not in process.stderr.readline():
        assert process.poll() is None
    os.kill(max(ranks), signal.SIGKILL)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 6
    assert "of 2 was killed by signal 9 (out of memory?)" in err.splitlines()[-1]
    assert "bug" not in err
    assert all(is_dead(rank) for rank in ranks)
    stage.check_nothing_lost()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_launcher_that_is_told_to_end(launched, number, code):
    _, start = launched
    process, ranks = start()
    while "steps" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == code
    assert [line for line in err.splitlines() if "Stopped" in line] == [err.splitlines()[-1]]
    assert all(is_dead(rank) for rank in ranks)


def test_torchrun(evaluated, tmp_path):
    copy = evaluated.copy(tmp_path)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "-m", "crkd_cli"]
    ended = subprocess.run(
        [*command, "extract-teacher", "-w", str(copy.workspace.root), "--name", "targets"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("extract-teacher/targets") == 1
