"""Lift, splat: geometry, depth image, pooling."""

import pytest
import torch
from golden_cases import GoldenCase, TruncatingGrid, load_case, load_published, relative_error

from crkd_core.config.models import ViewTransformConfig
from crkd_core.geometry.grid import BEVGrid
from crkd_core.geometry.sensors import CameraRig
from crkd_core.models.view_transform import ViewTransform, frustum_points, lidar_depth_image

GRID = BEVGrid((-54.0, 54.0), (-54.0, 54.0), (-5.0, 3.0), 1.2)


def published_transform(case: GoldenCase, **config) -> ViewTransform:
    settings = case.config
    grid = GRID if config["downsample"] == 1 else GRID.with_cell(2.4)
    model = ViewTransform(
        settings["in_channels"],
        ViewTransformConfig(channels=settings["out_channels"], z_range_m=(-30.0, 10.0), **config),
        grid,
        tuple(settings["image_size"]),
        tuple(settings["feature_size"]),
    )
    pool = model.pool_grid
    model.pool_grid = TruncatingGrid(pool.x_range_m, pool.y_range_m, pool.z_range_m, pool.cell_m)
    load_published(model, case.under("param/"), "encoders.camera.vtransform.", "camera.view_transform.")
    return model.eval()


def test_lss_agrees_with_published():
    case = load_case("lss_transform")
    model = published_transform(case, kind="lss", downsample=1)
    points = frustum_points(model.frustum, case.rig(), case["in/lidar_aug_matrix"])
    assert relative_error(points, case["out/geom"]) < 1e-5
    features = case["in/img_feat"].requires_grad_()
    bev = model(features, case.rig(), case["in/lidar_aug_matrix"], None)
    clear = ~case["out/ambiguous_cells"].bool()[:, None]
    assert relative_error(bev * clear, case["out/bev"] * clear) < 1e-4
    (bev * case["in/cotangent"]).sum().backward()
    assert relative_error(features.grad, case["grad/img_feat"]) < 1e-3
    assert relative_error(model.depth_net.weight.grad, case["grad/param/depthnet.weight"]) < 1e-3
    assert relative_error(model.depth_net.bias.grad, case["grad/param/depthnet.bias"]) < 1e-3


def test_depth_lss_agrees_with_published():
    case = load_case("depth_lss_transform")
    model = published_transform(case, kind="depth_lss", depth_step_m=0.5, downsample=2)
    points = case.list("in/points")
    before = [p.clone() for p in points]
    augmentation = case["in/lidar_aug_matrix"]
    depths = lidar_depth_image(points, case.rig(), augmentation, (64, 176))
    assert torch.equal(depths > 0, case["out/depth_image"] > 0)
    assert relative_error(depths, case["out/depth_image"]) < 1e-5
    geometry = frustum_points(model.frustum, case.rig(), augmentation)[:, :, ::8]
    assert relative_error(geometry, case["out/geom_sample"]) < 1e-5
    pooled = []
    model.downsample.register_forward_pre_hook(lambda module, args: pooled.append(args[0]))
    with torch.no_grad():
        bev = model(case["in/img_feat"], case.rig(), augmentation, points)
    clear = ~case["out/ambiguous_cells"].bool()[:, None]
    assert relative_error(pooled[0] * clear, case["out/bev_before_downsample"] * clear) < 1e-4
    reached = torch.nn.functional.max_pool2d((~clear).float(), 9, stride=2, padding=4) > 0
    assert relative_error(bev * ~reached, case["out/bev"] * ~reached) < 1e-4
    assert all(torch.equal(a, b) for a, b in zip(points, before, strict=True))


def simple_rig(image_shift=(0.0, 0.0)) -> CameraRig:
    """One camera at the origin that looks along y."""
    pose = torch.eye(4)
    pose[:3, :3] = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    augmentation = torch.eye(4)
    augmentation[:2, 3] = torch.tensor(image_shift)
    intrinsics = torch.tensor([[50.0, 0, 32], [0, 50, 16], [0, 0, 1]])
    return CameraRig(intrinsics[None, None], pose[None, None], augmentation[None, None])


def test_depth_image_keeps_the_last_point_of_a_pixel_and_undoes_the_augmentation():
    # The second point lies behind the first in the same pixel, the third behind the camera.
    points = torch.tensor([[1.0, 10, 0, 7, 0], [2.0, 20, 0, 7, 0], [1.0, -10, 0, 7, 0]])
    augmentation = torch.diag(torch.tensor([-2.0, 2.0, 2.0, 1.0]))
    augmentation[:3, 3] = torch.tensor([3.0, -4.0, 1.0])
    moved = points.clone()
    moved[:, :3] = points[:, :3] @ augmentation[:3, :3].T + augmentation[:3, 3]
    image = lidar_depth_image([moved], simple_rig((4.0, 2.0)), augmentation[None], (32, 64))[0, 0, 0]
    assert torch.nonzero(image).tolist() == [[18, 41]]
    assert image[18, 41] == pytest.approx(20.0, abs=1e-4)
    reordered = lidar_depth_image([moved[[1, 0, 2]]], simple_rig((4.0, 2.0)), augmentation[None], (32, 64))
    assert reordered[0, 0, 0, 18, 41] == pytest.approx(10.0, abs=1e-4)


def test_depth_image_without_points_is_empty():
    image = lidar_depth_image([torch.zeros(0, 5)], simple_rig(), torch.eye(4)[None], (32, 64))
    assert image.shape == (1, 1, 1, 32, 64)
    assert not image.any()


def test_points_below_the_border_are_dropped_and_autocast_does_not_move_geometry():
    grid = BEVGrid((-4.8, 4.8), (-4.8, 4.8), (-5.0, 3.0), 0.6)
    config = ViewTransformConfig(channels=3, depth_range_m=(1.0, 9.0), z_range_m=(-0.5, 0.5))
    model = ViewTransform(4, config, grid, (32, 64), (4, 8))
    cells = model.cells(simple_rig(), torch.eye(4)[None])
    points = frustum_points(model.frustum, simple_rig(), torch.eye(4)[None])
    inside = (points[..., :2].abs() < 4.8).all(-1) & (points[..., 2].abs() < 0.5)
    assert torch.equal(cells >= 0, inside)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(frustum_points(model.frustum, simple_rig(), torch.eye(4)[None]), points)
        bev = model(torch.randn(1, 1, 4, 4, 8), simple_rig(), torch.eye(4)[None], None)
    assert bev.dtype == torch.float32
    assert bev.isfinite().all()
