"""Which attribute a detection is given: detectors of this family predict none, so class and speed decide."""

import numpy as np
from numpy.typing import NDArray

from crkd_core.config.classes import DETECTION_CLASSES

MOVING_SPEED_MPS = 0.2
"""Speed above which a detection counts as moving."""

_WHEN_MOVING = {
    "car": "vehicle.moving",
    "truck": "vehicle.moving",
    "construction_vehicle": "vehicle.moving",
    "bus": "vehicle.moving",
    "trailer": "vehicle.moving",
    "motorcycle": "cycle.with_rider",
    "bicycle": "cycle.with_rider",
    "pedestrian": "pedestrian.moving",
}
_WHEN_STANDING = {
    "car": "vehicle.parked",
    "truck": "vehicle.parked",
    "construction_vehicle": "vehicle.parked",
    "bus": "vehicle.stopped",
    "trailer": "vehicle.parked",
    "motorcycle": "cycle.without_rider",
    "bicycle": "cycle.without_rider",
    "pedestrian": "pedestrian.standing",
}


def attribute_names(labels: NDArray[np.integer], velocity_mps: NDArray[np.floating]) -> list[str]:
    """The nuScenes attribute of each detection; empty for barriers and traffic cones, which have none.

    Args:
        labels: (M,) indices into ``DETECTION_CLASSES``.
        velocity_mps: (M, 2) velocity in any frame; NaN counts as standing.

    Source: the rule of the released code, which follows the most frequent attribute of each class and speed.
    """
    moving = np.hypot(velocity_mps[:, 0], velocity_mps[:, 1]) > MOVING_SPEED_MPS
    return [
        (_WHEN_MOVING if is_moving else _WHEN_STANDING).get(DETECTION_CLASSES[label], "")
        for label, is_moving in zip(labels.tolist(), moving.tolist(), strict=True)
    ]
