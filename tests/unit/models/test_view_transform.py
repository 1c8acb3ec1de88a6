"""Lift, splat: geometry, depth image, pooling."""

import pytest
import torch

from crkd_core.config.models import ViewTransformConfig
from crkd_core.geometry.grid import BEVGrid
from crkd_core.geometry.sensors import CameraRig
from crkd_core.models import view_transform
from crkd_core.models.view_transform import ViewTransform, frustum_points, lidar_depth_image


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


def test_depth_images_do_not_depend_on_the_rest_of_the_batch_or_on_the_blocks(monkeypatch):
    """Samples of 900, 7 and no points, alone at once, and together in blocks that cut them anywhere."""
    torch.manual_seed(0)
    clouds = [torch.randn(count, 5) * torch.tensor([8.0, 12, 3, 1, 1]) for count in (900, 7, 0)]
    one = simple_rig()
    rig = CameraRig(
        *(part.repeat(3, 2, 1, 1) for part in (one.intrinsics, one.lidar_from_camera, torch.eye(4)[None, None]))
    )
    rig.image_augmentation[1, 1, :2, 3] = torch.tensor([5.0, -3.0])
    turns = torch.eye(4).repeat(3, 1, 1)
    turns[0, :2, :2] = torch.tensor([[0.8, -0.6], [0.6, 0.8]])

    def image(samples: slice) -> torch.Tensor:
        parts = CameraRig(*(part[samples] for part in vars(rig).values()))
        return lidar_depth_image(clouds[samples], parts, turns[samples], (32, 64))

    alone = torch.cat([image(slice(sample, sample + 1)) for sample in range(3)])
    monkeypatch.setattr(view_transform, "_POINTS_A_BLOCK", 13)
    assert (alone[0] > 0).sum() > 50
    assert torch.equal(image(slice(0, 3)), alone)


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
