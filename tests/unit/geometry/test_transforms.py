"""Rotations, quaternions and rigid transforms: round trips, inverses, composition, and many at once as one by one."""

import numpy as np
import pytest

from crkd_core.geometry import transforms as t
from tests.support.poses import pose

RNG = np.random.default_rng(0)
HALF_TURNS = [[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0], [0.0, 0.6, 0.0, 0.8]]


def random_poses(*shape):
    return pose(RNG.normal(size=(*shape, 4)), RNG.normal(size=(*shape, 3)) * 10)


@pytest.mark.parametrize("shape", [(), (7,), (2, 3)])
def test_inverse_undoes(shape):
    matrices = random_poses(*shape)
    expected = np.broadcast_to(np.eye(4), (*shape, 4, 4))
    np.testing.assert_allclose(t.compose(matrices, t.inverse_rigid(matrices)), expected, atol=1e-12)


def test_composition_reads_left_to_right():
    a, b = random_poses(), random_poses()
    points = RNG.normal(size=(5, 3))
    np.testing.assert_allclose(t.compose(a, b), a @ b, atol=1e-12)
    np.testing.assert_allclose(
        t.transform_points(t.compose(a, b), points), t.transform_points(a, t.transform_points(b, points))
    )


def test_points_keep_their_precision():
    points = RNG.normal(size=(5, 3)).astype(np.float32)
    moved = t.transform_points(random_poses(), points)
    assert moved.dtype == np.float32
    assert t.transform_points(random_poses(5), points.astype(np.float64)).shape == (5, 3)


@pytest.mark.parametrize("yaw", [-3.0, -0.4, 0.0, 1.2, 3.1])
def test_yaw_is_a_rotation_about_z(yaw):
    rotation = t.rotations_from_quaternions(t.quaternions_from_yaws(yaw))
    np.testing.assert_allclose(rotation, t.rotations_about_z(yaw), atol=1e-12)
    assert np.arctan2(rotation[1, 0], rotation[0, 0]) == pytest.approx(yaw)


def test_quaternions_round_trip():
    quaternions = np.concatenate([RNG.normal(size=(200, 4)), HALF_TURNS, [[1.0, 0.0, 0.0, 0.0]]])
    unit = quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)
    unit[unit[:, 0] < 0] *= -1
    rotations = t.rotations_from_quaternions(3 * quaternions)
    np.testing.assert_allclose(rotations @ rotations.transpose(0, 2, 1), np.tile(np.eye(3), (205, 1, 1)), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(rotations), 1.0)
    np.testing.assert_allclose(t.rotations_from_unit_quaternions(unit), rotations, atol=1e-12)
    np.testing.assert_allclose(t.quaternions_from_rotations(rotations), unit, atol=1e-12)


def test_many_at_once_give_the_bits_of_one_by_one():
    first, second = RNG.normal(size=(2, 30, 4))
    rotations = t.rotations_from_quaternions(first)
    products = t.multiply_quaternions(first, second)
    for index in range(30):
        one = t.rotations_from_quaternions(first[index])
        assert (one == rotations[index]).all()
        assert (t.quaternions_from_rotations(one) == t.quaternions_from_rotations(rotations)[index]).all()
        assert (t.multiply_quaternions(first[index], second[index]) == products[index]).all()


def test_products_rotate_by_the_second_first():
    first, second = RNG.normal(size=(2, 30, 4))
    product = t.rotations_from_quaternions(t.multiply_quaternions(first, second))
    expected = t.compose(t.rotations_from_quaternions(first), t.rotations_from_quaternions(second))
    np.testing.assert_allclose(product, expected, atol=1e-12)
