"""Fusers, BEV decoders, head."""

import pytest
import torch

from crkd_core.config.models import DecoderConfig
from crkd_core.models.decoder import build_decoder
from crkd_core.models.fuser import ConvFuser, GatedFuser
from crkd_core.models.head import CenterHead
from tests.support.described import TASKS

RESIDUAL = DecoderConfig(channels=(6, 8, 10), blocks=(1, 2, 1), out_channels=8)
SECOND = DecoderConfig(kind="second", channels=(6, 10), blocks=1, out_channels=8)
DEEP = DecoderConfig(channels=(6, 8, 10, 12), blocks=1, strides=(1, 2, 2, 1), out_channels=8)
DEEP_SECOND = DecoderConfig(kind="second", channels=(6, 8, 10), blocks=1, strides=(1, 2, 2), out_channels=9)


def test_the_plain_fuser_passes_its_inputs_on():
    camera, other = torch.randn(2, 6, 4, 5), torch.randn(2, 10, 4, 5)
    gated_camera, gated_points, fused = ConvFuser(6, 10, 12)(camera, other)
    assert gated_camera is camera
    assert gated_points is other
    assert fused.shape == (2, 12, 4, 5)


def test_each_map_is_gated_by_its_own_convolution_of_both():
    torch.manual_seed(0)
    fuser = GatedFuser(6, 10, 12)
    camera, points = torch.randn(2, 6, 4, 5), torch.randn(2, 10, 4, 5)
    gated_camera, gated_points, fused = fuser(camera, points)
    both = torch.cat([camera, points], dim=1)
    torch.testing.assert_close(gated_camera, camera * fuser.camera_gate(both).sigmoid())
    torch.testing.assert_close(gated_points, points * fuser.points_gate(both).sigmoid())
    torch.testing.assert_close(fused, fuser.fuse(torch.cat([gated_camera, gated_points], dim=1)))


@pytest.mark.parametrize("config", [RESIDUAL, SECOND, DEEP, DEEP_SECOND], ids=lambda config: str(config.channels))
def test_decoded_maps_are_on_the_grid_and_every_layer_learns(config):
    decoder = build_decoder(8, config)
    decoded = decoder(torch.randn(2, 8, 12, 20))
    assert decoded.shape == (2, config.out_channels, 12, 20)
    decoded.square().sum().backward()
    assert all(parameter.grad.any() for parameter in decoder.parameters())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": (6, 8)}, "a residual decoder of 3 strides has 3 stages, found 2 channels"),
        ({"blocks": (1, 1)}, "3 channels and 2 numbers of blocks"),
        ({"kind": "second"}, "a second decoder of 2 strides has 2 stages, found 3 channels"),
        ({"kind": "second", "channels": (6, 10), "out_channels": 7}, "of 2 stages must be a multiple of that"),
        ({"strides": (2, 2)}, "of 2 strides has 2 stages, found 3 channels"),
    ],
)
def test_decoders_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        DecoderConfig(**changes)


def test_heatmap_bias_is_applied():
    head = CenterHead(8, 8, 8, -3.5, TASKS)
    for task in head.tasks:
        assert (task.maps["heatmap_logits"][-1].bias == -3.5).all()
        assert (task.maps["offset"][-1].bias != -3.5).all()
