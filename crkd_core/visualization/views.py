"""What one picture shows, as plain arrays: drawing needs neither files nor models."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from crkd_core.geometry.boxes import Boxes3D


@dataclass(frozen=True)
class LabelledBoxes:
    """Boxes with classes, and scores where they are detections.

    Attributes:
        boxes: in the model frame.
        labels: (M,) indices into ``DETECTION_CLASSES``.
        scores: (M,) 0 to 1; None for ground truth.
    """

    boxes: Boxes3D
    labels: NDArray[np.int64]
    scores: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.boxes)

    @staticmethod
    def empty() -> "LabelledBoxes":
        """No boxes."""
        return LabelledBoxes(Boxes3D.empty(), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32))

    def select(self, mask: NDArray[np.bool_]) -> "LabelledBoxes":
        """Those where `mask` is true."""
        boxes = Boxes3D(self.boxes.tensor[np.flatnonzero(mask)])
        return LabelledBoxes(boxes, self.labels[mask], None if self.scores is None else self.scores[mask])


@dataclass(frozen=True)
class CameraView:
    """One camera image and its calibration.

    Attributes:
        channel: nuScenes channel, such as ``CAM_FRONT``.
        image: (H, W, 3) RGB, 0 to 255.
        intrinsics: (3, 3), pixels of `image`.
        lidar_from_camera: (4, 4), the ego motion between the exposures included.
    """

    channel: str
    image: NDArray[np.uint8]
    intrinsics: NDArray[np.float64]
    lidar_from_camera: NDArray[np.float64]


@dataclass(frozen=True)
class ModelView:
    """One model's detections of the sample: `name` as shown, and the sensors it sees (camera, lidar, radar)."""

    name: str
    detections: LabelledBoxes
    modalities: tuple[str, ...] = ()


@dataclass(frozen=True)
class SampleView:
    """One sample as a picture shows it; everything in the model frame (x right, y forward, z up, metres).

    Attributes:
        token, scene, condition: sample token, scene name, scene description (weather, place).
        extent_m: half side of the square area that is shown.
        cameras: in any order; the picture arranges them by channel.
        lidar: (P, 4) x, y, z, intensity of the key frame; may be empty.
        radar: (R, 4) x, y (m) and ego-motion compensated vx, vy (m/s); may be empty.
        gt: annotated objects; None where the annotations are not public.
        models: detections to compare, one panel each.
        score: detections below it are left out.
        marked: (M, 2) x, y of objects to draw a ring around, and what that means.
    """

    token: str
    scene: str
    condition: str
    extent_m: float
    gt: LabelledBoxes | None
    cameras: tuple[CameraView, ...] = ()
    lidar: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 4), dtype=np.float32))
    radar: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 4), dtype=np.float32))
    models: tuple[ModelView, ...] = ()
    score: float = 0.0
    marked: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 2), dtype=np.float32))
    marked_title: str = ""
