"""Shared test set-up: shape annotations are enforced for the whole library while testing, and one small chain of
stages is run once for all tests that need its results."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from jaxtyping import install_import_hook

install_import_hook("crkd_core", "beartype.beartype")

<<<<<<< HEAD
=======
import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

>>>>>>> world
import pytest
from filelock import FileLock

from crkd_core.artifacts.workspace import Workspace
from crkd_core.config.loading import load_config
<<<<<<< HEAD
from tests.support.chain import CHAIN_OVERRIDES, Chain, run_chain
=======
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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what compares with the devkit where it is not installed, as from Python 3.13 on."""
    if find_spec("nuscenes") is None:
        for item in items:
            if item.get_closest_marker("devkit"):
                item.add_marker(pytest.mark.skip(reason="the nuScenes devkit is not installed"))


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
>>>>>>> world


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
            run_chain(result)
            (folder / "done").touch()
    return result
