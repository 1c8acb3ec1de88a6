"""Names and scores beside the boxes of an image, as many as there is room for."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from crkd_core.visualization.palette import BACKGROUND

_FONT_POINTS = 9.0
_LINE_PX = 17.0
_LETTER_PX = 7.9
_SMALLEST_BOX_PX = 22.0
_ROOM_OF_CHANNEL_PX = 44.0


@dataclass(frozen=True)
class Tag:
    """One text at a box.

    Attributes:
        corners: (C, 2) of the box, pixels of the image.
        depth_m: of the box; the nearest come first.
        colour: behind the text.
    """

    text: str
    corners: NDArray[np.float64]
    depth_m: float
    colour: str


def draw_tags(axes: Axes, tags: Sequence[Tag], size: tuple[int, int], px_per_pixel: float, reserved: str = "") -> None:
    """Write tags above their boxes, the nearest first, where they cover neither each other nor the image's name.

    Args:
        size: width and height of the image, pixels.
        px_per_pixel: size of an image's pixel in the picture.
        reserved: the text in the upper left corner.
    """
    width, height = (length * px_per_pixel for length in size)
    taken = [(0.0, 0.0, _ROOM_OF_CHANNEL_PX + _LETTER_PX * 1.3 * len(reserved), _ROOM_OF_CHANNEL_PX)]
    for tag in sorted(tags, key=lambda tag: tag.depth_m):
        inside = np.clip(tag.corners * px_per_pixel, 0, (width, height))
        (left, top), (right, bottom) = inside.min(axis=0).tolist(), inside.max(axis=0).tolist()
        if bottom - top < _SMALLEST_BOX_PX or right <= left:
            continue
        tag_width = _LETTER_PX * len(tag.text) + 6
        x = float(np.clip(left, 0, max(width - tag_width, 0)))
        for y in (top - _LINE_PX, top, bottom):
            rectangle = (x, y, x + tag_width, y + _LINE_PX)
            if y >= 0 and y + _LINE_PX <= height and not any(_overlap(rectangle, other) for other in taken):
                taken.append(rectangle)
                axes.text(
                    (x + 3) / px_per_pixel, (y + _LINE_PX / 2) / px_per_pixel, tag.text, color=BACKGROUND,
                    fontsize=_FONT_POINTS, va="center_baseline", ha="left", fontweight="bold", clip_on=True,
                    bbox={"boxstyle": "square,pad=0.18", "facecolor": tag.colour, "edgecolor": "none", "alpha": 0.92},
                )  # fmt: skip
                break


def _overlap(first: tuple[float, float, float, float], second: tuple[float, float, float, float]) -> bool:
    return bool(first[0] < second[2] and second[0] < first[2] and first[1] < second[3] and second[1] < first[3])
