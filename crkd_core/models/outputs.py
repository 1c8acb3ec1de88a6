"""What a detector returns: the maps the losses compare, and the head's output."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from crkd_core.models.box_coder import CHANNEL_COUNT, BoxCode


@dataclass(frozen=True)
class BEVFeatures:
    """BEV maps of one batch, all [B, C, X, Y]; None where the detector has no such branch.

    Attributes:
        camera: camera map after the view transform.
        points: LiDAR or radar map (the radar's after calibration).
        gated_camera, gated_points: the maps after the fuser's gates; equal to `camera` and `points` without gates.
        fused: the fuser's output after its ReLU.
        radar_activation: [B, 1, X, Y], not negative; only from a calibrated radar branch.
    """

    camera: Tensor | None
    points: Tensor | None
    gated_camera: Tensor | None
    gated_points: Tensor | None
    fused: Tensor
    radar_activation: Tensor | None


@dataclass(frozen=True)
class TaskOutput:
    """Raw maps of one head task of K classes, [B, channels, X, Y].

    Attributes:
        heatmap_logits: K channels.
        offset, height, log_size, rotation, velocity: the parts of the box code, see :class:`BoxCode`.
    """

    heatmap_logits: Tensor
    offset: Tensor
    height: Tensor
    log_size: Tensor
    rotation: Tensor
    velocity: Tensor

    @property
    def box_code(self) -> BoxCode[Tensor]:
        """The maps of the box code."""
        return BoxCode(self.offset, self.height, self.log_size, self.rotation, self.velocity)

    @property
    def regression(self) -> Float[Tensor, "b channels x y"]:
        """The maps of the box code as one."""
        return torch.cat([*self.box_code], dim=1)

    @property
    def code_shape(self) -> tuple[int, int, int, int]:
        """Shape of :attr:`regression`: samples, channels, cells along x and y."""
        samples, _, nx, ny = self.heatmap_logits.shape
        return samples, CHANNEL_COUNT, nx, ny

    def codes_at(self, cells: Int[Tensor, "p"]) -> Float[Tensor, "p channels"]:
        """Box codes of cells given as ``b * X * Y + x * Y + y``."""
        return torch.cat([gather_cells(part, cells) for part in self.box_code], dim=1)


@dataclass(frozen=True)
class HeadOutput:
    """One :class:`TaskOutput` per head task, in the order of the head's tasks."""

    tasks: tuple[TaskOutput, ...]


@dataclass(frozen=True)
class DetectorOutput:
    """Everything a detector computes from one batch."""

    features: BEVFeatures
    head: HeadOutput


def gather_cells(bev_map: Float[Tensor, "b c x y"], indices: Int[Tensor, "p"]) -> Float[Tensor, "p c"]:
    """A map's channels on cells given by their flat indices; touches nothing but those cells."""
    cells = bev_map.shape[2] * bev_map.shape[3]
    sample = torch.div(indices, cells, rounding_mode="floor")
    return bev_map.flatten(2)[sample, :, indices - sample * cells]
