"""What the sensors of one batch measured, in the form the detectors take it."""

from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

RADAR_FEATURES = 45
LIDAR_FEATURES = 5

_Moved = TypeVar("_Moved", bound="_OnDevice")


class _OnDevice:
    def to(self: _Moved, device: torch.device | str) -> _Moved:
        """The same data on another device."""
        return replace(self, **{f.name: _move(getattr(self, f.name), device) for f in fields(self)})  # type: ignore[type-var,arg-type]


def _move(value: Any, device: torch.device | str) -> Any:
    if isinstance(value, Tensor | _OnDevice):
        return value.to(device, non_blocking=True) if isinstance(value, Tensor) else value.to(device)
    if isinstance(value, list | tuple):
        return type(value)(_move(item, device) for item in value)
    return value


@dataclass(frozen=True)
class CameraRig(_OnDevice):
    """Calibration of N cameras for B samples.

    Attributes:
        intrinsics: (B, N, 3, 3), pixels of the *source* image.
        lidar_from_camera: (B, N, 4, 4), camera frame (x right, y down, z forward) to the model frame of the key frame;
            contains the ego motion between the two exposures.
        image_augmentation: (B, N, 4, 4), maps homogeneous source pixels (u, v, 1) to pixels of the network's input
            image in the upper-left 3 x 3 sense of BEVFusion: ``[u', v'] = A[:2, :2] [u, v] + A[:2, 3]``.
    """

    intrinsics: Tensor
    lidar_from_camera: Tensor
    image_augmentation: Tensor


@dataclass(frozen=True)
class SensorInputs(_OnDevice):
    """One batch of sensor data; a modality that was not loaded is None.

    Attributes:
        images: (B, N, 3, H, W) RGB: uint8 grey levels, which the detector normalises where it is, or float32 that is
            normalised already.
        rig: calibration of the N cameras.
        lidar: B tensors (P, 5): x, y, z (m, model frame *after* the BEV augmentation), intensity (0 to 255), age (s).
        radar: B tensors (P, 45): x, y, z, rcs, vx_comp, vy_comp, dt, then the one-hot state fields (see
            ``crkd_core.datasets.nuscenes.radar``); positions and velocities after the BEV augmentation.
        bev_augmentation: (B, 4, 4), ``augmented_from_lidar``; identity without augmentation.
    """

    images: Tensor | None
    rig: CameraRig | None
    lidar: list[Tensor] | None
    radar: list[Tensor] | None
    bev_augmentation: Tensor

    @property
    def batch_size(self) -> int:
        return self.bev_augmentation.shape[0]
