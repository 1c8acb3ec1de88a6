"""The LiDAR branch: points to voxels, a sparse 3D encoder, and the heights stacked into channels of a BEV map.

Source: SECOND (Yan et al. 2018) as used by CenterPoint and BEVFusion. Points stay in float32: the released code
rounds them to half precision before it voxelises.
"""

from jaxtyping import Float
from torch import Tensor, nn

from crkd_core.config.models import LidarBranchConfig
from crkd_core.errors import ConfigError
from crkd_core.geometry.grid import BEVGrid
from crkd_core.geometry.sensors import LIDAR_FEATURES
from crkd_core.models.layers import SECOND_NORM_MOMENTUM, PointNorm
from crkd_core.ops.sparse_conv import SparseConv3d, SparseTensor, SubmanifoldConv3d, Triple, output_shape
from crkd_core.ops.voxelize import VoxelGrid, voxelize_batch

_OUT_KERNEL: Triple = (1, 1, 3)
_OUT_STRIDE: Triple = (1, 1, 2)


class SparseConvNorm(nn.Module):
    """A sparse convolution, batch norm over the active sites, ReLU."""

    def __init__(self, conv: SubmanifoldConv3d | SparseConv3d, momentum: float) -> None:
        super().__init__()
        self.conv = conv
        self.norm = PointNorm(conv.weight.shape[-1], momentum)

    def forward(self, x: SparseTensor) -> SparseTensor:
        x = self.conv(x)
        return x.with_features(self.norm(x.features).relu())


class SparseBasicBlock(nn.Module):
    """Two submanifold convolutions and a shortcut."""

    def __init__(self, channels: int, momentum: float) -> None:
        super().__init__()
        self.conv1 = SubmanifoldConv3d(channels, channels)
        self.norm1 = PointNorm(channels, momentum)
        self.conv2 = SubmanifoldConv3d(channels, channels)
        self.norm2 = PointNorm(channels, momentum)

    def forward(self, x: SparseTensor) -> SparseTensor:
        out: SparseTensor = self.conv1(x)
        out = out.with_features(self.norm1(out.features).relu())
        out = self.conv2(out)
        return out.with_features((self.norm2(out.features) + x.features).relu())


class SparseEncoder(nn.Module):
    """Voxel features to a BEV map at 1 / 2^(stages - 1) of the voxels' resolution.

    Attributes:
        out_channels: channels of the map: those of the last convolution times the heights left.
    """

    def __init__(
        self,
        in_channels: int,
        config: LidarBranchConfig,
        spatial_shape: Triple,
        norm_momentum: float = SECOND_NORM_MOMENTUM,
    ) -> None:
        super().__init__()
        self.spatial_shape = spatial_shape
        self.stem = SparseConvNorm(SubmanifoldConv3d(in_channels, config.stem_channels), norm_momentum)
        self.stages = nn.ModuleList()
        channels, shape = config.stem_channels, spatial_shape
        for index, layers in enumerate(config.stage_channels):
            last = index == len(config.stage_channels) - 1
            blocks = layers if last else layers[:-1]
            if set(blocks) - {channels}:
                raise ConfigError(
                    f"lidar.stage_channels: the residual blocks of stage {index} must have the {channels} channels "
                    f"that enter it, found {blocks}; only a stage's last, strided layer may change them"
                )
            stage: list[nn.Module] = [SparseBasicBlock(channels, norm_momentum) for _ in blocks]
            if not last:
                padding: Triple = (1, 1, 0) if index == len(config.stage_channels) - 2 else (1, 1, 1)
                stage.append(SparseConvNorm(SparseConv3d(channels, layers[-1], padding=padding), norm_momentum))
                channels, shape = layers[-1], output_shape(shape, (3, 3, 3), (2, 2, 2), padding)
            self.stages.append(nn.Sequential(*stage))
        last_conv = SparseConv3d(channels, config.out_channels, _OUT_KERNEL, _OUT_STRIDE, (0, 0, 0))
        self.out = SparseConvNorm(last_conv, norm_momentum)
        heights = output_shape(shape, _OUT_KERNEL, _OUT_STRIDE, (0, 0, 0))[2]
        if heights < 1:
            raise ConfigError(
                f"lidar.voxel_m: {spatial_shape[2]} voxels of height are too few for the strides of the LiDAR encoder; "
                "lower the voxel height or widen data.grid.z_range_m"
            )
        self.out_channels = config.out_channels * heights

    def forward(self, voxels: SparseTensor) -> Float[Tensor, "b c x y"]:
        x = self.stem(voxels)
        for stage in self.stages:
            x = stage(x)
        dense: Tensor = self.out(x).dense()  # b c x y z
        # Channel c * heights + z, the order the published weights of the fuser expect.
        return dense.permute(0, 1, 4, 2, 3).flatten(1, 2)


class LidarBranch(nn.Module):
    """Points to a BEV map on the detector's grid."""

    def __init__(self, config: LidarBranchConfig, grid: BEVGrid, norm_momentum: float = SECOND_NORM_MOMENTUM) -> None:
        super().__init__()
        self.config = config
        stride = 2 ** (len(config.stage_channels) - 1)
        for size, axis in zip(config.voxel_m, "xy", strict=False):
            if abs(size * stride - grid.cell_m) > 1e-6:
                raise ConfigError(
                    f"lidar.voxel_m: the voxel size in {axis} times the encoder's stride {stride} must be the BEV cell "
                    f"size of {grid.cell_m} m, found {size} m x {stride} = {size * stride:g} m; "
                    f"set it to {grid.cell_m / stride:g}"
                )
        heights = round((grid.z_range_m[1] - grid.z_range_m[0]) / config.voxel_m[2])
        nx, ny = (cells * stride for cells in grid.shape)
        lower = (grid.x_range_m[0], grid.y_range_m[0], grid.z_range_m[0])
        self.voxel_grid = VoxelGrid(lower, config.voxel_m, (nx, ny, heights), config.max_points)
        # One more layer of (always empty) voxels on top than the range holds: the published strides count on it.
        self.encoder = SparseEncoder(LIDAR_FEATURES, config, (nx, ny, heights + 1), norm_momentum)
        self.out_channels = self.encoder.out_channels

    def forward(self, lidar: list[Float[Tensor, "_ features"]]) -> Float[Tensor, "b c x y"]:
        limit = self.config.max_voxels_train if self.training else self.config.max_voxels_test
        voxels = voxelize_batch(lidar, self.voxel_grid, limit)
        mean = voxels.mean()
        features = mean * mean.new_tensor(self.config.feature_scales)
        sparse = SparseTensor.build(features, voxels.coordinates, self.encoder.spatial_shape, len(lidar))
        bev: Tensor = self.encoder(sparse)
        return bev
