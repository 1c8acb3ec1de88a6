"""Pictures show the car driving up, whichever way the axes of its reference LiDAR point."""

import numpy as np
import pytest
import torch

from crkd_core.geometry.boxes import Boxes3D
from crkd_core.visualization.upright import quarter_turns, turned
from crkd_core.visualization.views import CameraView, LabelledBoxes, ModelView, SampleView
from tests.support.described import NUSCENES


def ego_from_lidar(yaw_deg):
    pose, yaw = np.eye(4), np.radians(yaw_deg)
    pose[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
    return pose


@pytest.mark.parametrize(("yaw_deg", "turns"), [(-90, 0), (-91.5, 0), (-60, 0), (0, 1), (3, 1), (90, 2), (180, 3)])
def test_the_axis_nearest_to_the_driving_direction_points_up(yaw_deg, turns):
    assert quarter_turns(ego_from_lidar(yaw_deg)) == turns


def test_everything_is_turned_together():
    boxes = LabelledBoxes(Boxes3D(torch.tensor([[10.0, 2, 0, 1, 4, 2, 0, 5, 0]])), np.array([0]))
    view = SampleView(
        token="a",
        scene="b",
        condition="",
        extent_m=20.0,
        gt=boxes,
        description=NUSCENES,
        cameras=(CameraView("CAM", np.zeros((2, 2, 3), np.uint8), np.eye(3), np.eye(4)),),
        lidar=np.array([[10, 2, 1, 5]], np.float32),
        radar=np.array([[10, 2, 5, 0]], np.float32),
        models=(ModelView("m", boxes),),
        marked=np.array([[10, 2]], np.float32),
    )
    assert turned(view, 0) is view
    up = turned(view, 1)
    assert up.lidar.tolist() == [[-2, 10, 1, 5]]
    assert up.radar.tolist() == [[-2, 10, 0, 5]]
    assert up.marked.tolist() == [[-2, 10]]
    for shown in (up.gt, up.models[0].detections):
        assert torch.allclose(shown.boxes.tensor, torch.tensor([[-2.0, 10, 0, 1, 4, 2, torch.pi / 2, 0, 5]]), atol=1e-5)
    in_camera = np.linalg.inv(up.cameras[0].lidar_from_camera)[:3, :3] @ up.lidar[0, :3]
    assert in_camera.tolist() == [10, 2, 1]
    again = turned(up, 3)
    assert np.array_equal(again.lidar, view.lidar)
