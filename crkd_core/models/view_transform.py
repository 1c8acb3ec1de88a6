"""Lift, splat: image features become a BEV map.

Every pixel predicts how likely its ray ends in each depth bin; its feature, weighted so, is summed into the BEV
cells its frustum points fall into. With ``depth_lss`` a sparse image of LiDAR depths helps to predict the depth.

Geometry is computed in float32 without matrix multiplications, which autocast and TF32 would round: at 60 m a
half-precision coordinate is wrong by centimetres.

Source: Philion and Fidler 2020 (LSS); Liu et al. 2023 (BEVFusion). Cells are found by floor: the released code
truncates and so pools points up to one cell below the lower borders. Its only cell in z is 20 m high, so that its
heights of -10 to 10 m really pool -30 to 10 m: with its weights, ``z_range_m`` must say so.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from crkd_core.config.models import ViewTransformConfig
from crkd_core.errors import CrkdError
from crkd_core.geometry.grid import BEVGrid
from crkd_core.geometry.sensors import CameraRig
from crkd_core.models.layers import conv_norm_relu
from crkd_core.ops.bev_pool import bev_pool

_DEPTH_FEATURES = 64
_NEAREST_DEPTH_M = 1e-5
# On a CPU: what is computed from so many points, for six cameras, stays in a processor's cache.
_POINTS_A_BLOCK = 8192


class ViewTransform(nn.Module):
    """Image features at 1/8 to a BEV map on the detector's grid.

    Attributes:
        pool_grid: the cells that are pooled into; half the detector's cell size if the map is downsampled afterwards.
    """

    frustum: Tensor

    def __init__(
        self,
        in_channels: int,
        config: ViewTransformConfig,
        grid: BEVGrid,
        image_size_px: tuple[int, int],
        feature_size: tuple[int, int],
    ) -> None:
        super().__init__()
        self.channels = config.channels
        self.z_range_m = config.z_range_m
        self.image_size_px = image_size_px
        self.pool_grid = grid.with_cell(grid.cell_m / config.downsample)
        depth_bins = config.depth_bins
        depths = config.depth_range_m[0] + config.depth_step_m * torch.arange(depth_bins)
        self.register_buffer("frustum", make_frustum(depths, image_size_px, feature_size), persistent=False)
        out_channels = depth_bins + config.channels
        self.depth_encoder = depth_encoder() if config.kind == "depth_lss" else None
        self.depth_net: nn.Module
        if config.kind == "depth_lss":
            self.depth_net = nn.Sequential(
                *conv_norm_relu(in_channels + _DEPTH_FEATURES, in_channels, bias=True),
                *conv_norm_relu(in_channels, in_channels, bias=True),
                nn.Conv2d(in_channels, out_channels, 1),
            )
        else:
            self.depth_net = nn.Conv2d(in_channels, out_channels, 1)
        self.downsample = downsample_stack(config.channels) if config.downsample == 2 else None

    def forward(
        self,
        features: Float[Tensor, "b n c h w"],
        rig: CameraRig,
        bev_augmentation: Float[Tensor, "b 4 4"],
        lidar: list[Tensor] | None,
    ) -> Float[Tensor, "b channels x y"]:
        """`lidar` is needed for depth_lss only; its points are as :class:`SensorInputs` has them.

        Raises:
            CrkdError: images of another size than configured, or no LiDAR points for depth_lss.
        """
        batch, cameras = features.shape[:2]
        if features.shape[3:] != self.frustum.shape[1:3]:
            raise CrkdError(
                f"the view transform expects image features of {tuple(self.frustum.shape[1:3])} (data.image), found "
                f"{tuple(features.shape[3:])}; feed images of the configured size"
            )
        pixels = features.flatten(0, 1)
        if self.depth_encoder is not None:
            if lidar is None:
                raise CrkdError("the view transform depth_lss needs LiDAR points, but the batch has none; load them")
            depths = lidar_depth_image(lidar, rig, bev_augmentation, self.image_size_px)
            pixels = torch.cat([self.depth_encoder(depths.flatten(0, 1)), pixels], dim=1)
        depth_logits, lifted = self.depth_net(pixels).split([len(self.frustum), self.channels], dim=1)
        probability = depth_logits.float().softmax(dim=1)

        cells = self.cells(rig, bev_augmentation)
        nx, ny = self.pool_grid.shape
        pooled = bev_pool(lifted, probability, cells.view(batch * cameras, *cells.shape[2:]), batch * nx * ny)
        bev = pooled.view(batch, nx, ny, self.channels).permute(0, 3, 1, 2).contiguous()
        return bev if self.downsample is None else self.downsample(bev)

    @torch.no_grad()
    def cells(self, rig: CameraRig, bev_augmentation: Float[Tensor, "b 4 4"]) -> torch.Tensor:
        """(B, N, D, h, w) flat cell of every frustum point, counted through the whole batch; -1 off the grid."""
        points = frustum_points(self.frustum, rig, bev_augmentation)
        cells, inside = self.pool_grid.locate(points[..., :2])
        inside &= (points[..., 2] >= self.z_range_m[0]) & (points[..., 2] < self.z_range_m[1])
        nx, ny = self.pool_grid.shape
        sample = torch.arange(len(points), device=points.device).view(-1, 1, 1, 1, 1)
        return torch.where(inside, self.pool_grid.flatten(cells) + sample * (nx * ny), -1)


def make_frustum(
    depths_m: Float[Tensor, "d"], image_size_px: tuple[int, int], feature_size: tuple[int, int]
) -> Float[Tensor, "d h w 3"]:
    """u, v (px of the network's input image) and depth (m) of every feature pixel and depth bin.

    As in the published models the first and last feature pixels sit on the first and last image pixels.
    """
    v = torch.linspace(0, image_size_px[0] - 1, feature_size[0])
    u = torch.linspace(0, image_size_px[1] - 1, feature_size[1])
    d, v, u = torch.meshgrid(depths_m.float(), v, u, indexing="ij")
    return torch.stack([u, v, d], dim=-1)


def frustum_points(
    frustum: Float[Tensor, "d h w 3"], rig: CameraRig, bev_augmentation: Float[Tensor, "b 4 4"]
) -> Float[Tensor, "b n d h w 3"]:
    """The frustum's points in the (augmented) model frame, in metres."""
    with torch.autocast(frustum.device.type, enabled=False):
        source_from_input = rig.image_augmentation.double().inverse()
        augmented_from_camera = bev_augmentation.double()[:, None] @ rig.lidar_from_camera.double()
        rays = rig.intrinsics.double().inverse()
        model_from_ray = augmented_from_camera.clone()
        model_from_ray[..., :3, :3] = augmented_from_camera[..., :3, :3] @ rays
        u, v, depth = _transform(source_from_input.float()[..., :3, :], frustum.flatten(0, 2).unbind(dim=1))
        points = _transform(model_from_ray.float()[..., :3, :], (u * depth, v * depth, depth))
    # The coordinates stay apart in memory: with the three of a point side by side, what follows takes twice as long.
    return torch.stack(points).view(3, *points[0].shape[:2], *frustum.shape[:3]).movedim(0, -1)


@torch.no_grad()
def lidar_depth_image(
    lidar: list[Tensor],
    rig: CameraRig,
    bev_augmentation: Float[Tensor, "b 4 4"],
    image_size_px: tuple[int, int],
) -> Float[Tensor, "b n 1 h w"]:
    """Depth (m) of the LiDAR point seen by each pixel of the input images, 0 where there is none.

    The BEV augmentation is undone first. If several points fall into one pixel the last in point order counts, on
    every device; points behind a camera do not.
    """
    # A sample with fewer points is filled up with some that no camera sees.
    clouds = [points[:, :3].float() for points in lidar]
    points = nn.utils.rnn.pad_sequence(clouds, batch_first=True, padding_value=torch.nan)
    points = points.movedim(2, 0).contiguous()[:, :, None]
    block = _POINTS_A_BLOCK if points.device.type == "cpu" else points.shape[3]
    projections, augmentations = _projections(rig, bev_augmentation), rig.image_augmentation.float()
    parts = [_seen_points(part, projections, augmentations, image_size_px) for part in points.split(block, dim=3)]
    pixel, depth = (torch.cat(part) for part in zip(*parts, strict=True))
    shape = (*projections.shape[:2], 1, *image_size_px)
    # The points of a pixel are listed in point order.
    last = torch.full((math.prod(shape),), -1, device=pixel.device)
    last = last.scatter_reduce(0, pixel, torch.arange(len(pixel), device=pixel.device), reduce="amax")
    hit = torch.nonzero(last >= 0).flatten()
    image = torch.zeros(last.shape, device=pixel.device)
    image[hit] = depth[last[hit]]
    return image.view(shape)


def _projections(rig: CameraRig, bev_augmentation: Tensor) -> Tensor:
    """(B, N, 4, 4): augmented model frame to homogeneous source pixels times depth."""
    with torch.autocast(bev_augmentation.device.type, enabled=False):
        camera_from_augmented = (bev_augmentation.double()[:, None] @ rig.lidar_from_camera.double()).inverse()
        projections = camera_from_augmented.clone()
        projections[..., :3, :] = rig.intrinsics.double() @ camera_from_augmented[..., :3, :]
    return projections.float()


def _seen_points(
    points: Float[Tensor, "xyz b 1 p"],
    projections: Float[Tensor, "b n 4 4"],
    augmentations: Float[Tensor, "b n 4 4"],
    image_size_px: tuple[int, int],
) -> tuple[Int[Tensor, "seen"], Float[Tensor, "seen"]]:
    """Flat pixel, counted through all images, and depth (m) of what each camera sees, image by image in point order."""
    height, width = image_size_px
    u, v, depth = _transform(projections[..., :3, :], points)  # each b n p
    distance = depth.clamp(min=_NEAREST_DEPTH_M)
    u, v = _transform(augmentations[..., :2, :], (u / distance, v / distance, depth))
    seen = (depth > _NEAREST_DEPTH_M) & (u >= 0) & (u < width) & (v >= 0) & (v < height)
    index = torch.nonzero(seen.flatten()).flatten()
    u, v, depth = (values.flatten().index_select(0, index) for values in (u, v, depth))
    image = torch.div(index, points.shape[3], rounding_mode="floor")
    return (image * height + v.long()) * width + u.long(), depth


def _transform(matrices: Float[Tensor, "*images rows 4"], xyz: Sequence[Tensor] | Tensor) -> list[Tensor]:
    """Coordinates (..., P) of points by theirs, as plain multiplications and additions in the points' precision.

    Args:
        matrices: the first three rows, or two for two coordinates, of homogeneous transforms.
    """
    x, y, z = xyz
    return [
        (row[..., :1] * x).add_(row[..., 1:2] * y).add_(row[..., 2:3] * z).add_(row[..., 3:])
        for row in matrices.unbind(dim=-2)
    ]


def depth_encoder() -> nn.Sequential:
    """Depth image to 64 features at 1/8 of its size."""
    return nn.Sequential(
        *conv_norm_relu(1, 8, kernel=1, bias=True),
        *conv_norm_relu(8, 32, kernel=5, stride=4, bias=True),
        *conv_norm_relu(32, _DEPTH_FEATURES, kernel=5, stride=2, bias=True),
    )


def downsample_stack(channels: int) -> nn.Sequential:
    """Three convolutions, the middle one of stride 2."""
    return nn.Sequential(
        *conv_norm_relu(channels, channels),
        *conv_norm_relu(channels, channels, stride=2),
        *conv_norm_relu(channels, channels),
    )
