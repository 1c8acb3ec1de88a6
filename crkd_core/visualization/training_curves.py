"""Training curves of a run: loss terms over the steps and, where recorded, norms and cosines of their gradients."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

_SMOOTHED_POINTS = 60


@dataclass(frozen=True)
class Curve:
    """One number over the optimiser steps: `steps` and `values` of equal length."""

    steps: NDArray[np.int64]
    values: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class TrainingCurves:
    """What a run recorded.

    Attributes:
        losses: weighted loss terms by family.
        norms: by shared layer and family, the norm of the family's gradient there.
        cosines: by shared layer and pair of families, the mean cosine of their gradients, -1 to 1.
        scores: on validation samples, by name.
    """

    losses: Mapping[str, Curve]
    norms: Mapping[str, Mapping[str, Curve]] = field(default_factory=dict)
    cosines: Mapping[str, Mapping[tuple[str, str], float]] = field(default_factory=dict)
    scores: Mapping[str, Curve] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class RecordedTraining:
    """The training of a model: ``stage/name`` of its run, and its curves."""

    run: str
    curves: TrainingCurves


def smoothed(curve: Curve) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means over equal numbers of steps, so that a long run is no black band."""
    if not len(curve.steps):
        return np.zeros(0), np.zeros(0)
    parts = min(len(curve.steps), _SMOOTHED_POINTS)
    steps, values = (np.array_split(numbers, parts) for numbers in (curve.steps, curve.values))
    return np.array([part.mean() for part in steps]), np.array([part.mean() for part in values])
