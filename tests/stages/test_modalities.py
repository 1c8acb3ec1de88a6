"""Every modality set goes through the stages: it trains, its weights come back, it detects, and it distils."""

import pytest
import torch

from crkd_core.artifacts.shards import read_tensors
from crkd_core.config.loading import load_config
from crkd_core.config.schema import Config
from crkd_core.data.dataset import SampleDataset
from crkd_core.data.samples import collate
from crkd_core.datasets.prepared.source import open_prepared
from crkd_core.errors import ConfigError
from crkd_core.evaluation.inference import detect
from crkd_core.progress import SilentProgress
from crkd_core.stages.distill import DistillRequest, distill
from crkd_core.stages.extract_teacher import ExtractRequest, extract_teacher
from crkd_core.stages.train_teacher import TrainTeacherRequest, train_teacher
from crkd_core.training.trained import WEIGHTS_NAME, load_trained
from tests.support.chain import CHAIN_OVERRIDES

SILENT = SilentProgress()
SHORT = (
    *CHAIN_OVERRIDES,
    "data.train_fraction=0.5",
    "train.distill.epochs=1",
    "distill.targets.views=1",
    "student.head.nms.score_threshold=0.0",
    "teacher.head.nms.score_threshold=0.0",
)
LIDAR_ALONE = ("teacher.modalities=[lidar]", "distill.msfd.camera_weight=0")
CAMERA_ALONE = ("student.modalities=[camera]", "distill.losses=[msfd, reld, respd]", "distill.msfd.fused_weight=0")


def short_config(*overrides: str) -> Config:
    return load_config("tiny", None, [*SHORT, *overrides])


def check_export_and_detection(artifact, workspace) -> None:
    """The written weights are what is loaded, and the loaded detector finds boxes in a sample."""
    model = load_trained(artifact)
    written = read_tensors(artifact, WEIGHTS_NAME)
    loaded = model.detector.state_dict()
    assert loaded.keys() == written.keys()
    assert all(torch.equal(loaded[name], written[name]) for name in written)
    config, modalities = model.config, model.detector_config.modalities
    prepared = open_prepared(workspace, None, None, config.data, modalities, "test")
    tokens = prepared.tokens("val")[:1]
    batch = collate([SampleDataset(prepared, tokens, config.data, modalities, bev=None, seed=0)[(0, 0)]])
    nms, cpu = model.detector_config.head.nms, torch.device("cpu")
    (((token, detections),),) = detect(model.detector, [batch], config.data.grid.build(), nms, cpu, "fp32")
    assert token == tokens[0]
    assert len(detections.scores) > 0
    assert detections.boxes.tensor.isfinite().all()


@pytest.mark.parametrize("modalities", ["lidar", "camera, lidar"])
def test_teachers_train_come_back_and_detect(chain, tmp_path, modalities):
    copy = chain.copy(tmp_path)
    config = short_config(f"teacher.modalities=[{modalities}]")
    result = train_teacher(TrainTeacherRequest(config, name="short"), copy.workspace, SILENT)
    assert result.steps == 1
    check_export_and_detection(result.artifact, copy.workspace)


def test_a_teacher_of_lidar_alone_trains_on_pasted_objects_and_is_extracted_without(chain, tmp_path):
    copy = chain.copy(tmp_path)
    paste = ("data.paste_teacher.enabled=true", "data.paste_teacher.min_points=1")
    config = short_config(*LIDAR_ALONE, *paste)
    losses = {}
    for name, chosen in (("pasted", config), ("plain", short_config(*LIDAR_ALONE))):
        losses[name] = train_teacher(TrainTeacherRequest(chosen, name=name), copy.workspace, SILENT).losses
    assert losses["pasted"] != losses["plain"]
    extract_teacher(ExtractRequest(config, teacher="pasted", name="without"), copy.workspace, SILENT)


@pytest.mark.parametrize(
    ("modalities", "fuser"),
    [("camera", "gated"), ("radar", "gated"), ("camera, radar", "gated"), ("camera, radar", "conv")],
)
def test_students_train_come_back_and_detect(chain, tmp_path, modalities, fuser):
    copy = chain.copy(tmp_path)
    config = short_config(f"student.modalities=[{modalities}]", f"student.fuser.kind={fuser}")
    result = distill(DistillRequest(config, losses=(), init="none", name="short"), copy.workspace, SILENT)
    assert result.steps == 1
    check_export_and_detection(result.artifact, copy.workspace)


@pytest.mark.parametrize(
    ("overrides", "terms"),
    [
        ((*LIDAR_ALONE, "distill.msfd.fused_weight=0"), {"csrd", "reld", "respd"}),
        ((*LIDAR_ALONE, "teacher.lidar.out_channels=16"), {"csrd", "msfd_fused", "reld", "respd"}),
        (CAMERA_ALONE, {"msfd_camera", "reld", "respd"}),
    ],
    ids=["lidar-teaches-camera-radar", "lidar-of-equal-width-teaches-camera-radar", "lidar-camera-teaches-camera"],
)
def test_other_teachers_teach_other_students(chain, tmp_path, overrides, terms):
    copy = chain.copy(tmp_path)
    config = short_config(*overrides)
    train_teacher(TrainTeacherRequest(config, force=True), copy.workspace, SILENT)
    extract_teacher(ExtractRequest(config, force=True), copy.workspace, SILENT)
    result = distill(DistillRequest(config, init="none", name="short"), copy.workspace, SILENT)
    named = {name.removeprefix("loss/") for name in result.losses if name.startswith("loss/")}
    assert {name for name in named if "/" not in name} - {"total"} == terms
    check_export_and_detection(result.artifact, copy.workspace)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("student.modalities=[camera]",), "take csrd out"),
        (("student.modalities=[radar]",), "camera_weight to 0"),
        (("student.modalities=[camera]", "distill.losses=[msfd, reld, respd]"), "fused_weight to 0"),
    ],
)
def test_losses_that_a_student_cannot_have_are_refused(chain, overrides, words):
    request = DistillRequest(short_config(*overrides), teacher="online", init="none", name="refused")
    with pytest.raises(ConfigError, match=words):
        distill(request, chain.workspace, SILENT)
    assert "refused" not in chain.workspace.partial_names("distill")


def test_targets_that_a_teacher_cannot_give_are_refused(chain, tmp_path):
    copy = chain.copy(tmp_path)
    config = short_config("teacher.modalities=[lidar]")
    train_teacher(TrainTeacherRequest(config, force=True), copy.workspace, SILENT)
    with pytest.raises(ConfigError, match=r"teacher\.modalities are lidar; set distill\.msfd\.camera_weight to 0"):
        extract_teacher(ExtractRequest(config, name="refused"), copy.workspace, SILENT)
    assert "refused" not in copy.workspace.partial_names("extract-teacher")


def test_depth_lss_needs_lidar():
    with pytest.raises(ConfigError, match="depth_lss needs lidar"):
        short_config("student.camera.view_transform.kind=depth_lss")
    with pytest.raises(ConfigError, match="depth_lss needs lidar"):
        short_config("teacher.modalities=[camera]")
