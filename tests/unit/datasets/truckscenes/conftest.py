"""A small truck's world of a motorway and a terminal, and what is prepared of it."""

import pytest

from crkd_core.artifacts.workspace import Workspace
from crkd_core.config.description_files import known_description
from crkd_core.datasets.prepared.prepare_request import PrepareRequest
from crkd_core.datasets.prepared.prepared_data import PreparedData
from crkd_core.datasets.simulated.config import SimulationConfig
from crkd_core.progress import SilentProgress
from crkd_core.stages.prepare import prepare
from crkd_core.stages.simulate import SimulateRequest, simulate


@pytest.fixture(scope="session")
def truck_folder(tmp_path_factory):
    config = SimulationConfig(
        format="truckscenes",
        train_scenes=1,
        val_scenes=1,
        samples_per_scene=3,
        image_width=66,
        image_height=36,
        lidar_azimuth_steps=240,
        lidar_sweeps_per_key_frame=3,
        radar_sweeps_per_key_frame=3,
        camera_sweeps_per_key_frame=0,
    )
    return simulate(SimulateRequest(tmp_path_factory.mktemp("truck") / "world", config, processes=1), SilentProgress())


@pytest.fixture(scope="session")
def truck_result(truck_folder, tmp_path_factory):
    request = PrepareRequest(truck_folder.root, dataset=known_description("truckscenes"))
    return prepare(request, Workspace(tmp_path_factory.mktemp("truck-workspace")), SilentProgress())


@pytest.fixture(scope="session")
def truck_data(truck_result):
    return PreparedData(truck_result.artifact)


@pytest.fixture(scope="session")
def truck_tokens(truck_data):
    return [*truck_data.tokens("train"), *truck_data.tokens("val")]
