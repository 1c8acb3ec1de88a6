"""The velocity rule."""

import numpy as np

from crkd_core.datasets.nuscenes.velocity import box_velocities


def velocities(seconds, xs, previous, following):
    translations = np.stack([np.array(xs, float), np.zeros(len(xs)), np.zeros(len(xs))], axis=1)
    stamps = (np.array(seconds) * 1e6).astype(np.int64)
    return box_velocities(translations, stamps, np.array(previous), np.array(following))[:, 0]


def test_centred_in_the_middle_and_one_sided_at_the_ends():
    actual = velocities([0, 0.5, 1.0], [0, 1, 4], [-1, 0, 1], [1, 2, -1])
    np.testing.assert_allclose(actual, [2, 4, 6])


def test_a_single_annotation_has_none():
    assert np.isnan(velocities([0], [3], [-1], [-1])).all()


def test_neighbours_too_far_in_time_give_none_and_the_centred_limit_is_double():
    assert np.isnan(velocities([0, 1.6], [0, 1], [-1, 0], [1, -1])).all()
    actual = velocities([0, 1.4, 2.9], [0, 1, 2.9], [-1, 0, 1], [1, 2, -1])
    np.testing.assert_allclose(actual[1], 1.0)
    assert np.isnan(velocities([0, 1.6, 3.2], [0, 1, 2], [-1, 0, 1], [1, 2, -1])[1])


def test_annotations_at_the_same_time_give_none():
    assert np.isnan(velocities([1, 1], [0, 1], [-1, 0], [1, -1])).all()
