"""True positives of one sample's picture: the benchmark's greedy matching, on boxes in the model frame."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crkd_core.visualization.views import LabelledBoxes

MATCH_DISTANCE_M = 2.0


@dataclass(frozen=True)
class Matches:
    """What became of detections and ground truth.

    Attributes:
        is_tp: (D,) detections that have a gt box of their class within the match distance.
        is_missed: (G,) gt boxes that no detection took.
    """

    is_tp: NDArray[np.bool_]
    is_missed: NDArray[np.bool_]


def match_detections(detections: LabelledBoxes, gt: LabelledBoxes, distance_m: float = MATCH_DISTANCE_M) -> Matches:
    """Give each detection, highest score first, the nearest free gt box of its class within `distance_m` in BEV."""
    is_tp = np.zeros(len(detections), dtype=bool)
    is_missed = np.ones(len(gt), dtype=bool)
    if len(detections) == 0 or len(gt) == 0:
        return Matches(is_tp, is_missed)
    centres, gt_centres = (boxes.boxes.centre[:, :2].cpu().double().numpy() for boxes in (detections, gt))
    distances = np.linalg.norm(centres[:, None] - gt_centres[None], axis=-1)
    distances[detections.labels[:, None] != gt.labels[None]] = np.inf
    scores = detections.scores if detections.scores is not None else np.ones(len(detections))
    for index in np.argsort(-scores, kind="stable"):
        free = np.where(is_missed, distances[index], np.inf)
        nearest = int(free.argmin())
        if free[nearest] < distance_m:
            is_tp[index], is_missed[nearest] = True, False
    return Matches(is_tp, is_missed)
