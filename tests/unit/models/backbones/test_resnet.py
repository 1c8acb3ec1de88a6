"""The residual image backbone."""

import pytest
import torch

from crkd_core.config.models import ResNetConfig
from crkd_core.models.backbones.resnet import ResNet


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_resnet_has_the_usual_strides_and_names(block):
    model = ResNet(ResNetConfig(width=4, block=block, depths=(1, 2, 1, 1)))
    stages = model(torch.rand(1, 3, 64, 96))
    assert [tuple(s.shape[2:]) for s in stages] == [(16, 24), (8, 12), (4, 6), (2, 3)]
    assert tuple(s.shape[1] for s in stages) == model.out_channels
    assert {"conv1.weight", "bn1.running_mean", "layer2.0.downsample.0.weight"} <= set(model.state_dict())
