"""Tiny simulated worlds for all tests of this folder, and the devkit on them."""

import pytest

from crkd_core.datasets.simulated.config import SimulationConfig
from crkd_core.progress import SilentProgress
from crkd_core.stages.simulate import SimulateRequest, simulate

TINY = SimulationConfig(
    train_scenes=2,
    val_scenes=1,
    samples_per_scene=3,
    image_width=256,
    image_height=144,
    lidar_azimuth_steps=360,
    lidar_sweeps_per_key_frame=1,
    radar_sweeps_per_key_frame=1,
    camera_sweeps_per_key_frame=0,
    density=1.5,
    seed=3,
)


@pytest.fixture(scope="session")
def tiny_config() -> SimulationConfig:
    return TINY


@pytest.fixture(scope="session")
def tiny_world(tmp_path_factory):
    out = tmp_path_factory.mktemp("simulation") / "world"
    return simulate(SimulateRequest(out, TINY, processes=1), SilentProgress())


@pytest.fixture(scope="session")
def nusc(tiny_world):
    from nuscenes import NuScenes

    return NuScenes(tiny_world.version, str(tiny_world.root), verbose=False)


@pytest.fixture(scope="session")
def truck_world(tmp_path_factory):
    """Two scenes of each split in TruckScenes' format: a motorway and a terminal."""
    config = SimulationConfig(
        format="truckscenes",
        train_scenes=2,
        val_scenes=2,
        samples_per_scene=3,
        image_width=198,
        image_height=94,
        lidar_azimuth_steps=240,
        lidar_sweeps_per_key_frame=1,
        radar_sweeps_per_key_frame=1,
        camera_sweeps_per_key_frame=0,
    )
    out = tmp_path_factory.mktemp("truck") / "world"
    return simulate(SimulateRequest(out, config, processes=1), SilentProgress())
