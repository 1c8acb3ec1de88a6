"""Pictures show the car driving up, whichever way the axes of its reference LiDAR point."""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from crkd_core.visualization.views import LabelledBoxes, SampleView


def quarter_turns(ego_from_lidar: NDArray[np.float64]) -> int:
    """By how many quarters of a circle (0 to 3, left) a LiDAR's frame is turned for the car to drive nearly up."""
    forward_x, forward_y = ego_from_lidar[0, :2]
    return round((np.pi / 2 - np.arctan2(forward_y, forward_x)) / (np.pi / 2)) % 4


def turned(view: SampleView, turns: int) -> SampleView:
    """A view with everything in it turned about z by so many quarters of a circle to the left."""
    if turns == 0:
        return view
    turn = np.linalg.matrix_power(np.array([[0, -1], [1, 0]]), turns)
    matrix = np.eye(4)
    matrix[:2, :2] = turn

    def points(values: NDArray[np.float32], start: int = 0) -> NDArray[np.float32]:
        moved = values.copy()
        moved[:, start : start + 2] = values[:, start : start + 2] @ turn.T
        return moved

    def labelled(boxes: LabelledBoxes) -> LabelledBoxes:
        return replace(boxes, boxes=boxes.boxes.augmented(torch.from_numpy(matrix)))

    return replace(
        view,
        cameras=tuple(replace(camera, lidar_from_camera=matrix @ camera.lidar_from_camera) for camera in view.cameras),
        lidar=points(view.lidar),
        radar=points(points(view.radar), start=2),
        gt=None if view.gt is None else labelled(view.gt),
        models=tuple(replace(model, detections=labelled(model.detections)) for model in view.models),
        marked=points(view.marked),
    )
