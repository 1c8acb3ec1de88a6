"""The nuScenes detection metrics as values, and as the devkit's ``metrics_summary.json``."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64
from numpy.typing import NDArray

from crkd_core.config.description import TP_DISTANCE_M, DatasetDescription

MIN_RECALL = 0.1
MIN_PRECISION = 0.1
DEVKIT_ERRORS: dict[str, str] = {
    "translation_m": "trans_err",
    "scale": "scale_err",
    "orientation_rad": "orient_err",
    "velocity_mps": "vel_err",
    "attribute": "attr_err",
}
"""Our names of the errors, in the order of :class:`TPErrors`, and the devkit's."""
_MEAN_AP_WEIGHT = 5


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
        classes: per class, in label order.
        description: of the data set whose benchmark it is.
    """

    mean_ap: float
    nds: float
    errors: TPErrors
    classes: dict[str, ClassMetrics]
    description: DatasetDescription

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
            "cfg": devkit_config(self.description),
        }
        return _finite_or_none(values) if strict else values

    @staticmethod
    def from_json(values: dict[str, Any], description: DatasetDescription) -> "Metrics":
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
                for name in description.class_names
            },
            description=description,
        )

    @property
    def _listed(self) -> list[tuple[str, ClassMetrics]]:
        return [(name, self.classes[name]) for name in self.description.evaluated_classes]


def devkit_config(description: DatasetDescription) -> dict[str, Any]:
    """The benchmark's numbers as its devkit has them, such as nuScenes' configuration ``detection_cvpr_2019``."""
    benchmark = description.evaluation
    return {
        "class_range": {name: _whole(description.classes[name].range_m) for name in description.evaluated_classes},
        "dist_fcn": "center_distance",
        "dist_ths": list(benchmark.match_distances_m),
        "dist_th_tp": TP_DISTANCE_M,
        "min_recall": MIN_RECALL,
        "min_precision": MIN_PRECISION,
        "max_boxes_per_sample": benchmark.max_boxes,
        "mean_ap_weight": _MEAN_AP_WEIGHT,
    }


def undefined_errors(description: DatasetDescription) -> Bool[np.ndarray, "c 5"]:
    """Which errors, in the order of :class:`TPErrors`, which class does not have."""
    return np.array([[error in entry.unscored for error in DEVKIT_ERRORS] for entry in description.classes.values()])


def _whole(value: float) -> int | float:
    return int(value) if value == int(value) else value


def detection_score(mean_ap: float, errors: TPErrors) -> float:
    """NDS: half mAP, half the five errors, each cut at 1 (nuScenes paper, equation 3)."""
    total = _MEAN_AP_WEIGHT * mean_ap + sum(1 - min(1.0, error) for error in errors)
    return total / (_MEAN_AP_WEIGHT + len(DEVKIT_ERRORS))


def detection_scores(mean_ap: Float64[np.ndarray, "*n"], errors: Float64[np.ndarray, "*n 5"]) -> NDArray[np.float64]:
    """The same of many at once."""
    kept = np.minimum(errors, 1.0)
    return (_MEAN_AP_WEIGHT * mean_ap + (1 - kept).sum(axis=-1)) / (_MEAN_AP_WEIGHT + len(DEVKIT_ERRORS))


def _with_devkit_names(errors: TPErrors) -> dict[str, float]:
    return {DEVKIT_ERRORS[name]: value for name, value in asdict(errors).items()}


def _errors_from_json(values: dict[str, float | None]) -> TPErrors:
    by_name = {name: values[devkit_name] for name, devkit_name in DEVKIT_ERRORS.items()}
    return TPErrors(**{name: math.nan if value is None else float(value) for name, value in by_name.items()})


def _finite_or_none(values: Any) -> Any:
    if isinstance(values, dict):
        return {name: _finite_or_none(value) for name, value in values.items()}
    return None if isinstance(values, float) and not math.isfinite(values) else values
