"""How the camera map and the point map become one.

Source: CRKD section 3.2. ``G1 = F1 * sigmoid(Conv1([F1, F2]))``, ``G2 = F2 * sigmoid(Conv2([F1, F2]))``,
``fused = ReLU(BN(Conv([G1, G2])))``; the plain fuser (BEVFusion) leaves the gates out.
"""

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from crkd_core.config.models import FuserConfig
from crkd_core.models.layers import conv_norm_relu


class GatedFuser(nn.Module):
    """Each map is gated, per cell and channel, by what both maps say there."""

    def __init__(self, camera_channels: int, points_channels: int, out_channels: int) -> None:
        super().__init__()
        both = camera_channels + points_channels
        self.camera_gate = nn.Conv2d(both, camera_channels, 3, padding=1)
        self.points_gate = nn.Conv2d(both, points_channels, 3, padding=1)
        self.fuse = conv_norm_relu(both, out_channels)

    def forward(
        self, camera: Float[Tensor, "b c1 x y"], points: Float[Tensor, "b c2 x y"]
    ) -> tuple[Float[Tensor, "b c1 x y"], Float[Tensor, "b c2 x y"], Float[Tensor, "b fused x y"]]:
        """Gated camera map, gated point map, fused map."""
        both = torch.cat([camera, points], dim=1)
        # One convolution, which reads the maps once; published weights have the two apart.
        weight = torch.cat([self.camera_gate.weight, self.points_gate.weight])
        bias = torch.cat([cast(Tensor, self.camera_gate.bias), cast(Tensor, self.points_gate.bias)])
        gated = both * nn.functional.conv2d(both, weight, bias, padding=1).sigmoid()
        gated_camera, gated_points = gated.split([camera.shape[1], points.shape[1]], dim=1)
        return gated_camera, gated_points, self.fuse(gated)


class ConvFuser(nn.Module):
    """One convolution on the concatenated maps."""

    def __init__(self, camera_channels: int, points_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = conv_norm_relu(camera_channels + points_channels, out_channels)

    def forward(
        self, camera: Float[Tensor, "b c1 x y"], points: Float[Tensor, "b c2 x y"]
    ) -> tuple[Float[Tensor, "b c1 x y"], Float[Tensor, "b c2 x y"], Float[Tensor, "b fused x y"]]:
        """The camera map and the point map as they came, and the fused map."""
        return camera, points, self.conv(torch.cat([camera, points], dim=1))


def build_fuser(config: FuserConfig, camera_channels: int, points_channels: int) -> GatedFuser | ConvFuser:
    """The configured fuser."""
    kind = GatedFuser if config.kind == "gated" else ConvFuser
    return kind(camera_channels, points_channels, config.channels)
