"""Views: how a sample is varied for training, as a pure function of seed, sample and view number.

A :class:`View` holds every random choice of one sample. It is drawn once, stored beside the teacher's targets, and
replayed bit for bit for the student, so that both see the same augmented sample.

Image coordinates are continuous: pixel i covers ``[i, i + 1)``. A view's image matrix maps source to network pixels.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crkd_core.config.data import BEVAugmentationConfig, DataConfig, ImageConfig
from crkd_core.errors import DamagedArtifactError
from crkd_core.geometry.transforms import rotations_about_z

TEST_VIEW = -1
MIRRORINGS = 4
"""A scene as it is, mirrored in x, in y, in both."""
VIEWS_BETWEEN_REPEATS = 1 << 20
"""Freely drawn views are numbered by epoch; a sample's repeats within an epoch come this many numbers later each."""
_REFERENCE_WIDTH_PX = 1600
_PREFIX = "view."


@dataclass(frozen=True)
class View:
    """Every random choice about one sample, for N cameras.

    Attributes:
        number: of the view; -1 for the test view.
        resized_px: (N, 2) int64 width and height each source image is resized to.
        crop_px: (N, 2) int64 left and top of the network's image in the resized one (may lie outside: black).
        flip: (N,) bool, mirrored left to right after cropping.
        rotation_deg: (N,) float64, then rotated counter-clockwise about the centre.
        image_matrices: (N, 4, 4) float64, source pixels to network pixels, see ``CameraRig.image_augmentation``.
        augmented_from_lidar: (4, 4) float64 BEV augmentation.
        lidar_sweeps: (S,) int64, which of the listed sweeps are read, the key frame (0) first.
    """

    number: int
    resized_px: NDArray[np.int64]
    crop_px: NDArray[np.int64]
    flip: NDArray[np.bool_]
    rotation_deg: NDArray[np.float64]
    image_matrices: NDArray[np.float64]
    augmented_from_lidar: NDArray[np.float64]
    lidar_sweeps: NDArray[np.int64]

    def mirrored(self, x: bool, y: bool, number: int) -> "View":
        """The same view of the mirrored scene, under another number: the BEV augmentation then mirrors x and/or y."""
        mirror = np.diag([-1.0 if x else 1.0, -1.0 if y else 1.0, 1.0, 1.0])
        return replace(self, number=number, augmented_from_lidar=mirror @ self.augmented_from_lidar)

    def tensors(self) -> dict[str, Tensor]:
        """The view as named tensors to store; the names start with ``view.``."""
        arrays = {name: torch.from_numpy(getattr(self, name).copy()) for name in _ARRAYS}
        return {f"{_PREFIX}{name}": tensor for name, tensor in (arrays | {"number": torch.tensor(self.number)}).items()}

    @staticmethod
    def from_tensors(tensors: dict[str, Tensor]) -> "View":
        """The inverse of :meth:`tensors`; other names are ignored.

        Raises:
            DamagedArtifactError: a tensor is missing.
        """
        try:
            arrays = {name: tensors[f"{_PREFIX}{name}"].numpy() for name in _ARRAYS}
            return View(number=int(tensors[f"{_PREFIX}number"]), **arrays)
        except KeyError as error:
            raise DamagedArtifactError(
                f"stored teacher targets lack the tensor {error} of their augmented view; extract them again"
            ) from None


_ARRAYS = (
    "resized_px", "crop_px", "flip", "rotation_deg", "image_matrices", "augmented_from_lidar", "lidar_sweeps",
)  # fmt: skip


def stored_view(number: int, views: int) -> tuple[int, tuple[bool, bool]]:
    """Which stored view a view number means, and whether it is mirrored along x, along y.

    The first `views` numbers are the views as stored, the next as many the same mirrored in x, then in y, then in both;
    then it begins again.
    """
    mirror = number // views % MIRRORINGS
    return number % views, (mirror % 2 == 1, mirror >= 2)


def epoch_of_view(number: int) -> int:
    """The epoch that a freely drawn view belongs to."""
    return number % VIEWS_BETWEEN_REPEATS


def without_view(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a stored item that do not belong to its view."""
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(_PREFIX)}


def draw_view(
    data: DataConfig,
    bev: BEVAugmentationConfig,
    seed: int,
    token: str,
    number: int,
    camera_sizes_px: NDArray | Sequence[tuple[int, int]],
    lidar_sweep_count: int,
) -> View:
    """The training view of a number: the same arguments always give the same view, on any machine and in any order.

    Images, BEV and LiDAR draw from streams of their own, so that one does not depend on what the others use.

    Args:
        camera_sizes_px: width and height of each source image.
        lidar_sweep_count: sweeps that are listed for the sample, the key frame included.
    """
    if data.augment_images:
        images = _random_images(data.image, random_generator(seed, token, number, "images"), camera_sizes_px)
    else:
        images = _centred_images(data.image, camera_sizes_px)
    sweeps = np.arange(min(data.lidar.sweeps, lidar_sweep_count))
    if data.lidar.random_sweeps and 1 < data.lidar.sweeps < lidar_sweep_count:
        # One sweep more than is used to choose from, as in the released loader (9 of 10): more would be much older
        # than those of the test view.
        drawn = random_generator(seed, token, number, "lidar").permutation(data.lidar.sweeps)[: data.lidar.sweeps - 1]
        sweeps = np.concatenate([[0], np.sort(drawn) + 1])
    augmented_from_lidar = random_bev(bev, random_generator(seed, token, number, "bev"))
    return _view(number, data.image, images, augmented_from_lidar, sweeps)


def test_view(data: DataConfig, camera_sizes_px: NDArray | Sequence[tuple[int, int]], lidar_sweep_count: int) -> View:
    """The view without randomness: centred crop, no BEV augmentation, the nearest sweeps."""
    sweeps = np.arange(min(data.lidar.sweeps, lidar_sweep_count))
    return _view(TEST_VIEW, data.image, _centred_images(data.image, camera_sizes_px), np.eye(4), sweeps)


# Its name looks like a test's to pytest where it is imported.
test_view.__test__ = False  # type: ignore[attr-defined]


def random_bev(bev: BEVAugmentationConfig, generator: np.random.Generator) -> NDArray[np.float64]:
    """A random ``augmented_from_lidar``; see :func:`bev_matrix` for the order."""
    yaw = math.radians(generator.uniform(*bev.rotation_deg))
    scale = generator.uniform(*bev.scale)
    translation = generator.normal(0.0, 1.0, 3) * bev.translation_std_m
    flips = generator.random(2) < 0.5
    return bev_matrix(yaw, scale, translation, bool(flips[0]) and bev.flip_x, bool(flips[1]) and bev.flip_y)


def bev_matrix(
    yaw_rad: float, scale: float, translation_m: NDArray | Sequence[float], flip_x: bool, flip_y: bool
) -> NDArray[np.float64]:
    """4x4 BEV augmentation: rotate counter-clockwise, translate, scale (the translation too), then mirror x and y."""
    matrix = np.eye(4)
    matrix[:3, :3] = rotations_about_z(yaw_rad)
    matrix[:3, 3] = np.asarray(translation_m)
    mirror = np.diag([-scale if flip_x else scale, -scale if flip_y else scale, scale, 1.0])
    return mirror @ matrix


def image_matrix(
    resize: float,
    crop_px: NDArray | Sequence[int],
    flip: bool,
    rotation_deg: float,
    size_px: tuple[int, int],
) -> NDArray[np.float64]:
    """4x4 matrix of resizing, cropping, flipping and rotating an image, in the order of :class:`View`.

    Args:
        resize: factor of the source image.
        crop_px: left and top of the crop in the resized image.
        rotation_deg: counter-clockwise as seen on the image, about the centre of the crop.
        size_px: width and height of the crop.
    """
    width, height = size_px
    linear = np.diag([resize, resize])
    offset = -np.asarray(crop_px, dtype=np.float64)
    if flip:
        mirror = np.diag([-1.0, 1.0])
        linear, offset = mirror @ linear, mirror @ offset + [width, 0.0]
    cos, sin = math.cos(math.radians(rotation_deg)), math.sin(math.radians(rotation_deg))
    # v points down, so counter-clockwise on the image is this matrix.
    rotation = np.array([[cos, sin], [-sin, cos]])
    centre = np.array([width, height]) / 2
    matrix = np.eye(4)
    matrix[:2, :2] = rotation @ linear
    matrix[:2, 3] = rotation @ (offset - centre) + centre
    return matrix


@dataclass(frozen=True)
class _Images:
    resize: NDArray[np.float64]
    resized_px: NDArray[np.int64]
    crop_px: NDArray[np.int64]
    flip: NDArray[np.bool_]
    rotation_deg: NDArray[np.float64]


def _random_images(
    image: ImageConfig, generator: np.random.Generator, sizes: NDArray | Sequence[tuple[int, int]]
) -> _Images:
    count = len(np.asarray(sizes))
    resize, resized = _resize(generator.uniform(*image.train_resize, count), sizes)
    left = generator.random(count) * np.maximum(resized[:, 0] - image.width_px, 0)
    flip = (generator.random(count) < 0.5) & image.flip
    rotation = generator.uniform(*image.rotation_deg, count)
    return _Images(resize, resized, _crop(image, left, resized), flip, rotation)


def _centred_images(image: ImageConfig, sizes: NDArray | Sequence[tuple[int, int]]) -> _Images:
    count = len(np.asarray(sizes))
    resize, resized = _resize(np.full(count, image.test_resize), sizes)
    left = np.maximum(resized[:, 0] - image.width_px, 0) / 2
    return _Images(resize, resized, _crop(image, left, resized), np.zeros(count, dtype=bool), np.zeros(count))


def _resize(
    factor: NDArray[np.float64], sizes: NDArray | Sequence[tuple[int, int]]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    source = np.asarray(sizes, dtype=np.float64).reshape(-1, 2)
    resize = factor * _REFERENCE_WIDTH_PX / source[:, 0]
    return resize, np.maximum((source * resize[:, None]).astype(np.int64), 1)


def _crop(image: ImageConfig, left: NDArray, resized: NDArray[np.int64]) -> NDArray[np.int64]:
    # The bottom rows are kept: the sky is what can be spared.
    return np.stack([left.astype(np.int64), resized[:, 1] - image.height_px], axis=1)


def _view(
    number: int,
    image: ImageConfig,
    images: _Images,
    augmented_from_lidar: NDArray[np.float64],
    sweeps: NDArray,
) -> View:
    size = (image.width_px, image.height_px)
    matrices = [
        image_matrix(float(resize), crop, bool(flip), float(rotation), size)
        for resize, crop, flip, rotation in zip(
            images.resize, images.crop_px, images.flip, images.rotation_deg, strict=True
        )
    ]
    return View(
        number=number,
        resized_px=images.resized_px,
        crop_px=images.crop_px,
        flip=images.flip,
        rotation_deg=images.rotation_deg,
        image_matrices=np.stack(matrices) if matrices else np.zeros((0, 4, 4)),
        augmented_from_lidar=augmented_from_lidar,
        lidar_sweeps=sweeps.astype(np.int64),
    )


def random_generator(seed: int, token: str, number: int, purpose: str) -> np.random.Generator:
    """The stream of random numbers for one purpose in one view of a sample; streams do not depend on each other."""
    digest = hashlib.sha256(f"{seed}:{token}:{number}:{purpose}".encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))
