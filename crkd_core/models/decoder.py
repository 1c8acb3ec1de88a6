"""The BEV decoder: convolutional stages on the fused map, merged back to its grid.

Source: the residual decoder with its LSS-style pyramid is BEVFusion's for cameras, which CRKD uses; SECOND with its
own pyramid is the one of its LiDAR models.
"""

from itertools import accumulate
from operator import mul

import torch
from jaxtyping import Float
from torch import Tensor, nn

from crkd_core.config.models import DecoderConfig
from crkd_core.models.backbones.resnet import BasicBlock, residual_stage
from crkd_core.models.layers import SECOND_NORM_MOMENTUM, conv_norm_relu, norm_relu, second_norm, upsample_to


class Decoder(nn.Module):
    """Residual stages (as published at 1/2, 1/4 and 1/4), the last merged with the first.

    The result is on the grid of the fused map, whose sides must be multiples of the first stride.
    """

    def __init__(self, in_channels: int, config: DecoderConfig) -> None:
        super().__init__()
        strides = config.strides_of_stages
        self.scale = strides[0]
        inputs = (in_channels, *config.channels[:-1])
        self.stages = nn.ModuleList(
            residual_stage(BasicBlock, before, width, blocks, stride)
            for before, width, blocks, stride in zip(
                inputs, config.channels, config.blocks_of_stages, strides, strict=True
            )
        )
        out = config.map_channels
        self.merge = nn.Sequential(
            *conv_norm_relu(config.channels[-1] + config.channels[0], out, kernel=1), *conv_norm_relu(out, out)
        )
        self.refine = conv_norm_relu(out, out)

    def forward(self, fused: Float[Tensor, "b c x y"]) -> Float[Tensor, "b out x2 y2"]:
        x = first = self.stages[0](fused)
        for stage in list(self.stages)[1:]:
            x = stage(x)
        x = upsample_to(x, first.shape[2:], align_corners=True)
        merged = self.merge(torch.cat([x, first], dim=1))
        size = torch.Size(self.scale * side for side in first.shape[2:])
        refined: Tensor = self.refine(upsample_to(merged, size, align_corners=True))
        return refined


class SecondDecoder(nn.Module):
    """Stages of plain convolutions (as published at full and half resolution), all brought back and concatenated.

    The result is on the grid of the fused map, whose sides must be multiples of the strides' product.
    """

    def __init__(self, in_channels: int, config: DecoderConfig, norm_momentum: float) -> None:
        super().__init__()
        strides = config.strides_of_stages
        inputs = (in_channels, *config.channels[:-1])
        self.blocks = nn.ModuleList(
            _plain_stage(before, width, layers, stride, norm_momentum)
            for before, width, layers, stride in zip(
                inputs, config.channels, config.blocks_of_stages, strides, strict=True
            )
        )
        self.branches = nn.ModuleList(
            norm_relu(_enlarging(channels, width, scale), second_norm(width, norm_momentum))
            for channels, width, scale in zip(
                config.channels, config.out_channels_of_stages, accumulate(strides, mul), strict=True
            )
        )

    def forward(self, fused: Float[Tensor, "b c x y"]) -> Float[Tensor, "b out x2 y2"]:
        merged, x = [], fused
        for stage, branch in zip(self.blocks, self.branches, strict=True):
            x = stage(x)
            merged.append(branch(x))
        return torch.cat(merged, dim=1)


def build_decoder(
    in_channels: int, config: DecoderConfig, norm_momentum: float = SECOND_NORM_MOMENTUM
) -> Decoder | SecondDecoder:
    """The configured decoder for a fused map of so many channels.

    Args:
        norm_momentum: of the batch norms of a second decoder; a residual one has torch's.
    """
    if config.kind == "residual":
        return Decoder(in_channels, config)
    return SecondDecoder(in_channels, config, norm_momentum)


def _plain_stage(in_channels: int, width: int, layers: int, stride: int, norm_momentum: float) -> nn.Sequential:
    """A convolution with the stride and `layers` further ones, each with batch norm and ReLU."""

    def layer(before: int, stride: int) -> nn.Sequential:
        conv = nn.Conv2d(before, width, 3, stride=stride, padding=1, bias=False)
        return norm_relu(conv, second_norm(width, norm_momentum))

    return nn.Sequential(*layer(in_channels, stride), *(part for _ in range(layers) for part in layer(width, 1)))


def _enlarging(channels: int, width: int, scale: int) -> nn.Conv2d | nn.ConvTranspose2d:
    """A convolution to `scale` times the size."""
    if scale == 1:
        return nn.Conv2d(channels, width, 1, bias=False)
    return nn.ConvTranspose2d(channels, width, scale, stride=scale, bias=False)
