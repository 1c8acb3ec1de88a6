"""Voxels and the sparse encoder."""

import pytest
import torch

from crkd_core.config.models import LidarBranchConfig
from crkd_core.errors import ConfigError
from crkd_core.geometry.grid import BEVGrid
from crkd_core.models.lidar import LidarBranch

GRID = BEVGrid((-2.4, 2.4), (-2.4, 2.4), (-5.0, 3.0), 0.6)
TINY = LidarBranchConfig(stem_channels=4, stage_channels=((4, 8), (8, 8), (8, 8), (8,)), out_channels=6)


@pytest.mark.parametrize("counts", [(0, 0), (1, 0), (0, 50)])
def test_empty_samples_are_no_problem(counts):
    branch = LidarBranch(TINY, GRID)
    bev = branch([torch.rand(count, 5) * 4 - 2 for count in counts])
    assert bev.shape == (2, branch.out_channels, *GRID.shape)
    bev.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in branch.parameters())


def test_voxels_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="stride 8 must be the BEV cell size"):
        LidarBranch(LidarBranchConfig(voxel_m=(0.1, 0.1, 0.2)), GRID)
    with pytest.raises(ConfigError, match="too few"):
        LidarBranch(LidarBranchConfig(voxel_m=(0.075, 0.075, 0.8)), GRID)
    with pytest.raises(ConfigError, match="only a stage's last"):
        LidarBranch(LidarBranchConfig(stage_channels=((16, 20, 32), (32, 64), (64, 64), (64,))), GRID)


def test_full_size_map_has_the_published_shape():
    with torch.device("meta"):
        branch = LidarBranch(LidarBranchConfig(), BEVGrid((-54.0, 54.0), (-54.0, 54.0), (-5.0, 3.0), 0.6))
    assert branch.encoder.spatial_shape == (1440, 1440, 41)
    assert branch.out_channels == 256


def test_feature_scales_act_on_features_and_leave_voxels_where_they_are():
    torch.manual_seed(0)
    branch = LidarBranch(TINY, GRID).eval()
    points = torch.rand(200, 5) * 4 - 2
    older = points * torch.tensor([1.0, 1.0, 1.0, 1.0, 4.0])
    expected = branch([older])
    branch.config = TINY.model_copy(update={"feature_scales": (1.0, 1.0, 1.0, 1.0, 4.0)})
    torch.testing.assert_close(branch([points]), expected)
    assert not torch.allclose(branch([older]), expected)
