"""Published detectors in and out."""

import pytest
import safetensors.torch
import torch

from crkd_core.config import load_config
from crkd_core.config.models import (
    BackboneConfig,
    CameraBranchConfig,
    CameraNeckConfig,
    DetectorConfig,
    SwinConfig,
    TimmConfig,
)
from crkd_core.errors import ConfigError
from crkd_core.models.detector import build_detector
from crkd_core.weights.naming import our_name
from crkd_core.weights.published import check_exportable, export_detector, import_detector, published_constants
from crkd_core.weights.recognise import recognise
from tests.support.described import NUSCENES, TASKS
from tests.support.published_models import MODELS, TINY, load_model, random_state, tiny_published, tiny_weights


@pytest.mark.parametrize("name", MODELS)
def test_published_models_are_recognised(name):
    assert recognise(load_model(name).shapes).model == name


def test_a_full_size_student_comes_back_bit_for_bit():
    model = load_model("student_r50")
    detector, data = model.detector("student"), model.config.data
    published = random_state(model.shapes, model.types) | published_constants(detector, data)
    weights = import_detector(published, detector, data, NUSCENES)
    with torch.device("meta"):
        build_detector(detector, data, TASKS).load_state_dict(weights, assign=True)
    back = export_detector(weights, detector, data)
    assert back.keys() == published.keys()
    assert all(torch.equal(back[key], published[key]) and back[key].dtype == published[key].dtype for key in back)


@pytest.mark.parametrize("layout", ["spconv1", "spconv2"])
def test_both_layouts_of_sparse_convolutions_come_back_bit_for_bit(layout):
    weights = tiny_weights("teacher")
    published = export_detector(weights, TINY.teacher, TINY.data, layout)
    shape = published["encoders.lidar.backbone.conv_input.0.weight"].shape
    channels = TINY.teacher.lidar.stem_channels
    assert shape == {"spconv1": (3, 3, 3, 5, channels), "spconv2": (channels, 3, 3, 3, 5)}[layout]
    back = import_detector(published, TINY.teacher, TINY.data, NUSCENES)
    assert list(back) == list(weights)
    assert all(torch.equal(back[key], weights[key]) for key in weights)


def test_sparse_layouts_mean_the_same_numbers():
    spconv1 = tiny_published("teacher")["encoders.lidar.backbone.conv_input.0.weight"]
    spconv2 = export_detector(tiny_weights("teacher"), TINY.teacher, TINY.data, "spconv2")
    key = "encoders.lidar.backbone.conv_input.0.weight"
    assert spconv2[key][7, 0, 1, 2, 3] == spconv1[0, 1, 2, 3, 7]


def test_every_kind_of_misfit_is_listed_with_its_published_name():
    state = tiny_published("student")
    removed = [key for key in state if key.startswith("fuser.") and key.endswith("weight")]
    for key in removed:
        del state[key]
    state["aux_head.weight"] = torch.zeros(1)
    state["heads.object.shared_conv.conv.weight"] = torch.zeros(2, 2, 3, 3)
    with pytest.raises(ConfigError) as caught:
        import_detector(state, TINY.student, TINY.data, NUSCENES)
    message = str(caught.value)
    assert f"{len(removed)} missing (" in message
    assert removed[0] in message
    assert "and 1 more)" in message
    assert "1 unexpected (aux_head.weight)" in message
    assert "1 of another shape (heads.object.shared_conv.conv.weight (2, 2, 3, 3) instead of (16, " in message


def test_absent_batch_counters_are_zero_and_half_precision_becomes_single():
    state = {key: tensor for key, tensor in tiny_published("student").items() if "num_batches_tracked" not in key}
    key = "heads.object.shared_conv.conv.weight"
    state[key] = state[key].half()
    weights = import_detector(state, TINY.student, TINY.data, NUSCENES)
    counters = [tensor for name, tensor in weights.items() if name.endswith("num_batches_tracked")]
    assert len(counters) > 10
    assert not any(counters)
    assert weights[our_name(key)].dtype == torch.float32


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ("data.grid.x_range_m=[-24, 24]", "bx"),
        ("data.grid.cell_m=0.8", "dx"),
        ("student.camera.view_transform.z_range_m=[-5, 5]", "dx"),
        ("student.camera.view_transform.depth_range_m=[2, 50]", "frustum"),
        ("data.image.width_px=256", "frustum"),
    ],
)
def test_weights_of_another_grid_are_refused(change, key):
    other = load_config("tiny", None, [change])
    with pytest.raises(ConfigError, match=rf"vtransform\.{key} is not what the configuration makes it"):
        import_detector(tiny_published("student"), other.student, other.data, NUSCENES)


def test_constants_have_the_published_values():
    config = load_config("paper-swint")
    constants = published_constants(config.teacher, config.data)
    view = "encoders.camera.vtransform."
    assert torch.allclose(constants[f"{view}dx"], torch.tensor([0.3, 0.3, 20.0]))
    assert torch.allclose(constants[f"{view}bx"], torch.tensor([-53.85, -53.85, 0.0]))
    assert constants[f"{view}nx"].tolist() == [360, 360, 1]
    assert constants[f"{view}frustum"][-1, -1, -1].tolist() == [703.0, 255.0, 59.5]
    lidar_only = config.teacher.model_copy(update={"modalities": ("lidar",)})
    assert published_constants(lidar_only, config.data) == {}


def with_backbone(backbone: BackboneConfig) -> DetectorConfig:
    camera = CameraBranchConfig(
        backbone=backbone,
        neck=CameraNeckConfig(kind="lss_fpn", channels=8),
        view_transform=TINY.student.camera.view_transform,
    )
    return TINY.student.model_copy(update={"camera": camera})


@pytest.mark.parametrize(
    ("detector", "words"),
    [
        (
            TINY.student.model_copy(update={"modalities": ("radar",)}),
            "camera with LiDAR or radar, and this one has radar",
        ),
        (with_backbone(TimmConfig(name="resnet18")), "resnet or swin image backbone, and this one has timm"),
    ],
)
def test_detectors_of_other_parts_than_the_published_are_not_exportable(detector, words):
    with pytest.raises(ConfigError, match=words):
        check_exportable(detector)


def test_tensors_without_a_published_name_are_not_exported():
    weights = tiny_weights("student") | {"head.quality.weight": torch.zeros(1)}
    with pytest.raises(ConfigError, match=r"no part for 1 of its tensors \(head\.quality\.weight\)"):
        export_detector(weights, TINY.student, TINY.data)


def test_a_swin_detector_can_be_written_as_safetensors():
    detector = with_backbone(SwinConfig(embed_dims=4, heads=(1, 1, 2, 2)))
    weights = build_detector(detector, TINY.data, TASKS).state_dict()
    file = safetensors.torch.save(export_detector(weights, detector, TINY.data))
    back = import_detector(safetensors.torch.load(file), detector, TINY.data, NUSCENES)
    assert list(back) == list(weights)
    assert all(torch.equal(back[key], weights[key]) for key in weights)
