"""The box code: ten regression channels that describe a box from the cell of its centre.

The *released yaw*: our boxes have nuScenes' yaw, counter-clockwise about z from +x to the box's length axis. The
released code, and with it every published weight, stores ``-yaw - pi / 2`` instead, and its head regresses the sine and
cosine of that angle: ``(-cos yaw, -sin yaw)``, minus the heading's unit vector. This is the only place that knows it,
and as the heading is a vector, mirroring an axis negates its component as it negates that of the velocity.

Source: CenterPoint (Yin et al. 2021), section 4.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from crkd_core.geometry.grid import BEVGrid

_T = TypeVar("_T")


@dataclass(frozen=True)
class BoxCode(Generic[_T]):
    """One value for each part of the box code, in the order of its channels; iterating goes through them.

    Attributes:
        offset: of the gravity centre from its cell's lower corner, along x and y (cells).
        height: gravity centre z (m).
        log_size: natural logarithm of width, length, height (m).
        rotation: sine and cosine of the released yaw.
        velocity: vx, vy (m/s), NaN where unknown.
    """

    offset: _T
    height: _T
    log_size: _T
    rotation: _T
    velocity: _T

    def __iter__(self) -> Iterator[_T]:
        return iter((self.offset, self.height, self.log_size, self.rotation, self.velocity))


CHANNELS = BoxCode(offset=2, height=1, log_size=3, rotation=2, velocity=2)
"""Number of channels of each part."""
CHANNEL_COUNT = sum(CHANNELS)


def split_channels(code: Float[Tensor, "*n channels"]) -> BoxCode[Tensor]:
    """The parts of codes, whose last dimension is the channels."""
    return BoxCode(*code.split([*CHANNELS], dim=-1))


def spread_over_channels(values: BoxCode[float]) -> list[float]:
    """The value of its part for each channel."""
    return [value for value, count in zip(values, CHANNELS, strict=True) for _ in range(count)]


@dataclass(frozen=True)
class BoxCoder:
    """Boxes to codes and back, on one grid.

    Attributes:
        grid: whose cells the centres lie in.
    """

    grid: BEVGrid

    def encode(self, boxes: Float[Tensor, "m 9"], cells: Int[Tensor, "m 2"]) -> Float[Tensor, "m channels"]:
        """Codes of rows of :class:`Boxes3D`, each seen from a cell (x, y), which is that of its centre in training."""
        yaw = boxes[:, 6:7]
        code = BoxCode(
            offset=self.grid.to_cells(boxes[:, :2]) - cells,
            height=boxes[:, 2:3],
            log_size=boxes[:, 3:6].log(),
            rotation=torch.cat([-yaw.cos(), -yaw.sin()], dim=1),
            velocity=boxes[:, 7:9],
        )
        return torch.cat([*code], dim=1)

    def decode(self, code: Float[Tensor, "*n channels"], cells: Int[Tensor, "*n 2"]) -> Float[Tensor, "*n 9"]:
        """Rows of :class:`Boxes3D` of codes at cells (x, y), yaw in [-pi, pi]; the inverse of :meth:`encode`."""
        parts = split_channels(code)
        yaw = torch.atan2(-parts.rotation[..., 1:], -parts.rotation[..., :1])
        xy = self.grid.to_metres(cells + parts.offset)
        return torch.cat([xy, parts.height, parts.log_size.exp(), yaw, parts.velocity], dim=-1)

    @staticmethod
    def mirror(code: Float[Tensor, "*n channels"], mirrored: tuple[bool, bool]) -> Float[Tensor, "*n channels"]:
        """Codes of the boxes mirrored about the middle of the grid, seen from the mirrored cells.

        Twice the same is the original. On a grid whose middle is 0 along the mirrored axes it is what :meth:`encode`
        gives for the mirrored boxes.

        Args:
            code: their codes.
            mirrored: along x, along y.
        """
        signs = code.new_tensor([-1.0 if along else 1.0 for along in mirrored])
        unchanged = BoxCode(*(code.new_ones(count) for count in CHANNELS))
        sign = BoxCode(signs, unchanged.height, unchanged.log_size, signs, signs)
        # An offset is counted from a cell's lower side, which mirroring makes its upper one: 1 - offset.
        shift = BoxCode((1 - signs) / 2, *(code.new_zeros(count) for count in (*CHANNELS,)[1:]))
        return code * torch.cat([*sign]) + torch.cat([*shift])
