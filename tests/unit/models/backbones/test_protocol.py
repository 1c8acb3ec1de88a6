"""What every image backbone keeps to, and one from outside the package in a detector."""

from typing import get_args

import pytest
import torch
from torch import nn

from crkd_core.config.models import BackboneConfig, TimmConfig
from crkd_core.errors import ConfigError
from crkd_core.models.backbones import Backbone, build_backbone
from crkd_core.models.backbones.protocol import check_reductions
from crkd_core.models.detector import build_detector
from tests.support.described import TASKS
from tests.support.tiny_detector import TINY_DATA, tiny_config, tiny_inputs

# Those of timm have tests of their own.
KINDS = [kind for kind, *_ in map(get_args, get_args(get_args(BackboneConfig)[0])) if kind is not TimmConfig]


class Averages(Backbone):
    """Block averages of the image, and a batch norm with the momentum that SECOND's layers have."""

    def __init__(self, reductions: tuple[int, ...]) -> None:
        super().__init__()
        self.reductions = reductions
        self.out_channels = (3,) * len(reductions)
        self.norm = nn.BatchNorm2d(3, momentum=0.01)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(nn.functional.avg_pool2d(self.norm(images), reduction) for reduction in self.reductions)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(("height", "width"), [(64, 96), (49, 71)])
def test_maps_are_what_the_backbone_says(kind, height, width):
    with torch.device("meta"):
        backbone = build_backbone(kind())
        maps = backbone(torch.rand(2, 3, height, width))
    assert [tuple(level.shape) for level in maps] == [
        (2, channels, -(-height // reduction), -(-width // reduction))
        for channels, reduction in zip(backbone.out_channels, backbone.reductions, strict=True)
    ]
    check_reductions(kind.__name__, backbone.reductions)


def test_a_backbone_from_outside_takes_the_place_of_the_configured_one():
    detector = build_detector(tiny_config(("camera", "radar")), TINY_DATA, TASKS, Averages((4, 8, 16, 32)))
    assert isinstance(detector.camera.backbone, Averages)
    detector(tiny_inputs()).features.fused.sum().backward()
    assert detector.camera.backbone.norm.weight.grad.any()


def test_backbones_that_do_not_fit_are_refused():
    config = tiny_config(("camera", "radar"))
    with pytest.raises(ConfigError, match=r"need maps at 1/8, 1/16 and 1/32 of the image, and Averages has 1/4, 1/8"):
        build_detector(config, TINY_DATA, TASKS, Averages((4, 8)))
    with pytest.raises(ConfigError, match="merges four stages and this backbone gives 3"):
        build_detector(config, TINY_DATA, TASKS, Averages((8, 16, 32)))
    with pytest.raises(ConfigError, match="a detector of radar has no image backbone"):
        build_detector(tiny_config(("radar",)), TINY_DATA, TASKS, Averages((4, 8, 16, 32)))


def test_norm_momentum_reaches_the_layers_it_is_meant_for_and_no_others():
    config = tiny_config(("camera", "radar"), norm_momentum=0.07)
    detector = build_detector(config, TINY_DATA, TASKS, Averages((4, 8, 16, 32)))
    momentum = {
        name: module.momentum
        for name, module in detector.named_modules()
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)
    }
    assert momentum["camera.backbone.norm"] == 0.01
    assert momentum["camera.neck.branches.0.1"] == momentum["radar.pillar_net.layers.0.norm"] == 0.07
    assert momentum["head.shared.1"] == momentum["decoder.stages.0.0.bn1"] == 0.1
