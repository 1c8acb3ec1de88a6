"""The nuScenes detection metrics as values."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

MATCH_DISTANCES_M: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)
TP_DISTANCE_M = 2.0
"""Match distance at which the errors of true positives are measured."""
MIN_RECALL = 0.1
MIN_PRECISION = 0.1
CLASS_RANGE_M: dict[str, int] = {
    "car": 50,
    "truck": 50,
    "bus": 50,
    "trailer": 50,
    "construction_vehicle": 50,
    "pedestrian": 40,
    "motorcycle": 40,
    "bicycle": 40,
    "traffic_cone": 30,
    "barrier": 30,
}
"""Distance from the car up to which the objects of a class are evaluated; in the devkit's order of classes."""
UNDEFINED_ERRORS: dict[str, tuple[str, ...]] = {
    "traffic_cone": ("orientation_rad", "velocity_mps", "attribute"),
    "barrier": ("velocity_mps", "attribute"),
}
"""Errors that a class does not have."""


@dataclass(frozen=True)
class TPErrors:
    """Mean errors of true positives (matched within 2 m); NaN where the benchmark defines none.

    Attributes:
        translation_m: centre distance in BEV (ATE).
        scale: 1 - IoU of the aligned boxes (ASE).
        orientation_rad: smallest yaw difference (AOE).
        velocity_mps: length of the velocity difference (AVE).
        attribute: 1 - attribute accuracy (AAE).
    """

    translation_m: float
    scale: float
    orientation_rad: float
    velocity_mps: float
    attribute: float

    def __iter__(self):
        return iter((self.translation_m, self.scale, self.orientation_rad, self.velocity_mps, self.attribute))


@dataclass(frozen=True)
class ClassMetrics:
    """One class: average precision by match distance (m, 0 to 1), and its errors."""

    ap_by_distance: dict[float, float]
    errors: TPErrors

    @property
    def ap(self) -> float:
        """Average precision, the mean over the match distances."""
        return sum(self.ap_by_distance.values()) / len(self.ap_by_distance)


@dataclass(frozen=True)
class Metrics:
    """The official summary of one model on one split.

    Attributes:
        mean_ap: mAP, 0 to 1.
        nds: nuScenes detection score, 0 to 1.
        errors: mATE, mASE, mAOE, mAVE, mAAE.
        classes: per class, in the order of ``DETECTION_CLASSES``.
    """

    mean_ap: float
    nds: float
    errors: TPErrors
    classes: dict[str, ClassMetrics]

    def numbers(self) -> Iterator[tuple[str, float]]:
        """Every number with a name, such as ``car AP at 0.5 m`` or ``mean translation_m``."""
        yield "mAP", self.mean_ap
        yield "NDS", self.nds
        yield from ((f"mean {name}", value) for name, value in asdict(self.errors).items())
        for label, entry in self.classes.items():
            yield f"{label} AP", entry.ap
            yield from ((f"{label} AP at {d} m", ap) for d, ap in entry.ap_by_distance.items())
            yield from ((f"{label} {name}", value) for name, value in asdict(entry.errors).items())

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON: distances become text, NaN becomes null."""
        return {
            "mean_ap": self.mean_ap,
            "nds": self.nds,
            "errors": _without_nan(asdict(self.errors)),
            "classes": {
                name: {
                    "ap": metrics.ap,
                    "ap_by_distance": {str(distance): ap for distance, ap in metrics.ap_by_distance.items()},
                    "errors": _without_nan(asdict(metrics.errors)),
                }
                for name, metrics in self.classes.items()
            },
        }

    @staticmethod
    def from_json(values: dict[str, Any]) -> "Metrics":
        """The inverse of :meth:`to_json`.

        Raises:
            KeyError, TypeError, ValueError: the values are not those of a summary.
        """
        return Metrics(
            mean_ap=float(values["mean_ap"]),
            nds=float(values["nds"]),
            errors=_errors_from_json(values["errors"]),
            classes={
                name: ClassMetrics(
                    ap_by_distance={float(distance): float(ap) for distance, ap in entry["ap_by_distance"].items()},
                    errors=_errors_from_json(entry["errors"]),
                )
                for name, entry in values["classes"].items()
            },
        )


def detection_score(mean_ap: float, errors: TPErrors) -> float:
    """NDS: half mAP, half the five errors, each cut at 1 (nuScenes paper, equation 3)."""
    return (5 * mean_ap + sum(1 - min(1.0, error) for error in errors)) / 10


def _without_nan(values: dict[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in values.items()}


def _errors_from_json(values: dict[str, float | None]) -> TPErrors:
    return TPErrors(**{name: math.nan if value is None else float(value) for name, value in values.items()})
