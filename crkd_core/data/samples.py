"""One training or test sample, and how several become a batch."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from crkd_core.geometry.boxes import Boxes3D
from crkd_core.geometry.sensors import CameraRig, SensorInputs


@dataclass(frozen=True)
class Sample:
    """One key frame as the detectors see it, in one augmented view.

    Attributes:
        token: nuScenes sample token.
        view: number of the augmented view; -1 for the unaugmented test view.
        images: (N, 3, H, W) normalised, or None where no camera is used; likewise `lidar` and `radar`.
        intrinsics, lidar_from_camera, image_augmentation: (N, 3, 3), (N, 4, 4), (N, 4, 4), see :class:`CameraRig`.
        lidar: (P, 5), radar: (P, 45), see :class:`SensorInputs`.
        bev_augmentation: (4, 4), ``augmented_from_lidar``.
        boxes: ground truth in the augmented model frame; empty where there is none (test split).
        labels: (M,) indices into ``DETECTION_CLASSES``.
        targets: stored teacher targets of this sample and view by name; None where not asked for.
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


@dataclass(frozen=True)
class Batch:
    """Samples collated for one step; lists have one entry per sample."""

    tokens: list[str]
    views: list[int]
    inputs: SensorInputs
    boxes: list[Boxes3D]
    labels: list[Tensor]
    targets: list[dict[str, Tensor]] | None

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
    first = samples[0]
    rig = None
    if first.images is not None:
        rig = CameraRig(
            intrinsics=torch.stack([s.intrinsics for s in samples]),
            lidar_from_camera=torch.stack([s.lidar_from_camera for s in samples]),
            image_augmentation=torch.stack([s.image_augmentation for s in samples]),
        )
    return Batch(
        tokens=[s.token for s in samples],
        views=[s.view for s in samples],
        inputs=SensorInputs(
            images=torch.stack([s.images for s in samples]) if first.images is not None else None,
            rig=rig,
            lidar=[s.lidar for s in samples] if first.lidar is not None else None,
            radar=[s.radar for s in samples] if first.radar is not None else None,
            bev_augmentation=torch.stack([s.bev_augmentation for s in samples]),
        ),
        boxes=[s.boxes for s in samples],
        labels=[s.labels for s in samples],
        targets=[s.targets for s in samples] if first.targets is not None else None,
    )
