"""MAN TruckScenes from files to a scored and drawn student, by the real commands."""

import importlib.util

import pyarrow.parquet as pq
import pytest

from crkd_core.artifacts.workspace import Workspace
from crkd_core.datasets.simulated.config import SimulationConfig
from crkd_core.progress import SilentProgress
from crkd_core.stages.simulate import SimulateRequest, simulate

SETTINGS = (
    "data.lidar.sweeps=1",
    "data.radar.sweeps=2",
    "distill.targets.views=1",
    "train.teacher.epochs=1",
    "train.student.epochs=1",
    "train.distill.epochs=1",
    "train.workers=0",
)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    config = SimulationConfig(
        format="truckscenes",
        train_scenes=1,
        val_scenes=1,
        samples_per_scene=2,
        image_width=198,
        image_height=94,
        lidar_azimuth_steps=120,
        lidar_sweeps_per_key_frame=1,
        radar_sweeps_per_key_frame=2,
        camera_sweeps_per_key_frame=0,
    )
    out = tmp_path_factory.mktemp("truck") / "world"
    return simulate(SimulateRequest(out, config, processes=1), SilentProgress()).root


def test_the_chain_runs_on_a_truck_s_world(crkd, world, tmp_path):
    workspace = tmp_path / "w"
    settings = tuple(part for setting in SETTINGS for part in ("--set", setting))
    learning = ("--preset", "truckscenes-tiny", *settings, "-w", workspace)
    done = crkd("prepare", "--nuscenes", world, "--dataset", "truckscenes", *settings[:4], "-w", workspace)
    assert done.code == 0, done.err
    assert "warning" not in done.err
    for command in (
        ("train-teacher", *learning),
        ("extract-teacher", *learning),
        ("distill", "--losses", "none", *learning),
        ("distill", *learning),
        ("evaluate", "--workers", "0", "--breakdown", "tag", "-w", workspace),
        ("visualize", "--samples", "1", "-w", workspace),
    ):
        done = crkd(*command)
        assert done.code == 0, done.err
        if command[0] == "evaluate":
            assert "area." in done.out
    assert list(workspace.glob("visualize/*/000-*.png"))
    evaluation = Workspace(workspace).find("evaluate", None, needed_for="the test", make="crkd evaluate")
    slices = pq.read_table(evaluation.file("breakdown.parquet")).to_pylist()
    assert len({row["slice"] for row in slices if row["kind"] == "tag"}) == 7
    if importlib.util.find_spec("truckscenes"):
        done = crkd("evaluate", "--workers", "0", "--official", "--force", "-w", workspace)
        assert done.code == 0, done.err
