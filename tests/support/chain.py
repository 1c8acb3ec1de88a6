"""One small chain of stages, which tests share: its settings, its workspace, and what reads each of its artifacts."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from crkd_core.artifacts.workspace import Artifact, Workspace
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
# The command that reads what a stage of the chain made.
READERS = {
    "prepare/v1.0-sim-mini": ("train-teacher", "--name", "n"),
    "train-teacher/teacher": ("extract-teacher", "--name", "n"),
    "extract-teacher/targets": ("distill", "--name", "n"),
    "distill/crkd": ("evaluate", "--split", "train", "--workers", "0"),
    "evaluate/crkd-val": ("visualize", "--samples", "2"),
}


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


def run_chain(chain: Chain) -> None:
    """Simulate the world, and run every stage up to the distilled student."""
    # Here, because unit tests need none of the stages.
    from crkd_core.datasets.simulated.config import SimulationConfig
    from crkd_core.stages.distill import DistillRequest, distill
    from crkd_core.stages.extract_teacher import ExtractRequest, extract_teacher
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


def files_of(artifact: Artifact) -> dict[str, str]:
    """Checksums of its files; without logs, which hold times."""
    return {path: record.sha256 for path, record in artifact.manifest.files.items() if not path.startswith("logs/")}
