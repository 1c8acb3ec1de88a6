"""The BEV decoder: residual stages at 1/2, 1/4 and 1/4, merged back to the full grid."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from crkd_core.config.models import DecoderConfig
from crkd_core.models.layers import conv_norm_relu, upsample_to
from crkd_core.models.resnet import BasicBlock, residual_stage

_STRIDES = (2, 2, 1)


class Decoder(nn.Module):
    """Fused map to decoded map on the same grid, whose sides must be multiples of 4 cells."""

    def __init__(self, in_channels: int, config: DecoderConfig) -> None:
        super().__init__()
        inputs = (in_channels, *config.channels[:2])
        self.stages = nn.ModuleList(
            residual_stage(BasicBlock, before, width, config.blocks, stride)
            for before, width, stride in zip(inputs, config.channels, _STRIDES, strict=True)
        )
        out = config.out_channels
        self.merge = nn.Sequential(
            *conv_norm_relu(config.channels[2] + config.channels[0], out, kernel=1), *conv_norm_relu(out, out)
        )
        self.refine = conv_norm_relu(out, out)

    def forward(self, fused: Float[Tensor, "b c x y"]) -> Float[Tensor, "b out x y"]:
        x = first = self.stages[0](fused)
        for stage in list(self.stages)[1:]:
            x = stage(x)
        x = upsample_to(x, first.shape[2:], align_corners=True)
        merged = self.merge(torch.cat([x, first], dim=1))
        return self.refine(upsample_to(merged, fused.shape[2:], align_corners=True))
