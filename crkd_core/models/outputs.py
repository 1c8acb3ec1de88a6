"""What a detector returns: the maps the losses compare, and the head's output."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


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
        offset: centre within its cell (cells, along x and y).
        height: gravity centre z (m).
        log_size: natural logarithm of width, length, height (m).
        rotation: sine and cosine of the *released* yaw, which is ``-yaw - pi / 2`` of ours: ``(-cos yaw, -sin yaw)``.
        velocity: vx, vy (m/s).
    """

    heatmap_logits: Tensor
    offset: Tensor
    height: Tensor
    log_size: Tensor
    rotation: Tensor
    velocity: Tensor

    @property
    def regression(self) -> Float[Tensor, "b 10 x y"]:
        """The ten regression channels: offset 2, height 1, log size 3, rotation 2, velocity 2."""
        return torch.cat([self.offset, self.height, self.log_size, self.rotation, self.velocity], dim=1)


@dataclass(frozen=True)
class HeadOutput:
    """One :class:`TaskOutput` per head task, in the order of ``HEAD_TASKS``."""

    tasks: tuple[TaskOutput, ...]


@dataclass(frozen=True)
class DetectorOutput:
    """Everything a detector computes from one batch."""

    features: BEVFeatures
    head: HeadOutput
