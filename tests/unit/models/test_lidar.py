"""Voxels and the sparse encoder."""

import pytest
import torch
from golden_cases import load_case, load_published, our_key, relative_error

from crkd_core.config.models import LidarBranchConfig
from crkd_core.errors import ConfigError
from crkd_core.geometry.grid import BEVGrid
from crkd_core.models.lidar import LidarBranch
from crkd_core.ops.voxelize import voxelize_batch

GRID = BEVGrid((-2.4, 2.4), (-2.4, 2.4), (-5.0, 3.0), 0.6)
TINY = LidarBranchConfig(stem_channels=4, stage_channels=((4, 8), (8, 8), (8, 8), (8,)), out_channels=6)


@pytest.fixture
def published():
    case = load_case("sparse_encoder")
    config = LidarBranchConfig(
        stem_channels=6,
        stage_channels=((6, 6, 8), (8, 8, 12), (12, 12, 16), (16, 16)),
        out_channels=10,
        max_voxels_train=400,
        max_voxels_test=400,
    )
    branch = LidarBranch(config, GRID)
    load_published(branch.encoder, case.under("param/"), "encoders.lidar.backbone.", "lidar.encoder.")
    return case, branch


def test_encoder_agrees_with_published(published):
    case, branch = published
    branch.eval()
    voxels = voxelize_batch(case.list("in/points"), branch.voxel_grid, 400)
    assert torch.equal(voxels.coordinates, case["out/coords_bxyz"].long())
    assert torch.equal(voxels.counts, case["out/sizes"].long())
    assert relative_error(voxels.mean(), case["out/voxel_sum_input_mean"]) < 1e-6
    stages = []
    for stage in branch.encoder.stages:
        stage.register_forward_hook(lambda module, args, out: stages.append(out))
    assert relative_error(branch(case.list("in/points")), case["out/bev"]) < 1e-4
    for index, stage in enumerate(stages):
        assert torch.equal(stage.sites.coordinates, case[f"out/stage{index}/indices"].long())
        assert list(stage.sites.spatial_shape) == case[f"out/stage{index}/shape"].tolist()
        assert relative_error(stage.features, case[f"out/stage{index}/features"]) < 1e-4


def test_encoder_trains_as_published(published):
    case, branch = published
    bev = branch(case.list("in/points"))
    assert relative_error(bev, case["out_train/bev"]) < 1e-4
    (bev * case["in/cotangent"]).sum().backward()
    recorded = case.under("grad/param/")
    assert recorded
    gradients = {name: p.grad for name, p in branch.encoder.named_parameters()}
    for key, expected in recorded.items():
        ours = our_key("encoders.lidar.backbone." + key).removeprefix("lidar.encoder.")
        assert relative_error(gradients[ours], expected) < 1e-3


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
