"""The radar branch: points to pillars, a pillar net, a BEV map, and its calibration by distillation.

Source: PointPillars (Lang et al. 2019) with the released code's radar inputs; calibration and radar activation:
CRKD section 3.3.1 (CSRD). Quirk kept because the published weights depend on it: empty point slots take part in the
maximum and in batch norm (`padding: masked` leaves them out).
"""

from itertools import pairwise
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from crkd_core.config.models import RadarBranchConfig
from crkd_core.geometry.grid import BEVGrid
from crkd_core.geometry.sensors import RADAR_FEATURES
from crkd_core.models.layers import SECOND_NORM_MOMENTUM, PointNorm, conv_norm_relu
from crkd_core.ops.voxelize import VoxelGrid, Voxels, voxelize_batch


class PointLayer(nn.Module):
    """Linear, batch norm and ReLU on every point.

    Points are columns: a batch norm then sums along memory, which on a CPU is faster and keeps two decimal digits more.
    """

    def __init__(self, in_channels: int, out_channels: int, norm_momentum: float) -> None:
        super().__init__()
        self.linear = nn.Linear(in_channels, out_channels, bias=False)
        nn.init.kaiming_normal_(self.linear.weight, nonlinearity="relu")
        self.norm = PointNorm(out_channels, norm_momentum)

    def forward(self, x: Float[Tensor, "in n"]) -> Float[Tensor, "out n"]:
        normed: Tensor = self.norm((self.linear.weight @ x)[None])
        return normed[0].relu()


class PillarNet(nn.Module):
    """One feature vector a pillar: layers on its points, then the maximum over the pillar."""

    def __init__(
        self,
        in_channels: int,
        channels: tuple[int, ...],
        grid: BEVGrid,
        masked_padding: bool,
        norm_momentum: float = SECOND_NORM_MOMENTUM,
    ) -> None:
        super().__init__()
        self.grid = grid
        self.masked_padding = masked_padding
        widths = (in_channels + 2, *channels)
        self.layers = nn.Sequential(*(PointLayer(a, b, norm_momentum) for a, b in pairwise(widths)))

    def forward(self, pillars: Voxels) -> Float[Tensor, "m c"]:
        filled = pillars.filled
        if self.masked_padding:
            points: Tensor = self.layers(self.point_features(pillars)[filled].T)  # c points
            rows = torch.nonzero(filled)[:, 0].expand(len(points), -1)
            # After a ReLU zero is below every maximum.
            empty = points.new_zeros((len(points), len(filled)))
            return empty.scatter_reduce(1, rows, points, reduce="amax", include_self=True).T
        features = self.point_features(pillars) * filled[..., None]
        slots: Tensor = self.layers(features.flatten(0, 1).T)  # c m*p
        highest: Tensor = slots.unflatten(1, filled.shape).amax(dim=2)  # c m
        return highest.T

    def point_features(self, pillars: Voxels) -> Float[Tensor, "m p f"]:
        """Positions scaled to 0..1 over the grid, other features as measured, x and y from the pillar's centre (m)."""
        ranges = torch.tensor(
            (self.grid.x_range_m, self.grid.y_range_m, self.grid.z_range_m), device=pillars.features.device
        )
        position, measured = pillars.features[..., :3], pillars.features[..., 3:]
        # In this order the rounding is that of the published code, whose gradients a last bit here would change.
        first_centre = position.new_tensor([lower + self.grid.cell_m / 2 for lower in self.grid.lower_m])
        centre = pillars.coordinates[:, 1:3] * self.grid.cell_m + first_centre
        scaled = (position - ranges[:, 0]) / (ranges[:, 1] - ranges[:, 0])
        return torch.cat([scaled, measured, position[..., :2] - centre[:, None]], dim=-1)


class RadarBranch(nn.Module):
    """Points to a BEV map on the detector's grid and, if calibrated, the radar activation."""

    def __init__(self, config: RadarBranchConfig, grid: BEVGrid, norm_momentum: float = SECOND_NORM_MOMENTUM) -> None:
        super().__init__()
        self.config = config
        self.grid = grid
        lower = (grid.x_range_m[0], grid.y_range_m[0], grid.z_range_m[0])
        size = (grid.cell_m, grid.cell_m, grid.z_range_m[1] - grid.z_range_m[0])
        self.voxel_grid = VoxelGrid(lower, size, (*grid.shape, 1), config.max_points)
        self.pillar_net = PillarNet(RADAR_FEATURES, config.channels, grid, config.padding == "masked", norm_momentum)
        self.out_channels = config.channels[-1]
        self.calibration: nn.Module | None = None
        self.activation: nn.Sequential | None = None
        if config.calibration:
            self.calibration, self.activation = build_calibration(self.out_channels, config.calibration_residual)

    def forward(
        self, radar: list[Float[Tensor, "_ features"]]
    ) -> tuple[Float[Tensor, "b c x y"], Float[Tensor, "b 1 x y"] | None]:
        """BEV map and radar activation (not negative, unless leaking), None without calibration."""
        limit = self.config.max_pillars_train if self.training else self.config.max_pillars_test
        pillars = voxelize_batch(radar, self.voxel_grid, limit)
        bev = scatter_pillars(self.pillar_net(pillars), pillars, self.grid, len(radar))
        if self.calibration is None or self.activation is None:
            return bev, None
        calibrated = self.calibration(bev)
        return calibrated, self.activation(calibrated)

    def leak_activation(self, negative_slope: float) -> None:
        """Let cells whose radar activation is below zero learn too; the activation has no part in detection."""
        if self.activation is not None:
            self.activation[-1] = nn.LeakyReLU(negative_slope) if negative_slope else nn.ReLU()


def build_calibration(channels: int, residual: bool = False) -> tuple[nn.Sequential, nn.Sequential]:
    """Three dilated convolutions after the scatter, and the head that reads the radar activation from their map."""
    layers = (conv_norm_relu(channels, channels, dilation=2, bias=True) for _ in range(3))
    calibration = ResidualCalibration(*layers) if residual else nn.Sequential(*layers)
    return calibration, nn.Sequential(nn.Conv2d(channels, 1, 1, bias=False), nn.ReLU())


class ResidualCalibration(nn.Sequential):
    """Layers whose result is added to the map, which is not negative, before the last ReLU.

    At first they add nothing, so that a student begins with what the plain student has learned. Layers in between, as
    published, throw it into disorder: the detection loss then begins near that of random weights. (Ours.)
    """

    def __init__(self, *layers: nn.Sequential) -> None:
        super().__init__(*layers)
        nn.init.zeros_(layers[-1].get_submodule("1").get_parameter("weight"))

    def forward(self, bev: Float[Tensor, "b c x y"]) -> Float[Tensor, "b c x y"]:
        *first, last = self
        added = bev
        for layer in first:
            added = layer(added)
        convolution, norm, relu = cast(nn.Sequential, last)
        calibrated: Tensor = relu(bev + norm(convolution(added)))
        return calibrated


def scatter_pillars(
    features: Float[Tensor, "m c"], pillars: Voxels, grid: BEVGrid, batch_size: int
) -> Float[Tensor, "b c x y"]:
    """Pillar features on the BEV grid, zero where there is no pillar."""
    nx, ny = grid.shape
    index = grid.flatten(pillars.coordinates[:, 1:3]) + pillars.coordinates[:, 0] * (nx * ny)
    cells = features.new_zeros((batch_size * nx * ny, features.shape[1])).index_copy(0, index, features)
    return cells.view(batch_size, nx, ny, -1).permute(0, 3, 1, 2).contiguous()
