"""Shared test set-up: shape annotations are enforced for the whole library while testing, and one small chain of
stages is run once for all tests that need its results."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from jaxtyping import install_import_hook

install_import_hook("crkd_core", "beartype.beartype")

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock

from crkd_core.artifacts.workspace import Workspace
from crkd_core.config.loading import load_config
from crkd_core.config.schema import Config
from crkd_core.progress import SilentProgress

CHAIN_OVERRIDES = (
    "data.grid.x_range_m=[-36, 36]",
    "data.grid.y_range_m=[-36, 36]",
    "data.lidar.sweeps=2",
    "data.radar.sweeps=3",
    "data.augment_teacher.rotation_deg=[-5, 5]",
    "distill.targets.views=2",
    "distill.targets.storage=fp32",
    "distill.targets.samples_per_shard=3",
    "train.teacher={epochs: 1, learning_rate: 1e-3, batch_size: 2}",
    "train.student={epochs: 1, learning_rate: 1e-3, batch_size: 2}",
    "train.distill={epochs: 2, learning_rate: 1e-3, batch_size: 2}",
    "train.workers=0",
    "teacher.head.nms.max_candidates=40",
    "student.head.nms.max_candidates=40",
)


@dataclass(frozen=True)
class Chain:
    """A small simulated world with prepared data, a teacher, its targets, and plain and distilled students.

    Shared by all tests: copy what is to be changed (:meth:`copy`).
    """

    nuscenes: Path
    workspace: Workspace
    config: Config

    def copy(self, folder: Path) -> "Chain":
        """The same with a workspace of its own to change."""
        # Other tests may read the shared one meanwhile, and hold its locks for a moment.
        passing = shutil.ignore_patterns("*.lock", "*.writing")
        shutil.copytree(self.workspace.root, folder / "workspace", ignore=passing, dirs_exist_ok=True)
        return Chain(self.nuscenes, Workspace(folder / "workspace"), self.config)

    def copy_world(self, folder: Path) -> Path:
        """A copy of the data set to damage."""
        return Path(shutil.copytree(self.nuscenes, folder / "world"))


@pytest.fixture(scope="session")
def chain(tmp_path_factory) -> Chain:
    """One chain of stages for the whole test session, also where several processes share it."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder = shared / "chain"
    result = Chain(folder / "world", Workspace(folder / "workspace"), load_config("tiny", None, CHAIN_OVERRIDES))
    with FileLock(shared / "chain.lock"):
        if not (folder / "done").exists():
            _run_chain(result)
            (folder / "done").touch()
    return result


def _run_chain(chain: Chain) -> None:
    from crkd_core.datasets.simulated.config import SimulationConfig
    from crkd_core.stages.distill import DistillRequest, distill
    from crkd_core.stages.extract import ExtractRequest, extract_teacher
    from crkd_core.stages.prepare import PrepareRequest, prepare
    from crkd_core.stages.simulate import SimulateRequest, simulate
    from crkd_core.stages.train_teacher import TrainTeacherRequest, train_teacher

    world = SimulationConfig(
        train_scenes=2,
        val_scenes=1,
        samples_per_scene=2,
        image_width=240,
        image_height=135,
        lidar_azimuth_steps=180,
        lidar_sweeps_per_key_frame=1,
        radar_sweeps_per_key_frame=2,
        camera_sweeps_per_key_frame=0,
    )
    progress, workspace, config = SilentProgress(), chain.workspace, chain.config
    simulate(SimulateRequest(out=chain.nuscenes, config=world, processes=1), progress)
    prepare(PrepareRequest(nuscenes=chain.nuscenes, version=None), workspace, progress)
    train_teacher(TrainTeacherRequest(config), workspace, progress)
    extract_teacher(ExtractRequest(config), workspace, progress)
    distill(DistillRequest(config, losses=()), workspace, progress)
    distill(DistillRequest(config), workspace, progress)
