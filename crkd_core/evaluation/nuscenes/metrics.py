"""The nuScenes detection metrics as values, and as the devkit's ``metrics_summary.json``."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from crkd_core.config.classes import DETECTION_CLASSES

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
DEVKIT_ERRORS: dict[str, str] = {
    "translation_m": "trans_err",
    "scale": "scale_err",
    "orientation_rad": "orient_err",
    "velocity_mps": "vel_err",
    "attribute": "attr_err",
}
"""Our names of the errors, in the order of :class:`TPErrors`, and the devkit's."""
_MEAN_AP_WEIGHT = 5
DEVKIT_CONFIG: dict[str, Any] = {
    "class_range": CLASS_RANGE_M,
    "dist_fcn": "center_distance",
    "dist_ths": list(MATCH_DISTANCES_M),
    "dist_th_tp": TP_DISTANCE_M,
    "min_recall": MIN_RECALL,
    "min_precision": MIN_PRECISION,
    "max_boxes_per_sample": 500,
    "mean_ap_weight": _MEAN_AP_WEIGHT,
}
"""The devkit's configuration ``detection_cvpr_2019``, whose numbers these are."""


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

    def to_json(self, strict: bool = False) -> dict[str, Any]:
        """The layout of the devkit's ``metrics_summary.json``, which its ``DetectionMetrics.deserialize`` reads.

        ``eval_time`` is null, so that equal detections give equal files.

        Args:
            strict: null instead of NaN, which the devkit writes and needs but JSON does not know.
        """
        errors = _with_devkit_names(self.errors)
        values = {
            "label_aps": {name: {str(d): ap for d, ap in entry.ap_by_distance.items()} for name, entry in self._listed},
            "mean_dist_aps": {name: entry.ap for name, entry in self._listed},
            "mean_ap": self.mean_ap,
            "label_tp_errors": {name: _with_devkit_names(entry.errors) for name, entry in self._listed},
            "tp_errors": errors,
            "tp_scores": {name: max(0.0, 1.0 - error) for name, error in errors.items()},
            "nd_score": self.nds,
            "eval_time": None,
            "cfg": DEVKIT_CONFIG,
        }
        return _finite_or_none(values) if strict else values

    @staticmethod
    def from_json(values: dict[str, Any]) -> "Metrics":
        """The inverse of :meth:`to_json`, strict or not; also of a file that the devkit wrote.

        Raises:
            KeyError, TypeError, ValueError: the values are not those of a summary.
        """
        return Metrics(
            mean_ap=float(values["mean_ap"]),
            nds=float(values["nd_score"]),
            errors=_errors_from_json(values["tp_errors"]),
            classes={
                name: ClassMetrics(
                    ap_by_distance={float(distance): float(ap) for distance, ap in values["label_aps"][name].items()},
                    errors=_errors_from_json(values["label_tp_errors"][name]),
                )
                for name in DETECTION_CLASSES
            },
        )

    @property
    def _listed(self) -> list[tuple[str, ClassMetrics]]:
        return [(name, self.classes[name]) for name in CLASS_RANGE_M]


def detection_score(mean_ap: float, errors: TPErrors) -> float:
    """NDS: half mAP, half the five errors, each cut at 1 (nuScenes paper, equation 3)."""
    total = _MEAN_AP_WEIGHT * mean_ap + sum(1 - min(1.0, error) for error in errors)
    return total / (_MEAN_AP_WEIGHT + len(DEVKIT_ERRORS))


def _with_devkit_names(errors: TPErrors) -> dict[str, float]:
    return {DEVKIT_ERRORS[name]: value for name, value in asdict(errors).items()}


def _errors_from_json(values: dict[str, float | None]) -> TPErrors:
    by_name = {name: values[devkit_name] for name, devkit_name in DEVKIT_ERRORS.items()}
    return TPErrors(**{name: math.nan if value is None else float(value) for name, value in by_name.items()})


def _finite_or_none(values: Any) -> Any:
    if isinstance(values, dict):
        return {name: _finite_or_none(value) for name, value in values.items()}
    return None if isinstance(values, float) and not math.isfinite(values) else values
