"""Diagnoses of suspiciously low scores: known causes, each recognised by what the matches look like.

A cause is named only where the detections show it plainly: a detector that is merely bad fits none of them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations

import numpy as np
from jaxtyping import Float64
from numpy.typing import NDArray

from crkd_core.artifacts.workspace import Artifact
from crkd_core.evaluation.displacement import find_displacement
from crkd_core.evaluation.nuscenes.columns import BoxColumns
from crkd_core.evaluation.nuscenes.rounding import yaws
from crkd_core.evaluation.nuscenes.scoring import Scoring
from crkd_core.evaluation.sensor_inputs import SensorInput

_FEWEST = 10
"""Detections, or matches, below which nothing is concluded."""
_MOST_PAIRS = 100_000
_FAR_M = 20.0
_AROUND_RANGES = 2.0
"""Of the farthest class: no detection is meant to be farther from the car."""
_STILL_MPS = 0.01
_MOVING_MPS = 0.5
_MOST_PRIOR_SCORE = 0.35
_NARROW_SCORES = 0.1


@dataclass(frozen=True)
class Diagnosis:
    """One known cause of low scores that fits: its name, the figures that show it, and what to do."""

    cause: str
    evidence: str
    advice: str


@dataclass(frozen=True)
class Evidence:
    """What causes are recognised by.

    Attributes:
        lidar_from_global: (S, 2, 2) rotation of horizontal vectors to each sample's LiDAR frame.
        inputs: of the model, where it is known.
        data: what the samples were prepared as; for advice.
    """

    scoring: Scoring
    lidar_from_global: Float64[np.ndarray, "s 2 2"]
    inputs: tuple[SensorInput, ...] = ()
    data: Artifact | None = None

    def prepare_again(self, **options: str | int) -> str:
        """The command that prepares the samples again."""
        return "" if self.data is None else f": {self.data.remake_command(**options)}"

    @cached_property
    def tp_pairs(self) -> tuple[BoxColumns, BoxColumns]:
        """True positives at 2 m and their gt boxes, row by row; those of the highest scores where there are many."""
        matching = self.scoring.matching
        tp = matching.order[matching.tp_gt_row[matching.order] >= 0][:_MOST_PAIRS]
        return self.scoring.detections[tp], self.scoring.gt[matching.tp_gt_row[tp]]


def diagnose(evidence: Evidence) -> tuple[Diagnosis, ...]:
    """Every known cause of low scores that fits."""
    diagnoses = [cause(evidence) for cause in _CAUSES]
    return tuple(diagnosis for diagnosis in diagnoses if diagnosis is not None)


def no_points(evidence: Evidence) -> Diagnosis | None:
    """A sensor that the model uses gave no points at all."""
    for sensor in evidence.inputs:
        if sensor.samples and sensor.empty == sensor.samples:
            return Diagnosis(
                f"no {sensor.name} points",
                f"none of the {sensor.samples} samples has a single {sensor.name} point, and the model uses "
                f"{sensor.name}",
                f"check that the {sensor.name} files are in the data set, and prepare it again"
                f"{evidence.prepare_again()}",
            )
    return None


def no_sweeps(evidence: Evidence) -> Diagnosis | None:
    """Only key frames, where the model was made for several sweeps."""
    for sensor in evidence.inputs:
        if sensor.sweeps > 1 and sensor.samples and sensor.alone == sensor.samples and sensor.empty != sensor.samples:
            return Diagnosis(
                f"no {sensor.name} sweeps",
                f"the model uses {sensor.sweeps} {sensor.name} sweeps a sample, and none of the {sensor.samples} "
                "samples has one before its key frame",
                "unpack the sweeps/ folders of the data set, and prepare it again"
                f"{evidence.prepare_again(**{f'{sensor.name}_sweeps': sensor.sweeps})}",
            )
    return None


def half_heights(evidence: Evidence) -> Diagnosis | None:
    """Boxes given by the middle of their bottom or top instead of their centre."""
    detections, gt = evidence.tp_pairs
    if len(detections) < _FEWEST:
        return None
    offset, half = detections.translation[:, 2] - gt.translation[:, 2], gt.size_wlh[:, 2] / 2
    usual = np.median(np.abs(offset))
    for sign, words in ((-1.0, "below"), (1.0, "above")):
        left = np.median(np.abs(offset - sign * half))
        if usual > 0.25 and left < 0.5 * usual:
            return Diagnosis(
                "boxes off by half their height",
                f"the centres of {len(detections)} matched boxes are {usual:.2f} m {words} those of their objects "
                f"(median), and {left:.2f} m after moving each by half its height",
                "a box's place is its centre; of boxes placed by their bottom or top, move z by half the height",
            )
    return None


def wrong_yaw(evidence: Evidence) -> Diagnosis | None:
    """Headings off by a quarter or half a turn, or with front and back confused."""
    detections, gt = evidence.tp_pairs
    has_front = np.array([entry.has_front for entry in evidence.scoring.samples.description.classes.values()])
    kept = has_front[gt.label]
    if kept.sum() < _FEWEST:
        return None
    turn = yaws(detections.rotation[kept]) - yaws(gt.rotation[kept])
    degrees = np.rad2deg((turn + np.pi) % (2 * np.pi) - np.pi)
    right, behind = np.mean(np.abs(degrees) < 30), np.mean(np.abs(degrees) > 150)
    for quarter in (90, -90):
        share = np.mean(np.abs(degrees - quarter) < 30)
        if share > 0.5:
            return Diagnosis(
                "yaw off by 90 degrees",
                f"of {kept.sum()} matched boxes, {share:.0%} are turned by {quarter:+d} degrees (within 30) and "
                f"{right:.0%} by none",
                f"turn every yaw by {-quarter:+d} degrees, or check whether yaw is measured from x or from y",
            )
    if behind > 0.6:
        return Diagnosis(
            "yaw off by 180 degrees",
            f"of {kept.sum()} matched boxes, {behind:.0%} point backwards (within 30 degrees) and {right:.0%} the "
            "right way",
            "turn every yaw by half a turn; check the signs of sine and cosine",
        )
    if behind > 0.3 and right + behind > 0.7:
        return Diagnosis(
            "front and back are confused",
            f"of {kept.sum()} matched boxes, {right:.0%} point the right way and {behind:.0%} backwards (within 30 "
            "degrees), as if by chance",
            "the yaw is learned but for its sign: check the targets of sine and cosine, or train longer",
        )
    return None


def no_velocity(evidence: Evidence) -> Diagnosis | None:
    """All velocities zero although objects move."""
    gt = evidence.tp_pairs[1]
    detected = evidence.scoring.detected
    if len(detected) < _FEWEST:
        return None
    moving = gt.speed_mps > _MOVING_MPS
    share = np.mean(detected.speed_mps < _STILL_MPS)
    if not moving.any() or share < 0.99:
        return None
    return Diagnosis(
        "all velocities are zero",
        f"{share:.0%} of {len(detected)} detections stand still, while {moving.sum()} of {len(gt)} "
        f"matched objects move ({np.mean(gt.speed_mps[moving]):.1f} m/s on average)",
        "check that velocities are predicted, decoded and written, in the global frame",
    )


def elsewhere(evidence: Evidence) -> Diagnosis | None:
    """Boxes of other samples, or in another frame."""
    detected, samples = evidence.scoring.detected, evidence.scoring.samples
    if len(detected) < _FEWEST:
        return None
    around_m = _AROUND_RANGES * samples.description.farthest_m
    away = np.mean(detected.ego_distance > around_m)
    if away < 0.5:
        return None
    distances = f"{away:.0%} of {len(detected)} detections are more than {around_m:g} m from the car (median "
    distances += f"{np.median(detected.ego_distance):.0f} m)"
    near_origin = np.mean(np.hypot(*detected.translation[:, :2].T) < around_m)
    if near_origin > 0.5 and np.median(np.hypot(*samples.ego_xy.T)) > 2 * around_m:
        return Diagnosis(
            "boxes in the car's frame",
            f"{distances}, and {near_origin:.0%} are so near the origin of the map",
            "results are expected in the global frame: transform the boxes with the sample's ego pose",
        )
    return Diagnosis(
        "wrong split or version",
        distances,
        "the boxes belong to other samples: check that detections and annotations are of the same split and version",
    )


def displaced(evidence: Evidence) -> Diagnosis | None:
    """All boxes moved by the same vector, or nowhere near an object."""
    detected = evidence.scoring.detected
    near = find_displacement(detected, evidence.scoring.gt, evidence.lidar_from_global, _FAR_M)
    if near is None or near.detections < _FEWEST or elsewhere(evidence) is not None:
        return None
    if near.accompanied < 0.1:
        return Diagnosis(
            "wrong split or version",
            f"only {near.accompanied:.0%} of {near.detections} detections have an annotated object within {_FAR_M:g} m",
            "check that detections and annotations are of the same samples, and that no rotation of the frame is lost",
        )
    for frame, shift in (("global", near.in_global), ("LiDAR", near.in_lidar)):
        if shift.length_m > 0.6 and shift.share > 0.4 and shift.share > 1.5 * shift.share_unmoved:
            return Diagnosis(
                "boxes moved by a constant",
                f"{shift.share:.0%} of {near.detections} detections lie ({shift.x_m:+.1f}, {shift.y_m:+.1f}) m from an "
                f"object of their class (x, y of the {frame} frame, within 0.75 m), and {shift.share_unmoved:.0%} lie "
                "on one",
                "check the origin of the frame: the LiDAR stands about a metre before the car's reference point",
            )
    return None


def untrained(evidence: Evidence) -> Diagnosis | None:
    """Nothing is detected, or all of the BEV grid looks alike to the detector."""
    detections, matching = evidence.scoring.detections, evidence.scoring.matching
    samples = len(evidence.scoring.samples.tokens)
    if not len(evidence.scoring.detected):
        return Diagnosis(
            "nothing is detected",
            f"there is no detection in any of the {samples} samples",
            "check the training loss and the score threshold: a head that was not trained scores below it everywhere",
        )
    if len(detections) < _FEWEST:
        return None
    low, middle, high = np.quantile(detections.score, [0.05, 0.5, 0.95])
    right = np.mean(matching.tp_gt_row >= 0)
    if right > 0.1 or high - low > _NARROW_SCORES or high > _MOST_PRIOR_SCORE:
        return None
    return Diagnosis(
        "an untrained head",
        f"{right:.1%} of {len(detections)} detections match an object, and their scores hardly differ: 90% lie between "
        f"{low:.3f} and {high:.3f} (median {middle:.3f}), where a heatmap starts",
        "train longer, or check that the weights were loaded and the learning rate is not zero",
    )


def permuted_sizes(evidence: Evidence) -> Diagnosis | None:
    """Width, length and height in another order."""
    detections, gt = evidence.tp_pairs
    if len(detections) < _FEWEST:
        return None
    errors = {order: _scale_error(detections.size_wlh[:, order], gt.size_wlh) for order in permutations(range(3))}
    best, given = min(errors, key=errors.__getitem__), errors[0, 1, 2]
    if given - errors[best] < 0.1 or errors[best] > 0.7 * given:
        return None
    names = np.array(["width", "length", "height"])
    return Diagnosis(
        "sizes in another order",
        f"the mean scale error of {len(detections)} matched boxes is {given:.2f}, and {errors[best]:.2f} when their "
        f"sizes are read as ({', '.join(names[np.argsort(best)])})",
        "nuScenes' order is width, length, height",
    )


def _scale_error(sizes: NDArray[np.float64], gt: NDArray[np.float64]) -> float:
    shared = np.prod(np.minimum(sizes, gt), axis=1)
    return float(np.mean(1 - shared / (np.prod(sizes, axis=1) + np.prod(gt, axis=1) - shared)))


_CAUSES: tuple[Callable[[Evidence], Diagnosis | None], ...] = (
    no_points,
    no_sweeps,
    elsewhere,
    displaced,
    untrained,
    half_heights,
    wrong_yaw,
    no_velocity,
    permuted_sizes,
)
