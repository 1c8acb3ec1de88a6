"""From a camera file to the normalised network input of a view."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from crkd_core.datasets.nuscenes.image_files import opened_image
from crkd_core.errors import DatasetError


def read_image(path: Path, size_px: tuple[int, int] | None = None) -> Image.Image:
    """Decode an RGB image.

    Args:
        size_px: the width and height its calibration is for.

    Raises:
        DatasetError: the file is missing, cannot be decoded, has another size, or pixels that do not convert: an 8-bit
            grey or palette image does, one that is transparent in places does not.
    """
    with opened_image(path) as opened:
        opened.load()
        image = _to_rgb(opened, path)
    if size_px is not None and image.size != tuple(size_px):
        raise DatasetError(
            f"the image {path} has another size than was prepared: expected {size_px[0]} x {size_px[1]} px, "
            f"found {image.size[0]} x {image.size[1]}; its calibration would be wrong: unpack it again."
        )
    return image


def _to_rgb(image: Image.Image, path: Path) -> Image.Image:
    transparent = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    if transparent and image.convert("RGBA").getchannel("A").getextrema() != (255, 255):
        raise DatasetError(f"the image {path} is transparent in places; expected every pixel to be opaque: convert it.")
    return image if image.mode == "RGB" else image.convert("RGB")


def transform_image(
    image: Image.Image,
    resized_px: NDArray | Sequence[int],
    crop_px: NDArray | Sequence[int],
    size_px: tuple[int, int],
    flip: bool,
    rotation_deg: float,
) -> Image.Image:
    """Resize (bicubic), crop, flip and rotate (nearest) an image; what lies outside of the source is black.

    Only the part that is kept is resized, which gives the same pixels to one grey level as resizing it all.

    Args:
        resized_px: width and height the whole image is resized to.
        crop_px: left and top of the result in the resized image.
        size_px: width and height of the result.
    """
    left, top = (int(value) for value in np.asarray(crop_px))
    width, height = (int(value) for value in np.asarray(resized_px))
    x0, x1 = max(left, 0), min(left + size_px[0], width)
    y0, y1 = max(top, 0), min(top + size_px[1], height)
    if x1 <= x0 or y1 <= y0:
        return Image.new("RGB", size_px)
    along_x, along_y = image.width / width, image.height / height
    box = (x0 * along_x, y0 * along_y, min(x1 * along_x, image.width), min(y1 * along_y, image.height))
    result = image.resize((x1 - x0, y1 - y0), Image.Resampling.BICUBIC, box=box)
    if result.size != tuple(size_px):
        canvas = Image.new("RGB", size_px)
        canvas.paste(result, (x0 - left, y0 - top))
        result = canvas
    if flip:
        result = result.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return result.rotate(rotation_deg) if rotation_deg else result


def normalise_images(
    images: Sequence[NDArray[np.uint8]], mean: Sequence[float], std: Sequence[float]
) -> Float[Tensor, "n 3 h w"]:
    """Stack (H, W, 3) images and normalise each channel: ``(value / 255 - mean) / std``."""
    stacked = torch.from_numpy(np.stack([image.transpose(2, 0, 1) for image in images])).float()
    shape = (1, 3, 1, 1)
    scale = 1 / (255 * torch.tensor(std, dtype=torch.float64))
    shift = torch.tensor(mean, dtype=torch.float64) / torch.tensor(std, dtype=torch.float64)
    return stacked.mul_(scale.float().view(shape)).sub_(shift.float().view(shape))
