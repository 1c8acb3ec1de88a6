"""A full disk, Ctrl-C and SIGKILL at every stage: nothing is lost, and the same command ends with the same result."""

import os
import signal
import time

import pytest

from tests.support.faults import Fault
from tests.support.refusals import snapshot
from tests.support.stopped_stages import Stage, checksums


def check_calm(ended) -> None:
    assert ended.code == 130, ended.err
    assert ended.out == ""
    assert ended.err.splitlines()[-1].startswith(
        "Stopped. What was finished is kept; the same command continues: crkd "
    )
    assert "Traceback" not in ended.err
    assert "error" not in ended.err


# One after the other in the same run: every time the command is stopped a little later than the time before.
MOMENTS = {
    "prepare": [{"file": "request"}, {"file": "shard-00001"}, {"file": "annotations"}, {"file": "manifest"}],
    "train-teacher": [{"step": 1}, {"file": "checkpoint"}, {"file": "model"}, {"file": "manifest"}],
    "extract-teacher": [{"step": 2}, {"file": "shard-00001"}, {"file": "index"}, {"file": "manifest"}],
    "distill": [{"file": "metrics"}, {"made": "checkpoint"}, {"step": 1}],
    "evaluate": [
        *({"file": "detections-"}, {"step": 1}, {"file": "submission"}),
        *({"file": "detections.parquet"}, {"step": 2}, {"file": "metrics"}),
    ],
    "visualize": [{"file": "000-"}, {"file": "index"}, {"file": "manifest"}],
}


@pytest.mark.parametrize("name", MOMENTS)
def test_ctrl_c(crkd, interrupt, evaluated, tmp_path, name):
    stage = Stage(evaluated, tmp_path, name)
    for moment in MOMENTS[name]:
        interrupt(moment)
        check_calm(crkd(*stage.command))
        stage.check_nothing_lost()
    kept = stage.finished_files()
    ended = crkd(*stage.command)
    assert ended.code == 0
    stage.check_result()
    if name in ("train-teacher", "distill"):
        assert "continuing again at step 2 of " in ended.err
    else:
        assert kept
        assert stage.finished_files().items() >= kept.items()


@pytest.mark.parametrize("name", ["prepare", "evaluate", "visualize"])
def test_ctrl_c_while_what_is_there_is_made_anew(crkd, interrupt, evaluated, tmp_path, name):
    stage = Stage(evaluated, tmp_path, name, forced=True)
    interrupt({"file": "manifest"})
    check_calm(crkd(*stage.command))
    stage.check_nothing_lost()
    stage.command.remove("--force")
    assert crkd(*stage.command).code == 0
    assert checksums(stage.result) == stage.expected


SIMULATE = (
    *("simulate", "--size", "tiny", "--kind", "mini", "--scenes", "1", "--val-scenes", "1", "--samples", "1"),
    *("--set", "image_width=160", "--set", "image_height=90", "--set", "lidar_azimuth_steps=90"),
    *("--set", "lidar_sweeps_per_key_frame=1", "--set", "radar_sweeps_per_key_frame=1"),
)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory) -> dict[str, str]:
    """Checksums of the world of :data:`SIMULATE`."""
    from crkd_cli.app import app
    from crkd_cli.session import Session

    out = tmp_path_factory.mktemp("simulated") / "world"
    app(args=[*SIMULATE, "--out", str(out), "--quiet"], prog_name="crkd", obj=Session(), standalone_mode=False)
    return snapshot(out)


def test_ctrl_c_in_a_simulation(crkd, interrupt, simulated, tmp_path):
    for moment in ({"file": "simulation"}, {"step": 1}, {"file": "scene-0061"}, {"file": "sample.json"}):
        interrupt(moment)
        check_calm(crkd(*SIMULATE, "--out", "world"))
        assert not (tmp_path / "world").exists()
    assert crkd(*SIMULATE, "--out", "world").code == 0
    assert snapshot(tmp_path) == {f"world/{path}": digest for path, digest in simulated.items()}


def check_full(ended, file: str) -> None:
    assert ended.code == 5, ended.err
    assert ended.out == ""
    said = ended.err.splitlines()[-1]
    assert said.startswith("error: ")
    assert file in said.split(" could not be written: ")[0]
    assert "no space is left on the disk; what was there before is unchanged" in said
    assert said.endswith("run the same command again: it continues.")
    for word in ("Traceback", "bug", "Errno", "Exception"):
        assert word not in ended.err, ended.err


# In the order in which they are written: every run continues from the one before.
WRITTEN = {
    "prepare": ["request.json", "shard-00001.safetensors", "index.parquet", "samples.parquet", "manifest.json"],
    "train-teacher": ["tfevents", "checkpoint.safetensors", "model.safetensors"],
    "extract-teacher": ["shard-00001.safetensors", "index.parquet"],
    "distill": ["metrics.parquet", "manifest.json"],
    "evaluate": ["detections-", "submission.json", "detections.parquet", "metrics.json"],
    "visualize": [".png", "index.html"],
}


@pytest.mark.parametrize("name", WRITTEN)
def test_a_full_disk(runner, evaluated, tmp_path, name):
    stage = Stage(evaluated, tmp_path, name)
    for file in WRITTEN[name]:
        check_full(runner.run(*stage.command, fault=Fault(full_when_writing=file)), file)
        stage.check_nothing_lost()
    assert runner.run(*stage.command).code == 0
    stage.check_result()


def test_a_full_disk_while_what_is_there_is_made_anew(runner, evaluated, tmp_path):
    stage = Stage(evaluated, tmp_path, "train-teacher", forced=True)
    check_full(runner.run(*stage.command, fault=Fault(full_when_writing="model.safetensors")), "model.safetensors")
    stage.check_nothing_lost()


def test_a_full_disk_in_a_simulation(runner, simulated, tmp_path):
    command = (*SIMULATE, "--out", "world")
    for file in (".jpg", ".pcd.bin", "scene-0103", "sample_data.json"):
        ended = runner.run(*command, fault=Fault(full_when_writing=file))
        check_full(ended, "world.partial")
        assert not (tmp_path / "world").exists()
    assert runner.run(*command).code == 0
    assert snapshot(tmp_path) == {f"world/{path}": digest for path, digest in simulated.items()}


def test_a_full_disk_in_worker_processes(runner, evaluated, tmp_path):
    fault = Fault(full_when_writing="", file_bytes=20_000)
    ended = runner.run(*SIMULATE, "--out", "world", "--processes", "2", fault=fault)
    check_full(ended, "world.partial")
    stage = Stage(evaluated, tmp_path, "prepare")
    check_full(runner.run(*stage.command, "--processes", "2", fault=fault), "shard-0000")
    stage.check_nothing_lost()


@pytest.mark.parametrize(("name", "flushes"), [("train-teacher", 8), ("extract-teacher", 5), ("evaluate", 5)])
def test_sigkill(runner, evaluated, tmp_path, name, flushes):
    stage = Stage(evaluated, tmp_path, name)
    ended = runner.run(*stage.command, fault=Fault(kill_at_flush=flushes))
    assert ended.code == -signal.SIGKILL
    assert snapshot(stage.root) == stage.before
    assert runner.run(*stage.command).code == 0
    stage.check_result()


def test_ctrl_c_reaches_worker_processes_too(start_python, chain, tmp_path):
    arguments = ("prepare", "--nuscenes", str(chain.nuscenes), "--processes", "2")
    process = start_python("-m", "crkd_cli", *arguments, start_new_session=True)
    assert process.stderr is not None
    while not process.stderr.readline().startswith("radar"):
        assert process.poll() is None
    time.sleep(0.7)  # the worker processes are about to import
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert [line.partition(".")[0] for line in err.splitlines()] == ["Stopped"]
    assert not (tmp_path / "crkd-workspace" / "prepare" / "v1.0-sim-mini").exists()


_at_fork: list[bool] = []


def _press_at_fork() -> None:
    if _at_fork:
        _at_fork.clear()
        os.kill(os.getpid(), signal.SIGINT)


os.register_at_fork(after_in_parent=_press_at_fork)


def test_ctrl_c_while_a_loader_process_is_started(crkd, interrupt, evaluated, tmp_path):
    stage = Stage(evaluated, tmp_path, "train-teacher")
    _at_fork.append(True)
    check_calm(crkd(*stage.command, "--set", "train.workers=1"))
    assert not _at_fork
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    stage.check_nothing_lost()
