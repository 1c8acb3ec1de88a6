"""True positives of one sample's picture: the benchmark's greedy matching, on boxes in the model frame."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crkd_core.progress import format_count
from crkd_core.visualization.palette import FALSE_POSITIVE, MISSED, TRUE_POSITIVE, BoxStyle
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


@dataclass(frozen=True)
class StyledBoxes:
    """Boxes that are drawn alike."""

    shown: LabelledBoxes
    style: BoxStyle


@dataclass(frozen=True)
class Outcome:
    """What a model made of a sample.

    Attributes:
        tp, fp: its detections; all are `tp` where nothing is annotated.
        missed: objects that it did not detect.
        is_judged: whether anything is annotated.
    """

    tp: LabelledBoxes
    fp: LabelledBoxes
    missed: LabelledBoxes
    is_judged: bool

    @staticmethod
    def of(detections: LabelledBoxes, gt: LabelledBoxes | None) -> "Outcome":
        """Match detections with ground truth; None where the annotations are not public."""
        if gt is None:
            return Outcome(detections, LabelledBoxes.empty(), LabelledBoxes.empty(), is_judged=False)
        matches = match_detections(detections, gt)
        return Outcome(
            detections.select(matches.is_tp), detections.select(~matches.is_tp), gt.select(matches.is_missed), True
        )

    @property
    def summary(self) -> str:
        """In a few words."""
        if not self.is_judged:
            return format_count(len(self.tp), "detection")
        return f"{len(self.tp)} of {len(self.tp) + len(self.missed)} found, {len(self.fp)} false"

    @property
    def layers(self) -> tuple[StyledBoxes, ...]:
        """From the lowest to the highest."""
        return (
            StyledBoxes(self.missed, MISSED),
            StyledBoxes(self.fp, FALSE_POSITIVE),
            StyledBoxes(self.tp, TRUE_POSITIVE),
        )


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
