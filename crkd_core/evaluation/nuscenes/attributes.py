"""Which attribute a detection is given: detectors of this family predict none, so class and speed decide."""

import numpy as np
from numpy.typing import NDArray

from crkd_core.config.description import DatasetDescription

MOVING_SPEED_MPS = 0.2
"""Speed above which a detection counts as moving."""


def attribute_names(
    labels: NDArray[np.integer], velocity_mps: NDArray[np.floating], description: DatasetDescription
) -> list[str]:
    """The attribute of each detection; empty where its class has none, such as nuScenes' barriers and traffic cones.

    Args:
        labels: (M,) detection classes.
        velocity_mps: (M, 2) velocity in any frame; NaN counts as standing.

    Source: the rule of the released code, which follows the most frequent attribute of each class and speed.
    """
    moving = np.hypot(velocity_mps[:, 0], velocity_mps[:, 1]) > MOVING_SPEED_MPS
    choices = [(entry.when_standing or "", entry.when_moving or "") for entry in description.classes.values()]
    return [choices[label][is_moving] for label, is_moving in zip(labels.tolist(), moving.tolist(), strict=True)]
