"""Camera images as files: what may be in them, and their sizes, which tables may lack or get wrong.

Everything a detector knows of a camera hangs on the size its calibration is for. So sizes come from the tables only
where the files bear them out, and from the files' headers where the tables have none.
"""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from crkd_core.config.classes import CAMERA_CHANNELS
from crkd_core.datasets.nuscenes.files import open_sensor_file
from crkd_core.datasets.nuscenes.nuscenes_tables import NuScenesTables
from crkd_core.datasets.nuscenes.sweeps import SampleFiles
from crkd_core.errors import DatasetError
from crkd_core.progress import Progress

_MODES = {
    "1": "1-bit black and white",
    "I;16": "16-bit grey",
    "I;16B": "16-bit grey",
    "I": "32-bit grey",
    "F": "floating-point grey",
    "CMYK": "CMYK",
}
_CONVERTED = {"RGB", "L", "P", "RGBA", "LA", "PA", "YCbCr"}
_ORIENTATION = 0x0112
_LEAST_PX = 16
_OFF_CENTRE = 0.2


@contextmanager
def opened_image(path: Path) -> Iterator[ImageFile]:
    """An image with its header read; its pixels are decoded when asked for, within the block.

    Raises:
        DatasetError: the file is missing, cannot be decoded (also in the block), has pixels that do not convert to
            8-bit RGB, or is to be turned or mirrored before it is looked at.
    """
    with open_sensor_file(path, "image") as stream:
        try:
            image = Image.open(stream)
            if image.mode not in _CONVERTED:
                raise DatasetError(
                    f"the image {path} is {_MODES.get(image.mode, 'of the kind ' + image.mode)}; expected 8-bit RGB or "
                    "grey: convert it."
                )
            orientation = _orientation(image)
            if orientation != 1:
                raise DatasetError(
                    f"the image {path} is stored turned or mirrored (EXIF orientation {orientation}), and its "
                    "calibration would not fit; store it upright and without that tag."
                )
            yield image
        except UnidentifiedImageError:
            raise _damaged(path, "its format is unknown") from None
        except (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error) as error:
            raise _damaged(path, error) from None
        except Image.DecompressionBombError as error:
            raise _damaged(path, error) from None


def _damaged(path: Path, reason: object) -> DatasetError:
    return DatasetError(f"the image {path} is damaged and cannot be decoded ({reason}); unpack it again.")


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except (SyntaxError, ValueError, TypeError, KeyError, OSError, struct.error):  # damaged tags tell nothing
        return 1
    return value if value in range(2, 9) else 1


def image_size_px(path: Path) -> tuple[int, int]:
    """Width and height that the header of an image says.

    Raises:
        DatasetError: see :func:`opened_image`; or it is too small for a camera's.
    """
    with opened_image(path) as image:
        size = image.size
    if min(size) < _LEAST_PX:
        raise DatasetError(
            f"the image {path} is {size[0]} x {size[1]} px, too small for a camera; expected at least {_LEAST_PX} px."
        )
    return size


def measure_images(dataroot: Path, tables: NuScenesTables, files: SampleFiles, progress: Progress) -> NuScenesTables:
    """The tables with the width and height of every key-frame image.

    Headers are read of all images whose records have no size, and of one image for every size that the records of a
    scene give a camera.

    Args:
        files: the camera files that are there, -1 for the others.

    Raises:
        DatasetError: an image has another size than its record, or than its camera matrix can be for.
    """
    sensors = tables.sensors
    rows = np.unique(files.cameras[files.cameras >= 0])
    sizes = np.stack([sensors.width, sensors.height], axis=1)
    unsized = (sizes[rows] == 0).any(axis=1)
    kinds = np.column_stack([tables.samples.scene[sensors.sample[rows]], sensors.channel[rows], sizes[rows]])
    looked_at = np.zeros(len(rows), dtype=bool)
    looked_at[np.unique(kinds, axis=0, return_index=True)[1]] = True
    looked_at |= unsized
    with progress.task("images", total=int(looked_at.sum()), unit="headers") as task:
        for row in rows[looked_at].tolist():
            path = dataroot / sensors.path[row]
            size = image_size_px(path)
            recorded = sizes[row]
            if any(stated not in (0, actual) for stated, actual in zip(recorded.tolist(), size, strict=True)):
                raise DatasetError(
                    f"the image {path} is {size[0]} x {size[1]} px and sample_data.json says {recorded[0]} x "
                    f"{recorded[1]} px, which its calibration is for; restore the images, or scale the camera "
                    "matrices and the sizes in the tables."
                )
            sizes[row] = size
            task.advance()
    measured = replace(tables, sensors=replace(sensors, width=sizes[:, 0], height=sizes[:, 1]))
    _check_matrices(measured, rows, progress)
    return measured


def _check_matrices(tables: NuScenesTables, rows: NDArray[np.int64], progress: Progress) -> None:
    """Camera matrices must be of images of these sizes: their principal points lie in them."""
    sensors, off_centre = tables.sensors, dict[str, str]()
    uses = np.column_stack([sensors.calibration[rows], sensors.width[rows], sensors.height[rows]])
    for index in np.unique(uses, axis=0, return_index=True)[1].tolist():
        calibration, *size = uses[index].tolist()
        channel = CAMERA_CHANNELS[sensors.channel[rows[index]]]
        x, y = (float(value) for value in tables.intrinsics[calibration][:2, 2])
        about = f"the camera matrix of {channel} has its centre at ({x:.0f}, {y:.0f}) px of {size[0]} x {size[1]} px"
        if not (0 < x < size[0] and 0 < y < size[1]):
            raise DatasetError(f"{about}: it is for another size; restore the images, or scale the matrix with them.")
        if max(abs(x / size[0] - 0.5), abs(y / size[1] - 0.5)) > _OFF_CENTRE:
            off_centre.setdefault(channel, about)
    for about in off_centre.values():
        progress.warning(f"{about}, far from their middle; is it for another size?")


def sizes_by_camera(tables: NuScenesTables, files: SampleFiles) -> dict[str, dict[str, int]]:
    """For every camera the number of its images by size, such as ``{"CAM_FRONT": {"1600x900": 404}}``."""
    result = {}
    for channel, rows in zip(CAMERA_CHANNELS, files.cameras.T, strict=True):
        rows = rows[rows >= 0]
        sizes, counts = np.unique(
            np.column_stack([tables.sensors.width[rows], tables.sensors.height[rows]]), axis=0, return_counts=True
        )
        result[channel] = {f"{w}x{h}": int(count) for (w, h), count in zip(sizes.tolist(), counts, strict=True)}
    return result
