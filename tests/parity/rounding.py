"""The published geometry to the last bit.

The published code composes its geometry in single precision, ours in double. A few points that lie on a border change
cells (or pixels) by that, and whole detectors have no mark for them. Where that happens, and only there, the runner
gives our view transform the published rounding, which is written down here.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from unittest.mock import patch

import torch
from torch import Tensor

from crkd_core.geometry.sensors import CameraRig, SensorInputs
from crkd_core.models import view_transform
from crkd_core.models.view_transform import ViewTransform, frustum_points, lidar_depth_image
from tests.parity.cases import GoldenCase
from tests.parity.comparison import Comparison

_NEAREST_M, _FARTHEST_M = 1e-5, 1e5
# Ours and the published rounding may differ by this much, or something else is wrong.
_ROUNDING_M = 1e-3


@contextmanager
def published_rounding(
    comparison: Comparison, transforms: Iterable[ViewTransform | None], inputs: SensorInputs
) -> Iterator[None]:
    """Within it, view transforms round as published if that moves any point into another cell or pixel."""
    case = comparison.case
    if not any(_moves_points(transform, case, inputs) for transform in transforms if transform is not None):
        yield
        return
    comparison.rule("last-bit")
    with (
        patch.object(view_transform, "frustum_points", published_frustum_points),
        patch.object(view_transform, "lidar_depth_image", lambda *args: published_depth_image(case, *args)),
    ):
        yield


def _moves_points(transform: ViewTransform, case: GoldenCase, inputs: SensorInputs) -> bool:
    rig, augmentation = inputs.rig, inputs.bev_augmentation
    points, published_points = (
        make(transform.frustum, rig, augmentation) for make in (frustum_points, published_frustum_points)
    )
    if (points - published_points).abs().max() > _ROUNDING_M:
        raise ValueError(
            f"our frustum points are {float((points - published_points).abs().max()):.3g} m off the published ones"
        )
    cells = transform.cells(rig, augmentation)
    with patch.object(view_transform, "frustum_points", published_frustum_points):
        moved = not torch.equal(cells, transform.cells(rig, augmentation))
    if transform.depth_encoder is None:
        return moved
    arguments = (inputs.lidar, rig, augmentation, transform.image_size_px)
    depth, published = lidar_depth_image(*arguments), published_depth_image(case, *arguments)
    return moved or not torch.allclose(depth, published, atol=_ROUNDING_M)


def published_frustum_points(frustum: Tensor, rig: CameraRig, bev_augmentation: Tensor) -> Tensor:
    """As :func:`crkd_core.models.view_transform.frustum_points`, one single-precision product after the other."""
    batch, cameras = rig.intrinsics.shape[:2]

    def per_camera(matrix: Tensor) -> Tensor:
        return matrix.view(batch, cameras, 1, 1, 1, *matrix.shape[2:])

    image, pose = rig.image_augmentation, rig.lidar_from_camera
    points = frustum - per_camera(image[..., :3, 3])
    points = per_camera(torch.inverse(image[..., :3, :3])).matmul(points[..., None])
    points = torch.cat([points[..., :2, :] * points[..., 2:, :], points[..., 2:, :]], dim=-2)
    rays = pose[..., :3, :3].matmul(torch.inverse(rig.intrinsics))
    points = per_camera(rays).matmul(points)[..., 0] + per_camera(pose[..., :3, 3])
    turned = bev_augmentation[:, :3, :3].view(batch, 1, 1, 1, 1, 3, 3).repeat(1, cameras, 1, 1, 1, 1, 1)
    return turned.matmul(points[..., None])[..., 0] + bev_augmentation[:, :3, 3].view(batch, 1, 1, 1, 1, 3)


def published_depth_image(
    case: GoldenCase, lidar: list[Tensor], rig: CameraRig, bev_augmentation: Tensor, image_size_px: tuple[int, int]
) -> Tensor:
    """As :func:`crkd_core.models.view_transform.lidar_depth_image`, through the recorded projection matrices."""
    height, width = image_size_px
    images = torch.zeros(len(lidar), rig.intrinsics.shape[1], 1, height, width)
    for sample, points in enumerate(lidar):
        matrix, projection = bev_augmentation[sample], case["in/lidar2image"][sample]
        image = rig.image_augmentation[sample]
        seen = torch.inverse(matrix[:3, :3]).matmul((points[:, :3] - matrix[:3, 3]).T)
        seen = projection[:, :3, :3].matmul(seen) + projection[:, :3, 3, None]
        depth = seen[:, 2].clone()
        seen[:, 2] = depth.clamp(_NEAREST_M, _FARTHEST_M)
        seen[:, :2] /= seen[:, 2:3]
        u, v = (image[:, :3, :3].matmul(seen) + image[:, :3, 3, None])[:, :2].unbind(dim=1)
        inside = (u >= 0) & (u < width) & (v >= 0) & (v < height)
        for camera, chosen in enumerate(inside):
            pixels = v[camera, chosen].long(), u[camera, chosen].long()
            images[sample, camera, 0][pixels] = depth[camera, chosen]
    return images
