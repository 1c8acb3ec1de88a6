"""Image backbones of timm."""

import importlib.util
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest
import torch
from torch import nn

from crkd_core.config.models import CameraBranchConfig, CameraNeckConfig, TimmConfig
from crkd_core.errors import ConfigError
from crkd_core.models.backbones import build_backbone
from crkd_core.models.necks import build_neck


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
    assert model.reductions == (4, 8, 16, 32)
    assert model.out_channels == (40, 80, 160, 320)
    assert [maps.shape[2] for maps in model(torch.rand(1, 3, 64, 64))] == [16, 8, 4, 2]
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
