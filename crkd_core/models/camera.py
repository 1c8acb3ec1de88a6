"""The camera branch: images to a BEV map."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from crkd_core.config.data import ImageConfig
from crkd_core.config.models import CameraBranchConfig
from crkd_core.geometry.grid import BEVGrid
from crkd_core.geometry.sensors import CameraRig
from crkd_core.models.backbones import Backbone, build_backbone
from crkd_core.models.backbones.protocol import check_reductions
from crkd_core.models.layers import SECOND_NORM_MOMENTUM
from crkd_core.models.necks import LSSFPN, SecondFPN, build_neck
from crkd_core.models.view_transform import ViewTransform

_FEATURE_STRIDE = 8


class Normalisation(nn.Module):
    """Grey levels to network inputs: ``(value / 255 - mean) / deviation`` of each channel; other floats stay.

    Images pass between processes and to the device as bytes, a quarter of what floats take. The two constants are part
    of the configuration and not of the weights.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, mean: Sequence[float], deviation: Sequence[float]) -> None:
        super().__init__()
        spread = torch.tensor(deviation, dtype=torch.float64)
        shift = torch.tensor(mean, dtype=torch.float64) / spread
        self.register_buffer("scale", (1 / (255 * spread)).float().view(-1, 1, 1), persistent=False)
        self.register_buffer("shift", shift.float().view(-1, 1, 1), persistent=False)

    def forward(self, images: Float[Tensor, "*n c h w"] | UInt8[Tensor, "*n c h w"]) -> Float[Tensor, "*n c h w"]:
        if images.is_floating_point():
            return images
        return images.to(self.scale.dtype) * self.scale - self.shift


class CameraBranch(nn.Module):
    """Normalisation of the images, backbone, neck and view transform.

    Attributes:
        out_channels: channels of the BEV map.
    """

    def __init__(
        self,
        normalisation: Normalisation,
        backbone: Backbone,
        neck: SecondFPN | LSSFPN,
        view_transform: ViewTransform,
    ) -> None:
        super().__init__()
        self.out_channels = view_transform.channels
        self.normalisation = normalisation
        self.backbone = backbone
        self.neck = neck
        self.view_transform = view_transform

    def forward(
        self,
        images: Float[Tensor, "b n 3 h w"] | UInt8[Tensor, "b n 3 h w"],
        rig: CameraRig,
        bev_augmentation: Float[Tensor, "b 4 4"],
        lidar: list[Tensor] | None = None,
    ) -> Float[Tensor, "b channels x y"]:
        batch, cameras = images.shape[:2]
        maps = self.backbone(self.normalisation(images.flatten(0, 1)))  # each b*n c h/reduction w/reduction
        features = self.neck(maps)  # b*n c h/8 w/8
        bev: Tensor = self.view_transform(features.unflatten(0, (batch, cameras)), rig, bev_augmentation, lidar)
        return bev


def build_camera_branch(
    config: CameraBranchConfig,
    grid: BEVGrid,
    image: ImageConfig,
    backbone: Backbone | None = None,
    norm_momentum: float = SECOND_NORM_MOMENTUM,
) -> CameraBranch:
    """The configured camera branch.

    Args:
        backbone: takes the place of the configured one.
        norm_momentum: of the neck's batch norms.

    Raises:
        ConfigError: the backbone's maps do not fit the neck.
    """
    if backbone is None:
        backbone = build_backbone(config.backbone)
    check_reductions(type(backbone).__name__, backbone.reductions)
    neck = build_neck(config.neck, backbone.out_channels, norm_momentum)
    view_transform = ViewTransform(
        config.neck.out_channels,
        config.view_transform,
        grid,
        (image.height_px, image.width_px),
        (-(-image.height_px // _FEATURE_STRIDE), -(-image.width_px // _FEATURE_STRIDE)),
    )
    return CameraBranch(Normalisation(image.mean, image.std), backbone, neck, view_transform)
