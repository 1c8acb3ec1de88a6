"""The Swin Transformer."""

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from crkd_core.config.models import (
    CameraBranchConfig,
    ResNetConfig,
    SwinConfig,
    TimmConfig,
)
from crkd_core.config.train import RunConfig, TrainConfig
from crkd_core.models.backbones import build_backbone
from crkd_core.models.backbones.resnet import ResNet
from crkd_core.models.backbones.swin import DropPath, SwinTransformer, foreign_tokens, merge_windows, split_windows
from crkd_core.training.schedule import build_optimizer

TINY = SwinConfig(embed_dims=8, depths=(2, 2, 2, 2), heads=(1, 2, 4, 8))


def test_maps_have_strides_8_16_32_of_any_image_size():
    model = SwinTransformer(TINY)
    for height, width in ((64, 96), (50, 70)):
        maps = model(torch.rand(2, 3, height, width))
        tokens = [(-(-height // 4), -(-width // 4))]
        for _ in range(3):
            tokens.append((-(-tokens[-1][0] // 2), -(-tokens[-1][1] // 2)))
        assert [tuple(level.shape) for level in maps] == [
            (2, channels, *size) for channels, size in zip(model.out_channels, tokens[1:], strict=True)
        ]
    assert model.out_channels == (16, 32, 64)


def test_every_parameter_learns_and_position_tables_are_not_decayed():
    model = SwinTransformer(TINY)
    sum(level.square().sum() for level in model(torch.rand(1, 3, 64, 96))).backward()
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
    for level, expected in zip(rough, exact, strict=True):
        assert (level.float() - expected).abs().max() < 0.1 * expected.abs().max()


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
