"""A short chain on a grid twice as long as wide, with necks and decoders of unequal stages."""

import shutil
from dataclasses import replace

import pytest
import torch

from crkd_core.artifacts.shards import read_tensors
from crkd_core.artifacts.workspace import Workspace
from crkd_core.config import load_config
from crkd_core.errors import ConfigError
from crkd_core.progress import SilentProgress
from crkd_core.stages.distill import DistillRequest, distill
from crkd_core.stages.evaluate import EvaluateRequest, evaluate
from crkd_core.stages.extract_teacher import ExtractRequest, extract_teacher
from crkd_core.stages.import_weights import ImportRequest, import_weights
from crkd_core.stages.train_teacher import TrainTeacherRequest, train_teacher
from crkd_core.stages.visualize import VisualizeRequest, visualize
from crkd_core.training.trained import WEIGHTS_NAME, load_trained
from crkd_core.weights.published import export_detector
from tests.support.chain import CHAIN_OVERRIDES

SILENT = SilentProgress()
OVERRIDES = [
    *CHAIN_OVERRIDES,
    "data.grid.x_range_m=[-48, 48]",
    "data.grid.y_range_m=[-24, 24]",
    "distill.targets.views=1",
    "train.distill={epochs: 1, learning_rate: 1e-3, batch_size: 2}",
    "teacher.camera.neck.channels=[8, 16, 24, 16]",
    "student.camera.neck.channels=[16, 8, 4, 4]",
    "student.decoder={kind: second, channels: [32, 48], blocks: 1, out_channels: [16, 32]}",
]


def test_every_stage_runs_on_a_grid_that_is_not_square(chain, tmp_path):
    workspace, config = Workspace(tmp_path / "workspace"), load_config("tiny", None, OVERRIDES)
    shutil.copytree(chain.workspace.root / "prepare", workspace.root / "prepare")
    teacher = train_teacher(TrainTeacherRequest(config), workspace, SILENT)
    extract_teacher(ExtractRequest(config), workspace, SILENT)
    distill(DistillRequest(config, init="none"), workspace, SILENT)
    scored = evaluate(EvaluateRequest(model="crkd", split="val", workers=0), workspace, SILENT)
    assert scored.metrics is not None
    assert scored.artifact.manifest.facts["extent_m"] == 48
    assert visualize(VisualizeRequest(samples=1), workspace, SILENT)

    # The published file of such a model says its grid, and comes back.
    trained = load_trained(teacher.artifact)
    state = export_detector(trained.detector.state_dict(), trained.detector_config, config.data)
    assert state["encoders.camera.vtransform.nx"].tolist() == [128, 64, 1]
    torch.save({"state_dict": state}, tmp_path / "teacher.pth")
    request = ImportRequest(tmp_path / "teacher.pth", "teacher", config, name="again")
    weights = read_tensors(import_weights(request, workspace, SILENT).artifact, WEIGHTS_NAME)
    assert all(torch.equal(weights[key], tensor) for key, tensor in trained.detector.state_dict().items())
    swapped = load_config("tiny", None, [*OVERRIDES, "data.grid.x_range_m=[-24, 24]", "data.grid.y_range_m=[-48, 48]"])
    with pytest.raises(ConfigError, match=r"vtransform\.bx is not what the configuration makes it"):
        import_weights(replace(request, config=swapped, name="swapped"), workspace, SILENT)
