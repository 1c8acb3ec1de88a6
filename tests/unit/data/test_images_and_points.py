"""Reading images and LiDAR for a view."""

import numpy as np
import pytest
import torch
from PIL import Image

from crkd_core.config.data import DataConfig, LidarConfig
from crkd_core.data.images import read_image
from crkd_core.data.points import load_lidar
from crkd_core.datasets.prepared.prepared_data import LidarSweeps
from crkd_core.errors import DatasetError


def write_jpeg(path, size=(64, 36)):
    noise = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, quality=95)
    return path


@pytest.mark.parametrize("kept", [0, 10, 700, 2000])
def test_damaged_images_are_named(tmp_path, kept):
    path = write_jpeg(tmp_path / "camera.jpg")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DatasetError, match=r"camera\.jpg is damaged"):
        read_image(path)


def test_missing_images_and_other_sizes_are_named(tmp_path):
    with pytest.raises(DatasetError, match=r"gone\.jpg is missing"):
        read_image(tmp_path / "gone.jpg")
    with pytest.raises(DatasetError, match="expected 1600 x 900 px, found 64 x 36"):
        read_image(write_jpeg(tmp_path / "camera.jpg"), (1600, 900))


@pytest.mark.parametrize(
    ("mode", "colour", "rgb"),
    [
        ("L", 100, (100, 100, 100)),
        ("RGB", (1, 2, 3), (1, 2, 3)),
        ("RGBA", (1, 2, 3, 255), (1, 2, 3)),
        ("LA", (7, 255), (7, 7, 7)),
        ("P", 0, (0, 0, 0)),
    ],
)
def test_pixels_that_convert_become_rgb(tmp_path, mode, colour, rgb):
    Image.new(mode, (8, 8), colour).save(tmp_path / "image.png")
    image = read_image(tmp_path / "image.png", (8, 8))
    assert image.shape == (8, 8, 4)
    assert tuple(image[3, 3, :3].tolist()) == rgb


@pytest.mark.parametrize(
    ("mode", "colour", "options", "said"),
    [
        ("I;16", 3000, {}, "16-bit grey"),
        ("1", 1, {}, "1-bit"),
        ("RGBA", (1, 2, 3, 254), {}, "transparent"),
        ("LA", (1, 0), {}, "transparent"),
        ("P", 0, {"transparency": 0}, "transparent"),
        ("RGB", (1, 2, 3), {"transparency": (1, 2, 3)}, "transparent"),
    ],
)
def test_pixels_that_do_not_convert_are_named(tmp_path, mode, colour, options, said):
    Image.new(mode, (8, 8), colour).save(tmp_path / "image.png", **options)
    with pytest.raises(DatasetError, match=rf"image\.png is .*{said}"):
        read_image(tmp_path / "image.png")


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_tags_are_no_orientation(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "image.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert read_image(tmp_path / "image.jpg").shape == (8, 8, 4)


def load(tmp_path, raws, matrices, ages, chosen):
    for index, raw in enumerate(raws):
        raw.astype(np.float32).tofile(tmp_path / f"{index}.pcd.bin")
    sweeps = LidarSweeps(tuple(f"{index}.pcd.bin" for index in range(len(raws))), np.array(ages), np.stack(matrices))
    return load_lidar(tmp_path, sweeps, np.array(chosen), np.eye(4), LidarConfig(), DataConfig().grid)


def test_the_car_itself_is_dropped_from_earlier_sweeps_only(tmp_path):
    raw = np.array([[0.5, -0.9, 0, 1, 2], [0.5, -1.1, 0, 1, 2]], np.float32)
    moved = np.eye(4)
    moved[0, 3] = 10.0
    points = load(tmp_path, [raw, raw], [np.eye(4), moved], [0.0, 0.05], [0, 1])
    np.testing.assert_allclose(points[:, 0], [0.5, 0.5, 10.5])
    np.testing.assert_allclose(points[:, 4], [0, 0, 0.05])


def test_points_on_the_border_of_the_range_are_out(tmp_path):
    raw = np.array([[54, 0, 0, 1, 2], [53.99, 0, 0, 1, 2], [0, -54, 0, 1, 2], [0, 0, 3, 1, 2], [0, 0, -5, 1, 2]])
    assert len(load(tmp_path, [raw], [np.eye(4)], [0.0], [0])) == 1


def test_no_points_are_no_points(tmp_path):
    points = load(tmp_path, [np.zeros((0, 5))], [np.eye(4)], [0.0], [0])
    assert torch.from_numpy(points).shape == (0, 5)
