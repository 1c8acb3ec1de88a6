"""The attribute rule, by class and speed."""

import numpy as np
import pytest

from crkd_core.evaluation.nuscenes.attributes import attribute_names
from tests.support.described import CLASSES, NUSCENES


@pytest.mark.parametrize(
    ("name", "standing", "moving"),
    [
        ("car", "vehicle.parked", "vehicle.moving"),
        ("bus", "vehicle.stopped", "vehicle.moving"),
        ("bicycle", "cycle.without_rider", "cycle.with_rider"),
        ("pedestrian", "pedestrian.standing", "pedestrian.moving"),
        ("barrier", "", ""),
        ("traffic_cone", "", ""),
    ],
)
def test_speed_decides(name, standing, moving):
    label = CLASSES.index(name)
    velocity = np.array([[0.0, 0.0], [0.14, 0.14], [0.15, -0.15], [np.nan, np.nan]])
    assert attribute_names(np.full(4, label), velocity, NUSCENES) == [standing, standing, moving, standing]


@pytest.mark.devkit
def test_every_attribute_is_an_official_one():
    from nuscenes.eval.detection.constants import ATTRIBUTE_NAMES

    labels = np.repeat(np.arange(10), 2)
    velocity = np.tile([[0.0, 0.0], [1.0, 0.0]], (10, 1))
    assert set(attribute_names(labels, velocity, NUSCENES)) - {""} <= set(ATTRIBUTE_NAMES)
