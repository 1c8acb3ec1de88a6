"""One training or test sample, and how several become a batch."""

from dataclasses import dataclass, field, replace
from typing import TypeVar

import torch
from torch import Tensor

from crkd_core.geometry.boxes import Boxes3D
from crkd_core.geometry.sensors import CameraRig, SensorInputs

_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Sample:
    """One key frame as the detectors see it, in one augmented view.

    Attributes:
        token: nuScenes sample token.
        view: number of the augmented view; -1 for the unaugmented test view.
        images: (N, 3, H, W) uint8 grey levels, or None where no camera is used; likewise `lidar` and `radar`.
        intrinsics, lidar_from_camera, image_augmentation: (N, 3, 3), (N, 4, 4), (N, 4, 4), see :class:`CameraRig`.
        lidar: (P, 5), radar: (P, 45), see :class:`SensorInputs`.
        bev_augmentation: (4, 4), ``augmented_from_lidar``.
        boxes: ground truth in the augmented model frame; empty where there is none (test split).
        labels: (M,) indices into ``DETECTION_CLASSES``.
        targets: stored teacher targets of this sample and view by name; None where not asked for.
        mirrored: whether this sample is the stored view mirrored along x, along y.
    """

    token: str
    view: int
    images: Tensor | None
    intrinsics: Tensor | None
    lidar_from_camera: Tensor | None
    image_augmentation: Tensor | None
    lidar: Tensor | None
    radar: Tensor | None
    bev_augmentation: Tensor
    boxes: Boxes3D
    labels: Tensor
    targets: dict[str, Tensor] | None = None
    mirrored: tuple[bool, bool] = (False, False)


@dataclass(frozen=True)
class Batch:
    """Samples collated for one step; lists have one entry per sample."""

    tokens: list[str]
    views: list[int]
    inputs: SensorInputs
    boxes: list[Boxes3D]
    labels: list[Tensor]
    targets: list[dict[str, Tensor]] | None
    mirrored: list[tuple[bool, bool]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.tokens)

    def to(self, device: torch.device | str) -> "Batch":
        """The batch on another device; the stored targets stay where they are."""
        return replace(
            self,
            inputs=self.inputs.to(device),
            boxes=[boxes.to(device) for boxes in self.boxes],
            labels=[labels.to(device, non_blocking=True) for labels in self.labels],
        )


def collate(samples: list[Sample]) -> Batch:
    """Stack what has equal shapes, list what has not."""
    images = _present([sample.images for sample in samples])
    rig = None
    if images is not None:
        rig = CameraRig(
            intrinsics=_stack([sample.intrinsics for sample in samples]),
            lidar_from_camera=_stack([sample.lidar_from_camera for sample in samples]),
            image_augmentation=_stack([sample.image_augmentation for sample in samples]),
        )
    return Batch(
        tokens=[sample.token for sample in samples],
        views=[sample.view for sample in samples],
        inputs=SensorInputs(
            images=torch.stack(images) if images is not None else None,
            rig=rig,
            lidar=_present([sample.lidar for sample in samples]),
            radar=_present([sample.radar for sample in samples]),
            bev_augmentation=torch.stack([sample.bev_augmentation for sample in samples]),
        ),
        boxes=[sample.boxes for sample in samples],
        labels=[sample.labels for sample in samples],
        targets=_present([sample.targets for sample in samples]),
        mirrored=[sample.mirrored for sample in samples],
    )


def _present(values: list[_Value | None]) -> list[_Value] | None:
    """The values, or None where the samples do not have them."""
    present = [value for value in values if value is not None]
    return present if len(present) == len(values) else None


def _stack(tensors: list[Tensor | None]) -> Tensor:
    return torch.stack(_present(tensors) or [])
