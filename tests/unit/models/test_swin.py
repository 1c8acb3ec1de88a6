"""The Swin Transformer and the backbones of timm."""

import importlib.util
import sys
from dataclasses import replace
from types import ModuleType

import pytest
import torch
from golden_cases import TruncatingGrid, load_case, load_published, relative_error

from crkd_core.config.data import DataConfig, GridConfig, ImageConfig
from crkd_core.config.models import (
    CameraBranchConfig,
    CameraNeckConfig,
    DecoderConfig,
    DetectorConfig,
    FuserConfig,
    HeadConfig,
    LidarBranchConfig,
    RadarBranchConfig,
    SwinConfig,
    TimmConfig,
    ViewTransformConfig,
)
from crkd_core.errors import ConfigError
from crkd_core.evaluation.decode import decode_detections
from crkd_core.geometry.sensors import SensorInputs
from crkd_core.models.backbones import TimmBackbone, build_backbone
from crkd_core.models.detector import build_detector
from crkd_core.models.necks import LSSFPN
from crkd_core.models.swin import DropPath, SwinTransformer, foreign_tokens, merge_windows, split_windows
from crkd_core.weights.naming import our_name
from crkd_core.weights.published import import_detector

PREFIX = "encoders.camera.backbone."
TINY = SwinConfig(embed_dims=8, depths=(2, 2, 2, 2), heads=(1, 2, 4, 8))


def load_recorded(model: SwinTransformer, state: dict[str, torch.Tensor]) -> None:
    renamed = {our_name(PREFIX + key).removeprefix("camera.backbone."): value for key, value in state.items()}
    for key in [key for key in renamed if key.endswith("relative_position_index")]:
        assert torch.equal(model.get_buffer(key), renamed.pop(key))
    model.load_state_dict(renamed)


def test_four_stages_agree_with_published():
    case = load_case("swin_narrow")
    model = SwinTransformer(SwinConfig(embed_dims=12, depths=(2, 2, 2, 2), heads=(2, 2, 4, 4))).eval()
    load_recorded(model, case.under("param/"))
    with torch.no_grad():
        maps = model(case["in/x"])
    for index, found in enumerate(maps):
        assert relative_error(found, case[f"out/{index}"]) < 1e-4


def test_two_stages_agree_with_published():
    case = load_case("swin_2stage")
    config = SwinConfig.model_construct(embed_dims=24, depths=(2, 2), heads=(3, 6), window=7, drop_path=0.2)
    model = SwinTransformer(config).eval()
    state = case.under("param/")
    norm = (state.pop("norm0.weight"), state.pop("norm0.bias"))
    load_recorded(model, state)
    first = []
    model.stages[0].register_forward_hook(lambda module, inputs, output: first.append(output))
    with torch.no_grad():
        (second,) = model(case["in/x"])
    assert relative_error(second, case["out/1"]) < 1e-4
    normed = torch.nn.functional.layer_norm(first[0], norm[0].shape, *norm)
    assert relative_error(normed.permute(0, 3, 1, 2), case["out/0"]) < 1e-4


def test_neck_gradients_agree_with_published():
    case = load_case("neck_generalized_lssfpn")
    model = LSSFPN((6, 8, 10), 7)
    load_published(model, case.under("param/"), "encoders.camera.neck.", "camera.neck.")
    middle = []
    model.smooth_middle.register_forward_hook(lambda module, inputs, output: middle.append(output))
    inputs = [x.requires_grad_() for x in case.list("in/x")]
    out = model(tuple(inputs))
    ((out * case["in/cotangent0"]).sum() + (middle[0] * case["in/cotangent1"]).sum()).backward()
    for x, expected in zip(inputs, case.list("grad/x"), strict=True):
        assert relative_error(x.grad, expected) < 1e-3


@pytest.mark.parametrize("name", ["e2e_student_swin_eval", "e2e_teacher_swin_eval"])
def test_whole_detector_agrees_with_published(name):
    case = load_case(name)
    teacher = "teacher" in name
    view = {"channels": 8, "z_range_m": (-30.0, 10.0)}
    if teacher:
        view |= {"kind": "depth_lss", "depth_step_m": 0.5, "downsample": 2}
    settings = case.config["model"]["encoders"]["camera"]["backbone"]
    config = DetectorConfig(
        modalities=("camera", "lidar") if teacher else ("camera", "radar"),
        camera=CameraBranchConfig(
            backbone=SwinConfig(
                embed_dims=settings["embed_dims"], depths=settings["depths"], heads=settings["num_heads"]
            ),
            neck=CameraNeckConfig(kind="lss_fpn", channels=24),
            view_transform=ViewTransformConfig(**view),
        ),
        lidar=LidarBranchConfig(
            stem_channels=6, stage_channels=((6, 6, 8), (8, 8, 12), (12, 12, 16), (16, 16)), out_channels=10
        ),
        radar=RadarBranchConfig(channels=(12, 12, 12, 16)),
        fuser=FuserConfig(channels=16),
        decoder=DecoderConfig(channels=(12, 16, 24), out_channels=16),
        head=HeadConfig(shared_channels=12),
    )
    half = case["out/fused"].shape[2] * 0.3
    height, width = case["in/img"].shape[3:]
    data = DataConfig(
        grid=GridConfig(x_range_m=(-half, half), y_range_m=(-half, half)),
        # The recorded images are half a coarse token wide: Swin pads them.
        image=ImageConfig.model_construct(height_px=height, width_px=width),
    )
    detector = build_detector(config, data)
    detector.load_state_dict(import_detector(case.under("param/"), config, data))
    view_transform = detector.eval().camera.view_transform
    view_transform.pool_grid = TruncatingGrid(**vars(view_transform.pool_grid))
    inputs = SensorInputs(
        images=case["in/img"],
        rig=case.rig(),
        lidar=case.list("in/points") or None,
        radar=case.list("in/radar") or None,
        bev_augmentation=case["in/lidar_aug_matrix"],
    )
    with torch.no_grad():
        out = detector(inputs)
        neck = detector.camera.neck(detector.camera.backbone(inputs.images.flatten(0, 1)))
    assert relative_error(neck, case["out/camera_neck0"]) < 1e-4
    assert relative_error(out.features.points, case["out/other_bev"]) < 1e-4
    assert relative_error(out.features.camera, case["out/camera_bev"]) < 1e-4
    assert relative_error(out.features.fused, case["out/fused"]) < 1e-4
    for ours, expected in zip(out.head.tasks, case.head("out/head/").tasks, strict=True):
        assert relative_error(ours.regression, expected.regression) < 1e-4
        assert relative_error(ours.heatmap_logits, expected.heatmap_logits) < 1e-4
    for index, detections in enumerate(decode_detections(out.head, data.grid.build(), HeadConfig().nms)):
        assert torch.equal(detections.labels, case[f"out/img{index}/labels"].long())
        assert torch.allclose(detections.scores, case[f"out/img{index}/scores"], atol=1e-4)
