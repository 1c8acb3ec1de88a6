"""Which detections of a picture are right: the benchmark's greedy matching, of one sample."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crkd_core.visualization.views import LabelledBoxes

MATCH_DISTANCE_M = 2.0


@dataclass(frozen=True)
class Matches:
    """Attributes:
    found: (D,) detections that have an annotated object of their class within the match distance.
    missed: (G,) annotated objects that no detection took.
    """

    found: NDArray[np.bool_]
    missed: NDArray[np.bool_]


def match_detections(detections: LabelledBoxes, gt: LabelledBoxes, distance_m: float = MATCH_DISTANCE_M) -> Matches:
    """Give each detection, highest score first, the nearest free object of its class within `distance_m` in BEV."""
    found = np.zeros(len(detections), dtype=bool)
    missed = np.ones(len(gt), dtype=bool)
    if len(detections) == 0 or len(gt) == 0:
        return Matches(found, missed)
    centres = detections.boxes.centre[:, :2].cpu().double().numpy()
    objects = gt.boxes.centre[:, :2].cpu().double().numpy()
    distances = np.linalg.norm(centres[:, None] - objects[None], axis=-1)
    distances[detections.labels[:, None] != gt.labels[None]] = np.inf
    scores = detections.scores if detections.scores is not None else np.ones(len(detections))
    for index in np.argsort(-scores, kind="stable"):
        free = np.where(missed, distances[index], np.inf)
        nearest = int(free.argmin())
        if free[nearest] < distance_m:
            found[index], missed[nearest] = True, False
    return Matches(found, missed)
