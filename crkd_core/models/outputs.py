"""What a detector returns: the maps the losses compare, and the head's output."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from crkd_core.models.box_coder import BoxCode


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


@dataclass(frozen=True)
class HeadOutput:
    """One :class:`TaskOutput` per head task, in the order of the head's tasks."""

    tasks: tuple[TaskOutput, ...]


@dataclass(frozen=True)
class DetectorOutput:
    """Everything a detector computes from one batch."""

    features: BEVFeatures
    head: HeadOutput
