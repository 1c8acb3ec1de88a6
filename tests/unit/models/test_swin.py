"""The Swin Transformer and the backbones of timm."""

import importlib.util
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from crkd_core.config.models import (
    CameraBranchConfig,
    CameraNeckConfig,
    ResNetConfig,
    SwinConfig,
    TimmConfig,
)
from crkd_core.config.train import RunConfig, TrainConfig
from crkd_core.errors import ConfigError
from crkd_core.models.backbones import TimmBackbone, build_backbone
from crkd_core.models.necks import build_neck
from crkd_core.models.resnet import ResNet
from crkd_core.models.swin import DropPath, SwinTransformer, foreign_tokens, merge_windows, split_windows
from crkd_core.training.schedule import build_optimizer

TINY = SwinConfig(embed_dims=8, depths=(2, 2, 2, 2), heads=(1, 2, 4, 8))


def test_maps_have_strides_8_16_32_of_any_image_size():
    model = SwinTransformer(TINY)
    for height, width in ((64, 96), (50, 70)):
        maps = model(torch.rand(2, 3, height, width))
        tokens = [(-(-height // 4), -(-width // 4))]
        for _ in range(3):
            tokens.append((-(-tokens[-1][0] // 2), -(-tokens[-1][1] // 2)))
        assert [tuple(found.shape) for found in maps] == [
            (2, channels, *size) for channels, size in zip(model.out_channels, tokens[1:], strict=True)
        ]
    assert model.out_channels == (16, 32, 64)


def test_every_parameter_learns_and_position_tables_are_not_decayed():
    model = SwinTransformer(TINY)
    sum(found.square().sum() for found in model(torch.rand(1, 3, 64, 96))).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    tables = [name for name, _ in model.named_parameters() if name.endswith("relative_position_bias_table")]
    assert len(tables) == 8
    detector = nn.ModuleDict({"camera": nn.ModuleDict({"backbone": model})})
    groups = build_optimizer(detector, RunConfig(backbone_multiplier=0.1), TrainConfig()).param_groups
    undecayed = [group for group in groups if group["weight_decay"] == 0]
    assert [len(group["params"]) for group in undecayed] == [8]
    assert {group["lr"] for group in groups} == {2e-5}


def test_windows_are_put_back_where_they_were():
    maps = torch.arange(2 * 6 * 9 * 4).view(2, 6, 9, 4).float()
    windows = split_windows(maps, 3)
    assert windows.shape == (2, 6, 9, 4)
    assert torch.equal(windows[0, 1], maps[0, :3, 3:6].reshape(9, 4))
    assert torch.equal(merge_windows(windows, 6, 9), maps)


def test_tokens_across_the_wrapped_border_do_not_see_each_other():
    foreign = foreign_tokens(6, 6, 3, 1, torch.device("cpu"))
    assert foreign.shape == (4, 9, 9)
    # Only the window at the lower right border was wrapped in both directions.
    assert [int(window.sum()) for window in foreign] == [0, 36, 36, 56]
    assert torch.equal(foreign, foreign.transpose(1, 2))
    # In the first row the last column came round from the left.
    assert foreign[1, 0].tolist() == [False, False, True] * 3


def test_a_change_reaches_its_own_window_only_and_shifted_ones_next():
    block = SwinTransformer(TINY).eval().double().stages[0]
    tokens = torch.rand(1, 14, 14, 8, dtype=torch.float64)
    changed = tokens.clone()
    changed[0, 3, 3, 0] += 1
    with torch.no_grad():
        alone = (block[0](changed) - block[0](tokens)).abs().sum(-1)[0] > 0
        shifted = (block[1](changed) - block[1](tokens)).abs().sum(-1)[0] > 0
    assert alone[:7, :7].all()
    assert not alone[7:].any()
    assert not alone[:, 7:].any()
    # Shifted by 3, this token shares a window with rows and columns 3 to 9.
    assert shifted[3:10, 3:10].all()
    assert int(shifted.sum()) == 49


def test_stochastic_depth_drops_whole_samples_and_keeps_the_mean():
    torch.manual_seed(0)
    drop = DropPath(0.25)
    out = drop(torch.ones(4000, 2, 2, 1))
    kept = out[:, 0, 0, 0] > 0
    assert torch.equal(out, torch.where(kept, 1 / 0.75, 0.0).view(-1, 1, 1, 1).expand_as(out))
    assert abs(float(out.mean()) - 1) < 0.05
    assert torch.equal(drop.eval()(torch.ones(3, 2, 2, 1)), torch.ones(3, 2, 2, 1))


def test_stochastic_depth_grows_linearly_and_only_while_training():
    model = SwinTransformer(TINY.model_copy(update={"drop_path": 0.7}))
    rates = [block.drop_path.rate for stage in model.stages for block in stage]
    assert rates == pytest.approx([0.1 * block for block in range(8)])
    images = torch.rand(1, 3, 32, 32)
    torch.manual_seed(0)
    first, second = model(images)[-1], model(images)[-1]
    assert not torch.equal(first, second)
    model.eval()
    assert torch.equal(model(images)[-1], model(images)[-1])


def test_autocast_is_finite_and_near_float32():
    torch.manual_seed(0)
    model = SwinTransformer(TINY).eval()
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        exact = model(images)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = model(images)
    for found, expected in zip(rough, exact, strict=True):
        assert (found.float() - expected).abs().max() < 0.1 * expected.abs().max()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"backbone": {"kind": "swin"}}, "three; use lss_fpn"),
        (
            {"backbone": {"kind": "swin", "heads": [5, 6, 12, 24]}, "neck": {"kind": "lss_fpn"}},
            "multiple of its 5 heads",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes, words):
    with pytest.raises(ValidationError, match=words):
        CameraBranchConfig.model_validate(changes)


def test_the_kind_chooses_the_backbone_and_resnet_is_the_default():
    kinds = {"resnet": ResNetConfig, "swin": SwinConfig, "timm": TimmConfig}
    for kind, expected in kinds.items():
        values = {"backbone": {"kind": kind, **({"name": "x"} if kind == "timm" else {})}, "neck": {"kind": "lss_fpn"}}
        assert type(CameraBranchConfig.model_validate(values).backbone) is expected
    assert CameraBranchConfig.model_validate({"backbone": {"width": 16}}).backbone == ResNetConfig(width=16)
    assert CameraBranchConfig().backbone == ResNetConfig()
    assert isinstance(build_backbone(ResNetConfig(width=4, depths=(1, 1, 1, 1))), ResNet)
    assert isinstance(build_backbone(TINY), SwinTransformer)


def test_absent_timm_names_the_extra(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install crkd\[timm\]"):
        build_backbone(TimmConfig(name="convnext_atto"))


class FakeInfo:
    """What a timm model says of its maps."""

    def __init__(self, reductions: list[int]) -> None:
        self.reductions = reductions

    def reduction(self) -> list[int]:
        return self.reductions

    def channels(self) -> list[int]:
        return [10 * reduction for reduction in self.reductions]


class FakeModel(nn.Module):
    """A feature extractor of timm that downsamples only."""

    def __init__(self, reductions: list[int]) -> None:
        super().__init__()
        self.feature_info = FakeInfo(reductions)

    def forward(self, images):
        return [nn.functional.avg_pool2d(images, reduction) for reduction in self.feature_info.reductions]


@pytest.fixture
def fake_timm(monkeypatch) -> ModuleType:
    """A stand-in for timm with three models."""
    reductions = {"five_maps": [2, 4, 8, 16, 32], "three_maps": [8, 16, 32], "plain": [16, 16, 16]}

    def create_model(name, features_only, pretrained, out_indices=None):
        assert features_only
        assert not pretrained
        if name not in reductions:
            raise RuntimeError(f"Unknown model ({name})")
        chosen = reductions[name]
        return FakeModel(chosen if out_indices is None else [chosen[index] for index in out_indices])

    module = ModuleType("timm")
    module.create_model = create_model
    module.__spec__ = ModuleSpec("timm", None)
    monkeypatch.setitem(sys.modules, "timm", module)
    return module


@pytest.mark.usefixtures("fake_timm")
def test_timm_maps_are_chosen_by_their_stride():
    model = build_backbone(TimmConfig(name="five_maps"))
    assert isinstance(model, TimmBackbone)
    assert model.out_channels == (40, 80, 160, 320)
    assert [found.shape[2] for found in model(torch.rand(1, 3, 64, 64))] == [16, 8, 4, 2]
    assert build_backbone(TimmConfig(name="three_maps")).out_channels == (80, 160, 320)


@pytest.mark.usefixtures("fake_timm")
def test_unusable_timm_models_are_refused():
    with pytest.raises(ConfigError, match=r"needs? maps at 1/8, 1/16 and 1/32 of the image, and plain has 1/16"):
        build_backbone(TimmConfig(name="plain"))
    with pytest.raises(ConfigError, match=r"cannot build the image backbone 'resnext'.*Unknown model"):
        build_backbone(TimmConfig(name="resnext"))


def test_a_real_timm_model_fits_the_neck():
    pytest.importorskip("timm", reason="timm is optional and not installed")
    config = CameraBranchConfig(backbone=TimmConfig(name="resnet18"), neck=CameraNeckConfig(channels=16))
    backbone = build_backbone(config.backbone)
    assert build_neck(config.neck, backbone.out_channels)(backbone(torch.rand(1, 3, 64, 64))).shape == (1, 16, 8, 8)
