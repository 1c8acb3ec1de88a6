"""3D boxes as one tensor with named columns."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

# Signs of a box's eight corners along its length, width and height axes: the four of the floor counter-clockwise from
# front-left, then the four of the roof.
_CORNER_SIGNS = (
    (1, 1, -1), (-1, 1, -1), (-1, -1, -1), (1, -1, -1),
    (1, 1, 1), (-1, 1, 1), (-1, -1, 1), (1, -1, 1),
)  # fmt: skip


@dataclass(frozen=True)
class Boxes3D:
    """Boxes in one frame.

    Attributes:
        tensor: (M, 9): gravity centre x, y, z (m); width, length, height (m); yaw (rad), counter-clockwise about z from
            +x to the box's length axis (nuScenes' convention; not the released one of ``models/box_coder.py``); vx, vy
            (m/s), NaN where unknown.
    """

    tensor: Tensor

    def __post_init__(self) -> None:
        if self.tensor.ndim != 2 or self.tensor.shape[1] != 9:
            raise ValueError(f"boxes must have the shape (M, 9), got {tuple(self.tensor.shape)}")

    def __len__(self) -> int:
        return self.tensor.shape[0]

    def __getitem__(self, index: slice | list[int] | Tensor) -> "Boxes3D":
        """A selection by mask, slice or index tensor."""
        return Boxes3D(self.tensor[index])

    @staticmethod
    def empty(device: torch.device | str | None = None) -> "Boxes3D":
        """No boxes."""
        return Boxes3D(torch.zeros((0, 9), device=device))

    @staticmethod
    def cat(parts: list["Boxes3D"]) -> "Boxes3D":
        """All boxes of several sets, in order."""
        return Boxes3D(torch.cat([part.tensor for part in parts])) if parts else Boxes3D.empty()

    @property
    def centre(self) -> Tensor:
        """(M, 3) gravity centre in metres."""
        return self.tensor[:, :3]

    @property
    def size_wlh(self) -> Tensor:
        """(M, 3) width, length, height in metres."""
        return self.tensor[:, 3:6]

    @property
    def yaw(self) -> Tensor:
        """(M,) heading in radians."""
        return self.tensor[:, 6]

    @property
    def velocity(self) -> Tensor:
        """(M, 2) vx, vy in m/s; NaN where unknown."""
        return self.tensor[:, 7:9]

    def to(self, device: torch.device | str) -> "Boxes3D":
        """The same boxes on another device."""
        return Boxes3D(self.tensor.to(device, non_blocking=True))

    def corners(self) -> Float[Tensor, "m 8 3"]:
        """Corner points: four of the floor counter-clockwise from front-left, then the roof's in the same order."""
        signs = self.tensor.new_tensor(_CORNER_SIGNS)
        w, length, h = self.size_wlh.unbind(-1)
        local = signs[None] * torch.stack([length, w, h], dim=-1)[:, None] / 2
        cos, sin = self.yaw.cos()[:, None], self.yaw.sin()[:, None]
        x = local[..., 0] * cos - local[..., 1] * sin
        y = local[..., 0] * sin + local[..., 1] * cos
        return torch.stack([x, y, local[..., 2]], dim=-1) + self.centre[:, None]

    def bev_corners(self) -> Float[Tensor, "m 4 2"]:
        """Footprint corners, counter-clockwise from front-left."""
        return self.corners()[:, :4, :2]

    def contain(self, points: Float[Tensor, "p 3"]) -> Bool[Tensor, "m p"]:
        """Which points lie inside which boxes (borders included)."""
        offset = points[None] - self.centre[:, None]
        cos, sin = self.yaw.cos()[:, None], self.yaw.sin()[:, None]
        along = offset[..., 0] * cos + offset[..., 1] * sin
        across = -offset[..., 0] * sin + offset[..., 1] * cos
        w, length, h = (half[:, None] for half in (self.size_wlh / 2).unbind(-1))
        return (along.abs() <= length) & (across.abs() <= w) & (offset[..., 2].abs() <= h)

    def augmented(self, augmented_from_lidar: Float[Tensor, "4 4"]) -> "Boxes3D":
        """The boxes under a BEV augmentation: a rotation about z, uniform scale, flips of x and/or y, translation.

        Sizes and velocities scale with it; velocities are not translated; a mirrored heading stays a heading.
        """
        matrix = augmented_from_lidar.to(self.tensor)
        linear = matrix[:3, :3]
        scale = linear[:2, :2].det().abs().sqrt()
        heading = torch.stack([self.yaw.cos(), self.yaw.sin()], dim=-1) @ linear[:2, :2].T
        return Boxes3D(
            torch.cat(
                [
                    self.centre @ linear.T + matrix[:3, 3],
                    self.size_wlh * scale,
                    torch.atan2(heading[:, 1], heading[:, 0])[:, None],
                    self.velocity @ linear[:2, :2].T,
                ],
                dim=1,
            )
        )

    def wrapped(self) -> "Boxes3D":
        """The same boxes with yaw in [-pi, pi)."""
        tensor = self.tensor.clone()
        tensor[:, 6] = (tensor[:, 6] + math.pi) % (2 * math.pi) - math.pi
        return Boxes3D(tensor)
