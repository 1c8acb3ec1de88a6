"""Rigid transforms: quaternions, inverses and composition."""

import numpy as np
import pytest

from crkd_core.geometry import transforms as t

RNG = np.random.default_rng(0)


def random_transform():
    return t.rigid_transform(RNG.normal(size=4), RNG.normal(size=3) * 10)


def test_inverse_undoes():
    for _ in range(20):
        matrix = random_transform()
        np.testing.assert_allclose(t.compose(matrix, t.inverse_rigid(matrix)), np.eye(4), atol=1e-12)


def test_composition_reads_left_to_right():
    a, b = random_transform(), random_transform()
    points = RNG.normal(size=(5, 3))
    np.testing.assert_allclose(
        t.transform_points(t.compose(a, b), points), t.transform_points(a, t.transform_points(b, points))
    )


@pytest.mark.parametrize("yaw", [-3.0, -0.4, 0.0, 1.2, 3.1])
def test_yaw_quaternion_round_trip(yaw):
    matrix = t.rigid_transform(t.quaternion_from_yaw(yaw))
    np.testing.assert_allclose(matrix[:3, :3], t.rotation_about_z(yaw), atol=1e-12)
    assert t.yaw_of(matrix) == pytest.approx(yaw)


def test_quaternions_are_normalised_and_zero_is_refused():
    np.testing.assert_allclose(t.rotation_from_quaternion([2, 0, 0, 0]), np.eye(3))
    with pytest.raises(ValueError, match="must not be zero"):
        t.rotation_from_quaternion([0, 0, 0, 0])
