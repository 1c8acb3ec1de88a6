"""Small building blocks that several parts of a detector share."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

# Batch norms over points, pillars, voxels and of the SECOND-style layers; others have torch's defaults. The published
# weights depend on the first number and were trained with the second, which `norm_momentum` of a detector replaces.
SECOND_NORM_EPS = 1e-3
SECOND_NORM_MOMENTUM = 0.01


def second_norm(channels: int, momentum: float = SECOND_NORM_MOMENTUM) -> nn.BatchNorm2d:
    """Batch norm of the SECOND-style layers."""
    return nn.BatchNorm2d(channels, eps=SECOND_NORM_EPS, momentum=momentum)


class PointNorm(nn.BatchNorm1d):
    """Batch normalisation of feature vectors [N, C] or [N, C, P], of which there may be few.

    Fewer than two vectors have no statistics: they are normalised by the running ones, so that a sample without
    points does not stop a training run.
    """

    def __init__(self, channels: int, momentum: float = SECOND_NORM_MOMENTUM) -> None:
        super().__init__(channels, eps=SECOND_NORM_EPS, momentum=momentum)

    def forward(self, x: Float[Tensor, "n c *slots"]) -> Float[Tensor, "n c *slots"]:
        if self.training and x.numel() < 2 * self.num_features:
            return nn.functional.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.eps
            )
        return super().forward(x)


def conv_norm_relu(
    in_channels: int,
    out_channels: int,
    kernel: int = 3,
    stride: int = 1,
    dilation: int = 1,
    bias: bool = False,
) -> nn.Sequential:
    """Convolution that keeps the size (up to its stride), batch norm, ReLU."""
    conv = nn.Conv2d(
        in_channels,
        out_channels,
        kernel,
        stride=stride,
        padding=dilation * (kernel - 1) // 2,
        dilation=dilation,
        bias=bias,
    )
    return norm_relu(conv, nn.BatchNorm2d(out_channels))


def norm_relu(conv: nn.Conv2d | nn.ConvTranspose2d, norm: nn.Module) -> nn.Sequential:
    """A convolution, initialised for the ReLU that follows it, its norm and the ReLU."""
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return nn.Sequential(conv, norm, nn.ReLU(inplace=True))


def upsample_to(x: Float[Tensor, "b c h w"], size: torch.Size, align_corners: bool) -> Float[Tensor, "b c h2 w2"]:
    """Bilinear resampling to a height and width."""
    return nn.functional.interpolate(x, size=tuple(size), mode="bilinear", align_corners=align_corners)
