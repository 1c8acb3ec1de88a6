"""The camera branch: images to a BEV map."""

from jaxtyping import Float
from torch import Tensor, nn

from crkd_core.config.data import ImageConfig
from crkd_core.config.models import CameraBranchConfig
from crkd_core.geometry.grid import BEVGrid
from crkd_core.geometry.sensors import CameraRig
from crkd_core.models.backbones import build_backbone
from crkd_core.models.necks import build_neck
from crkd_core.models.view_transform import ViewTransform

_FEATURE_STRIDE = 8


class CameraBranch(nn.Module):
    """Backbone, neck and view transform."""

    def __init__(self, config: CameraBranchConfig, grid: BEVGrid, image: ImageConfig) -> None:
        super().__init__()
        self.out_channels = config.view_transform.channels
        self.backbone = build_backbone(config.backbone)
        self.neck = build_neck(config.neck, self.backbone.out_channels)
        self.view_transform = ViewTransform(
            config.neck.out_channels,
            config.view_transform,
            grid,
            (image.height_px, image.width_px),
            (-(-image.height_px // _FEATURE_STRIDE), -(-image.width_px // _FEATURE_STRIDE)),
        )

    def forward(
        self,
        images: Float[Tensor, "b n 3 h w"],
        rig: CameraRig,
        bev_augmentation: Float[Tensor, "b 4 4"],
        lidar: list[Tensor] | None = None,
    ) -> Float[Tensor, "b channels x y"]:
        batch, cameras = images.shape[:2]
        features = self.neck(self.backbone(images.flatten(0, 1)))
        return self.view_transform(features.unflatten(0, (batch, cameras)), rig, bev_augmentation, lidar)
