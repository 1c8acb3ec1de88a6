"""Telling from tensor names which model a file holds, and where in it."""

import pytest
import torch

from crkd_core.errors import UsageError
from crkd_core.weights.recognise import recognise

RESNET = ["conv1.weight", "layer1.0.conv1.weight"]
SWINS = {
    "official_swin": ["patch_embed.proj.weight", "layers.0.blocks.0.attn.qkv.weight"],
    "mmdet_swin": ["patch_embed.projection.weight", "stages.0.blocks.0.attn.w_msa.qkv.weight"],
    "torchvision_swin": ["features.0.0.weight", "features.1.0.attn.qkv.weight"],
}
BACKBONES = {"torchvision_resnet": RESNET, **SWINS}
DETECTORS = {
    "teacher_r50": ["encoders.camera.backbone.conv1.weight", "encoders.lidar.backbone.a", "heads.object.b"],
    "student_swint": ["encoders.camera.backbone.patch_embed.projection.weight", "encoders.radar.backbone.a"],
    "student_r50": ["encoders.camera.backbone.conv1.weight", "encoders.radar.backbone.a", "heads.object.b"],
    "distill_r50": ["encoders_student.camera.backbone.conv1.weight", "encoders.camera.backbone.conv1.weight"],
}


def under(prefix, names):
    return [prefix + name for name in names]


@pytest.mark.parametrize("prefix", ["", "backbone.", "img_backbone.", "model.backbone.", "encoders.camera.backbone."])
@pytest.mark.parametrize("model", BACKBONES)
def test_backbones_are_recognised_wherever_they_are(model, prefix):
    names = under(prefix, BACKBONES[model])
    recognised = recognise([*names, "neck.a.weight"], "backbone")
    assert (recognised.model, recognised.role, recognised.prefix) == (model, "backbone", prefix)
    state = {name: torch.tensor(float(index)) for index, name in enumerate([*names, "neck.a.weight"])}
    taken, note = recognised.take(state)
    if prefix:
        assert list(taken) == BACKBONES[model]
        assert note == f"taken: {prefix}* (2 tensors); left out: neck (1)"
    else:
        assert (taken, note) == (state, "")


@pytest.mark.parametrize("prefix", ["", "model.", "model.detector."])
@pytest.mark.parametrize("model", DETECTORS)
def test_detectors_are_recognised_wherever_they_are(model, prefix):
    recognised = recognise([*under(prefix, DETECTORS[model]), "criterion.weight"], "teacher")
    assert (recognised.model, recognised.prefix) == (model, prefix)


def test_a_student_with_calibration_was_distilled():
    names = DETECTORS["student_r50"]
    assert recognise(names).role == "student"
    recognised = recognise([*names, "encoders.radar.backbone.caliber.0.weight"])
    assert (recognised.role, recognised.model, recognised.is_distiller) == ("distilled", "student_r50", False)
    assert recognise(DETECTORS["distill_r50"]).is_distiller


def test_several_detectors_are_refused():
    names = DETECTORS["student_r50"]
    with pytest.raises(UsageError, match=r"holds 2 detectors \(student\.\*, teacher\.\*\)"):
        recognise([*under("student.", names), *under("teacher.", names)])


@pytest.mark.parametrize("prefix", ["", "img_backbone."])
def test_a_backbone_alone_is_one_whatever_it_is_wanted_for(prefix):
    assert recognise(under(prefix, RESNET), "teacher").role == "backbone"


def test_another_detector_says_what_of_it_can_be_used():
    names = [*under("img_backbone.", RESNET), "img_neck.a", "pts_bbox_head.b", "pts_bbox_head.c"]
    with pytest.raises(UsageError, match=r"of its 5 tensors 2 are an image backbone \(img_backbone\.\*\), which --as "
                       r"backbone takes, and 3 fit no part of CRKD \(pts_bbox_head, img_neck\)"):  # fmt: skip
        recognise(names, "teacher")
    assert recognise(names, "backbone").prefix == "img_backbone."


def test_several_backbones_are_refused():
    names = [*under("encoder_q.", RESNET), *under("encoder_k.", RESNET)]
    with pytest.raises(UsageError, match=r"holds 2 image backbones \(encoder_k\.\*, encoder_q\.\*\)"):
        recognise(names, "backbone")


@pytest.mark.parametrize(
    "names",
    [
        ["a"],
        ["encoders.lidar.backbone.conv_input.0.weight"],
        ["encoders.camera.backbone.other.weight", "encoders.radar.x.weight"],
        ["pts_middle_encoder.conv_input.0.weight", "pts_backbone.blocks.0.0.weight", "pts_bbox_head.a"],
        ["mylayer1.0.conv1.weight", "myconv1.weight"],
    ],
)
@pytest.mark.parametrize("role", [None, "teacher", "backbone"])
def test_unknown_models_are_refused(names, role):
    with pytest.raises(UsageError, match="of no known model"):
        recognise(names, role)
