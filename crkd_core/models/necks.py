"""Feature pyramids that merge an image backbone's stages into one map at 1/8 of the input size."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from crkd_core.config.models import CameraNeckConfig
from crkd_core.errors import ConfigError
from crkd_core.models.layers import SECOND_NORM_MOMENTUM, conv_norm_relu, norm_relu, second_norm, upsample_to


class SecondFPN(nn.Module):
    """Brings the stages at 1/4, 1/8, 1/16 and 1/32 to 1/8, each to its own number of channels, concatenated."""

    def __init__(
        self, in_channels: tuple[int, int, int, int], out_channels: tuple[int, ...], norm_momentum: float
    ) -> None:
        super().__init__()
        convs = (
            nn.Conv2d(in_channels[0], out_channels[0], 2, stride=2, bias=False),
            nn.ConvTranspose2d(in_channels[1], out_channels[1], 1, bias=False),
            nn.ConvTranspose2d(in_channels[2], out_channels[2], 2, stride=2, bias=False),
            nn.ConvTranspose2d(in_channels[3], out_channels[3], 4, stride=4, bias=False),
        )
        self.branches = nn.ModuleList(norm_relu(conv, second_norm(conv.out_channels, norm_momentum)) for conv in convs)

    def forward(self, stages: tuple[Float[Tensor, "b _ _ _"], ...]) -> Float[Tensor, "b c h w"]:
        return torch.cat([branch(stage) for branch, stage in zip(self.branches, stages, strict=True)], dim=1)


class LSSFPN(nn.Module):
    """Adds coarser stages to finer ones, top down, from 1/32 over 1/16 to 1/8; the finest stage, 1/4, is not used."""

    def __init__(self, in_channels: tuple[int, int, int], out_channels: int) -> None:
        super().__init__()
        fine, middle, coarse = in_channels
        self.lateral_middle = conv_norm_relu(middle + coarse, out_channels, kernel=1)
        self.smooth_middle = conv_norm_relu(out_channels, out_channels)
        self.lateral_fine = conv_norm_relu(fine + out_channels, out_channels, kernel=1)
        self.smooth_fine = conv_norm_relu(out_channels, out_channels)

    def forward(self, stages: tuple[Float[Tensor, "b _ _ _"], ...]) -> Float[Tensor, "b c h w"]:
        fine, middle, coarse = stages[-3:]
        coarse = upsample_to(coarse, middle.shape[2:], align_corners=False)
        middle = self.smooth_middle(self.lateral_middle(torch.cat([middle, coarse], dim=1)))
        middle = upsample_to(middle, fine.shape[2:], align_corners=False)
        merged: Tensor = self.smooth_fine(self.lateral_fine(torch.cat([fine, middle], dim=1)))
        return merged


def build_neck(
    config: CameraNeckConfig, in_channels: tuple[int, ...], norm_momentum: float = SECOND_NORM_MOMENTUM
) -> SecondFPN | LSSFPN:
    """The configured pyramid on a backbone's stages, finest first.

    Args:
        norm_momentum: of the batch norms of a second_fpn; an lss_fpn has torch's.

    Raises:
        ConfigError: a second_fpn has not four stages, or channels that they cannot share equally.
    """
    if config.kind == "second_fpn":
        if len(in_channels) != 4:
            raise ConfigError(
                f"the neck second_fpn merges four stages and this backbone gives {len(in_channels)}; set "
                "camera.neck.kind=lss_fpn"
            )
        if config.out_channels != sum(config.channels_of_stages):
            raise ConfigError(
                "camera.neck.channels of a second_fpn, four stages, must be a multiple of 4 or a list of four, found "
                f"{config.channels}"
            )
        finest, same, coarse, coarsest = in_channels
        return SecondFPN((finest, same, coarse, coarsest), config.channels_of_stages, norm_momentum)
    fine, middle, coarse = in_channels[-3:]
    return LSSFPN((fine, middle, coarse), config.out_channels)
