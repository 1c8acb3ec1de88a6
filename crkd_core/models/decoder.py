"""The BEV decoder: convolutional stages on the fused map, merged back to its grid.

Source: the residual decoder with its LSS-style pyramid is BEVFusion's for cameras, which CRKD uses; SECOND with its
own pyramid is the one of its LiDAR models.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from crkd_core.config.models import DecoderConfig
from crkd_core.models.layers import POINT_NORM_EPS, POINT_NORM_MOMENTUM, conv_norm_relu, norm_relu, upsample_to
from crkd_core.models.resnet import BasicBlock, residual_stage

_STRIDES = (2, 2, 1)
_SECOND_STRIDES = (1, 2)


class Decoder(nn.Module):
    """Residual stages at 1/2, 1/4 and 1/4, the last merged with the first.

    The result is on the grid of the fused map, whose sides must be even.
    """

    def __init__(self, in_channels: int, config: DecoderConfig) -> None:
        super().__init__()
        inputs = (in_channels, *config.channels[:2])
        self.stages = nn.ModuleList(
            residual_stage(BasicBlock, before, width, blocks, stride)
            for before, width, blocks, stride in zip(
                inputs, config.channels, config.blocks_of_stages, _STRIDES, strict=True
            )
        )
        out = config.out_channels
        self.merge = nn.Sequential(
            *conv_norm_relu(config.channels[2] + config.channels[0], out, kernel=1), *conv_norm_relu(out, out)
        )
        self.refine = conv_norm_relu(out, out)

    def forward(self, fused: Float[Tensor, "b c x y"]) -> Float[Tensor, "b out x2 y2"]:
        x = first = self.stages[0](fused)
        for stage in list(self.stages)[1:]:
            x = stage(x)
        x = upsample_to(x, first.shape[2:], align_corners=True)
        merged = self.merge(torch.cat([x, first], dim=1))
        return self.refine(upsample_to(merged, _doubled(first), align_corners=True))


class SecondDecoder(nn.Module):
    """Plain convolutions at full and half resolution, both brought back to the grid and concatenated.

    The result is on the grid of the fused map, whose sides must be even.
    """

    def __init__(self, in_channels: int, config: DecoderConfig) -> None:
        super().__init__()
        inputs = (in_channels, *config.channels[:1])
        self.blocks = nn.ModuleList(
            _plain_stage(before, width, layers, stride)
            for before, width, layers, stride in zip(
                inputs, config.channels, config.blocks_of_stages, _SECOND_STRIDES, strict=True
            )
        )
        full, half = config.channels
        width = config.out_channels // 2
        convs = (
            nn.Conv2d(full, width, 1, bias=False),
            nn.ConvTranspose2d(half, width, 2, stride=2, bias=False),
        )
        self.branches = nn.ModuleList(norm_relu(conv, _norm(width)) for conv in convs)

    def forward(self, fused: Float[Tensor, "b c x y"]) -> Float[Tensor, "b out x2 y2"]:
        full = self.blocks[0](fused)
        half = self.blocks[1](full)
        return torch.cat([self.branches[0](full), self.branches[1](half)], dim=1)


def build_decoder(in_channels: int, config: DecoderConfig) -> Decoder | SecondDecoder:
    """The configured decoder for a fused map of so many channels."""
    return Decoder(in_channels, config) if config.kind == "residual" else SecondDecoder(in_channels, config)


def _plain_stage(in_channels: int, width: int, layers: int, stride: int) -> nn.Sequential:
    """A convolution with the stride and `layers` further ones, each with batch norm and ReLU."""
    strided = norm_relu(nn.Conv2d(in_channels, width, 3, stride=stride, padding=1, bias=False), _norm(width))
    rest = (norm_relu(nn.Conv2d(width, width, 3, padding=1, bias=False), _norm(width)) for _ in range(layers))
    return nn.Sequential(*strided, *(module for layer in rest for module in layer))


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=POINT_NORM_EPS, momentum=POINT_NORM_MOMENTUM)


def _doubled(bev_map: Tensor) -> torch.Size:
    return torch.Size(2 * side for side in bev_map.shape[2:])
