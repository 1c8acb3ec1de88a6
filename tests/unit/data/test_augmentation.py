"""Views: pure, replayable, and consistent between matrices and pixels."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from crkd_core.config.data import BEVAugmentationConfig, DataConfig
from crkd_core.data.augmentation import TEST_VIEW, View, draw_view, test_view, without_view
from crkd_core.data.images import pixels_of, transform_image
from crkd_core.errors import DamagedArtifactError

SIZES = [(1600, 900)] * 6
BEV = BEVAugmentationConfig(rotation_deg=(-45.0, 45.0))


def draw(seed=1, token="a", number=0, data=None, bev=BEV, sizes=SIZES, sweeps=11):
    return draw_view(data or DataConfig(), bev, seed, token, number, sizes, sweeps)


def same(one: View, other: View) -> bool:
    fields = [field.name for field in dataclasses.fields(View)]
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in fields)


def test_equal_arguments_give_equal_views_and_others_do_not():
    assert same(draw(), draw())
    for other in (draw(seed=2), draw(token="b"), draw(number=1)):
        assert not np.array_equal(draw().image_matrices, other.image_matrices)
        assert not np.array_equal(draw().augmented_from_lidar, other.augmented_from_lidar)


def test_views_do_not_depend_on_the_process():
    code = (
        "from crkd_core.config.data import *; from crkd_core.data.augmentation import draw_view;"
        "v = draw_view(DataConfig(), BEVAugmentationConfig(), 1, 'a', 3, [(1600, 900)] * 6, 11);"
        "print(v.augmented_from_lidar.tobytes().hex(), v.image_matrices.tobytes().hex())"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    view = draw(number=3, bev=BEVAugmentationConfig())
    assert printed == [view.augmented_from_lidar.tobytes().hex(), view.image_matrices.tobytes().hex()]


def test_what_one_sensor_draws_does_not_depend_on_the_others():
    assert np.array_equal(draw(sizes=SIZES[:2], sweeps=4).augmented_from_lidar, draw().augmented_from_lidar)
    assert np.array_equal(draw(bev=BEVAugmentationConfig(scale=(1, 1))).image_matrices, draw().image_matrices)


def test_a_view_survives_being_stored_bit_for_bit():
    view = draw(number=7)
    stored = view.tensors()
    assert all(name.startswith("view.") for name in stored)
    assert same(View.from_tensors(stored | {"other": torch.zeros(1)}), view)
    assert without_view(stored | {"other": torch.zeros(1)}).keys() == {"other"}


def test_targets_without_a_view_are_refused():
    stored = draw().tensors()
    del stored["view.flip"]
    with pytest.raises(DamagedArtifactError, match=r"view\.flip"):
        View.from_tensors(stored)


def test_draws_stay_in_their_ranges():
    data = DataConfig()
    views = [draw(number=number) for number in range(200)]
    resize = np.stack([view.resized_px[:, 0] / 1600 for view in views])
    assert 0.38 - 1e-3 <= resize.min() < 0.40
    assert 0.53 < resize.max() <= 0.55
    rotation = np.stack([view.rotation_deg for view in views])
    assert -5.4 <= rotation.min() < -5
    assert 5 < rotation.max() <= 5.4
    assert 0.4 < np.mean([view.flip for view in views]) < 0.6
    crop = np.concatenate([view.crop_px for view in views])
    resized = np.concatenate([view.resized_px for view in views])
    assert (crop[:, 1] == resized[:, 1] - data.image.height_px).all()
    assert ((crop[:, 0] >= 0) & (crop[:, 0] <= np.maximum(resized[:, 0] - data.image.width_px, 0))).all()
    linear = np.stack([view.augmented_from_lidar[:2, :2] for view in views])
    scale = np.sqrt(np.abs(np.linalg.det(linear)))
    assert 0.9 <= scale.min() < 0.92
    assert 1.08 < scale.max() <= 1.1
    assert 0.35 < (np.linalg.det(linear) < 0).mean() < 0.65
    shift = np.stack([view.augmented_from_lidar[:3, 3] for view in views])
    assert 0.4 < shift.std() < 0.6


def test_sweeps_are_random_while_training_and_nearest_in_the_test_view():
    chosen = [draw(number=number).lidar_sweeps for number in range(30)]
    assert all(sweeps[0] == 0 and len(sweeps) == 10 and (np.diff(sweeps) > 0).all() for sweeps in chosen)
    assert len({tuple(sweeps) for sweeps in chosen}) > 3
    assert test_view(DataConfig(), SIZES, 11).lidar_sweeps.tolist() == list(range(10))
    assert draw(sweeps=3).lidar_sweeps.tolist() == [0, 1, 2]
    few = DataConfig.model_validate({"lidar": {"sweeps": 3}})
    assert {tuple(draw(data=few, number=number).lidar_sweeps) for number in range(40)} == {
        (0, 1, 2),
        (0, 1, 3),
        (0, 2, 3),
    }
    alone = DataConfig.model_validate({"lidar": {"sweeps": 1}})
    assert draw(data=alone).lidar_sweeps.tolist() == [0]


def test_the_test_view_is_the_published_one():
    view = test_view(DataConfig(), SIZES, 1)
    assert view.number == TEST_VIEW
    assert view.resized_px[0].tolist() == [768, 432]
    assert view.crop_px[0].tolist() == [32, 176]
    np.testing.assert_array_equal(view.augmented_from_lidar, np.eye(4))
    np.testing.assert_allclose(view.image_matrices[0, :2, :2], np.eye(2) * 0.48)


def test_resize_factors_are_in_proportion_to_the_image_width():
    view = test_view(DataConfig(), [(800, 450), (1600, 900)], 1)
    assert view.resized_px.tolist() == [[768, 432], [768, 432]]
    np.testing.assert_allclose(view.image_matrices[0, 0, 0], 0.96)


def test_images_stay_still_without_image_augmentation():
    still = draw(data=DataConfig(augment_images=False))
    np.testing.assert_array_equal(still.image_matrices, test_view(DataConfig(), SIZES, 1).image_matrices)


@pytest.mark.parametrize("number", range(4))
def test_a_3d_point_lands_on_the_same_content_after_augmentation(number):
    """Project a point into the source image, mark it there, transform the image: the mark is where the matrix says."""
    intrinsics = np.array([[1266.0, 0, 800], [0, 1266.0, 450], [0, 0, 1]])
    point = np.array([-1.0 + 0.5 * number, 1.5, 20.0])
    source = (intrinsics @ point)[:2] / point[2]
    image = Image.new("RGB", (1600, 900))
    column, row = (int(value) for value in source)
    image.paste((255, 255, 255), (column - 4, row - 4, column + 5, row + 5))
    view = draw(number=number)
    for camera in range(6):
        expected = (view.image_matrices[camera] @ [column + 0.5, row + 0.5, 0, 1])[:2]
        if not (5 < expected[0] < 699 and 5 < expected[1] < 251):
            continue
        moved = transform_image(
            pixels_of(image),
            view.resized_px[camera],
            view.crop_px[camera],
            (704, 256),
            bool(view.flip[camera]),
            float(view.rotation_deg[camera]),
        )
        weight = moved[0].numpy().astype(float)
        rows, columns = np.mgrid[:256, :704] + 0.5
        centre = np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()
        # Resized sides are whole pixels (up to 0.16% narrower) and the rotation takes the nearest pixel.
        np.testing.assert_allclose(centre, expected, atol=1.3)


def test_a_narrow_resize_leaves_black_at_the_right():
    image = Image.new("RGB", (1600, 900), (255, 255, 255))
    moved = transform_image(pixels_of(image), (608, 342), (0, 342 - 256), (704, 256), False, 0.0)
    assert (moved[:, :, :608] == 255).all()
    assert (moved[:, :, 608:] == 0).all()


def test_a_short_resize_leaves_black_at_the_top():
    image = Image.new("RGB", (100, 50), (255, 255, 255))
    moved = transform_image(pixels_of(image), (100, 50), (0, -10), (100, 60), False, 0.0)
    assert (moved[:, :10] == 0).all()
    assert (moved[:, 10:] == 255).all()
