"""From a camera file to the pixels of a view.

Loading is mostly this, so JPEGs are decoded by simplejpeg, whose libjpeg-turbo gives the pixels of Pillow's in three
quarters of the time, and pixels have four bytes, of which the last is unused: torch's resize of interleaved bytes is
fastest with four. It has the filter of Pillow's, which is the published one; rounding differs by a grey level in one of
some hundred values.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import pyarrow as pa
import simplejpeg
import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL import Image
from PIL.ImageFile import ImageFile
from torch import Tensor

from crkd_core.datasets.nuscenes.image_files import opened_image
from crkd_core.errors import DatasetError

Pixels: TypeAlias = UInt8[Tensor, "_ _ 4"]
"""Height, width, and interleaved red, green, blue and an unused byte."""
_BYTES = 4
_REDUCTIONS = (8, 4, 2)
_MOST_ENLARGED = 1.125
# Of the bicubic kernel, in pixels of the smaller of source and result.
_REACH = 2


def read_image(
    path: Path,
    size_px: tuple[int, int] | None = None,
    resized_px: NDArray | Sequence[int] | None = None,
    decode: Literal["exact", "fast"] = "exact",
) -> Pixels:
    """Decode an image.

    Args:
        size_px: the width and height its calibration is for.
        resized_px: the width and height it will be resized to, which decide what fast decoding leaves out.
        decode: ``fast``: see :func:`reduction`.

    Returns:
        Red, green, blue and an unused byte.

    Raises:
        DatasetError: the file is missing, cannot be decoded, has another size, or pixels that do not convert: an 8-bit
            grey or palette image does, one that is transparent in places does not.
    """
    with opened_image(path) as opened:
        stored_px = opened.size
        factor = reduction(stored_px, resized_px) if decode == "fast" and resized_px is not None else 1
        pixels = _decoded_jpeg(opened, factor) if opened.format == "JPEG" else None
        if pixels is None:
            opened.draft(None, (stored_px[0] // factor, stored_px[1] // factor))
            opened.load()
            pixels = pixels_of(_to_rgb(opened, path))
    if size_px is not None and stored_px != tuple(size_px):
        raise DatasetError(
            f"the image {path} has another size than was prepared: expected {size_px[0]} x {size_px[1]} px, "
            f"found {stored_px[0]} x {stored_px[1]}; its calibration would be wrong: unpack it again."
        )
    return pixels


def _decoded_jpeg(opened: ImageFile, factor: int) -> Pixels | None:
    """The pixels that Pillow would decode; None where the decoder has doubts, which Pillow then has or has not."""
    assert opened.fp is not None
    start = opened.fp.tell()
    opened.fp.seek(0)
    data = opened.fp.read()
    opened.fp.seek(start)
    width, height = (side // factor for side in opened.size)
    try:
        pixels = simplejpeg.decode_jpeg(data, "RGBX", min_height=height, min_width=width)
    except ValueError:
        return None
    return torch.from_numpy(pixels) if pixels.shape[:2] == (height, width) else None


def reduction(stored_px: Sequence[int], resized_px: NDArray | Sequence[int]) -> int:
    """How many times smaller fast decoding makes a JPEG, by leaving out the higher frequencies of its blocks.

    2, 4 or 8 where both sides can be divided by it and are resized to at most 1.125 times as much: what is left then
    loses little. Else 1, exact decoding, which is also what files of other formats get.
    """
    for factor in _REDUCTIONS:
        if all(
            side % factor == 0 and resized <= _MOST_ENLARGED * side / factor
            for side, resized in zip(stored_px, resized_px, strict=True)
        ):
            return factor
    return 1


def _to_rgb(image: Image.Image, path: Path) -> Image.Image:
    transparent = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    if transparent and image.convert("RGBA").getchannel("A").getextrema() != (255, 255):
        raise DatasetError(f"the image {path} is transparent in places; expected every pixel to be opaque: convert it.")
    return image if image.mode == "RGB" else image.convert("RGB")


def transform_image(
    pixels: Pixels,
    resized_px: NDArray | Sequence[int],
    crop_px: NDArray | Sequence[int],
    size_px: tuple[int, int],
    flip: bool,
    rotation_deg: float,
) -> UInt8[Tensor, "3 height width"]:
    """Resize (bicubic), crop, flip and rotate (nearest) an image; what lies outside of the source is black.

    Only the part that is kept is resized, which gives the same pixels as resizing it all.

    Args:
        resized_px: width and height the whole image is resized to.
        crop_px: left and top of the result in the resized image.
        size_px: width and height of the result.

    Returns:
        Grey levels; the memory may be interleaved.
    """
    left, top = (int(value) for value in np.asarray(crop_px))
    width, height = (int(value) for value in np.asarray(resized_px))
    x0, x1 = max(left, 0), min(left + size_px[0], width)
    y0, y1 = max(top, 0), min(top + size_px[1], height)
    if x1 <= x0 or y1 <= y0:
        return torch.zeros(3, size_px[1], size_px[0], dtype=torch.uint8)
    result = _resized_part(pixels, (width, height), (x0, x1), (y0, y1))
    if (x1 - x0, y1 - y0) != tuple(size_px):
        canvas = torch.zeros(size_px[1], size_px[0], _BYTES, dtype=torch.uint8)
        canvas[y0 - top : y1 - top, x0 - left : x1 - left] = result
        result = canvas
    if flip:
        result = result.contiguous().view(torch.int32).flip(1).view(torch.uint8)
    if rotation_deg:
        packed = result.contiguous().numpy()
        result = pixels_of(Image.frombuffer("RGBX", size_px, packed, "raw", "RGBX", 0, 1).rotate(rotation_deg))
    return result[..., :3].permute(2, 0, 1)


def pixels_of(image: Image.Image) -> Pixels:
    """The memory of an RGB image, without a copy where it lies in one piece."""
    try:
        values = torch.from_dlpack(pa.array(image).values)
    except ValueError:  # more than 16 MB are several pieces
        values = torch.frombuffer(bytearray(image.tobytes("raw", "RGBX")), dtype=torch.uint8)
    return values.view(image.height, image.width, _BYTES)


def _resized_part(
    pixels: Pixels,
    resized_px: tuple[int, int],
    columns: tuple[int, int],
    rows: tuple[int, int],
) -> UInt8[Tensor, "rows columns 4"]:
    """Columns and rows, from the first to before the second, of a resized image."""
    width, height = resized_px
    along = len(pixels) / height
    reach = _REACH * max(along, 1.0) + 1
    first, end = max(math.floor(rows[0] * along - reach), 0), min(math.ceil(rows[1] * along + reach), len(pixels))
    # Rows that no kept one is made of may hold anything.
    narrow = pixels.new_empty(len(pixels), columns[1] - columns[0], _BYTES)
    narrow[first:end] = _interpolated(pixels[first:end], (end - first, width))[:, slice(*columns)]
    return _interpolated(narrow, (height, narrow.shape[1]))[slice(*rows)]


def _interpolated(pixels: Pixels, size: tuple[int, int]) -> UInt8[Tensor, "new_height new_width 4"]:
    resized = F.interpolate(pixels[None].permute(0, 3, 1, 2), size=size, mode="bicubic", antialias=True)
    return resized[0].permute(1, 2, 0)
