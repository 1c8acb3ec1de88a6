"""The nuScenes detection metrics of a table of detections, from the prepared annotations alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from crkd_core.datasets.prepared.prepared_data import PreparedData
from crkd_core.errors import DatasetError
from crkd_core.evaluation.nuscenes.accumulate import Curve, accumulate, summarise
from crkd_core.evaluation.nuscenes.columns import (
    BoxColumns,
    GtColumns,
    SplitSamples,
    detection_columns,
    read_gt,
    read_samples,
)
from crkd_core.evaluation.nuscenes.filtering import is_evaluated
from crkd_core.evaluation.nuscenes.match import Matching, match
from crkd_core.evaluation.nuscenes.metrics import Metrics
from crkd_core.progress import in_words


@dataclass(frozen=True)
class GroundTruth:
    """What detections are scored against: read once, for any number of detection tables.

    Attributes:
        samples: the evaluated samples.
        boxes: their annotated boxes that take part in the evaluation.
    """

    samples: SplitSamples
    boxes: GtColumns


@dataclass(frozen=True)
class Scoring:
    """Metrics with everything they were made from.

    Attributes:
        detected: all detections, also those that the benchmark leaves out.
        detections, gt: what takes part in the evaluation.
        matching: between these two.
        curves: precision and errors over recall, by class and match distance (m).
    """

    samples: SplitSamples
    detected: BoxColumns
    detections: BoxColumns
    gt: GtColumns
    matching: Matching
    curves: dict[str, dict[float, Curve]]
    metrics: Metrics

    def counts(self) -> dict[str, dict[str, int]]:
        """Detections and annotations of every class that take part in the evaluation."""
        sides = {"detections": self.detections, "annotations": self.gt}
        names = self.samples.description.class_names
        counts = {side: np.bincount(boxes.label, minlength=len(names)) for side, boxes in sides.items()}
        return {
            name: {side: int(by_label[label]) for side, by_label in counts.items()} for label, name in enumerate(names)
        }


def read_ground_truth(prepared: PreparedData, tokens: Sequence[str]) -> GroundTruth:
    """The ground truth of the samples `tokens`.

    Args:
        tokens: all samples of the split; where scores are equal, their order counts.

    Raises:
        DatasetError: nothing is annotated in the samples.
        StaleArtifactError, DamagedArtifactError: the prepared data cannot be used.
    """
    samples = read_samples(prepared, tokens)
    gt = read_gt(prepared, samples)
    if not len(gt):
        raise DatasetError(
            f"the {len(tokens)} samples of {prepared.version} have no annotated object of the "
            f"{in_words(len(samples.description.classes))} detection classes, so nothing can be scored on them."
        )
    return GroundTruth(samples, gt[is_evaluated(gt, samples)])


def score(table: pa.Table, ground_truth: GroundTruth) -> Scoring:
    """Score detections as the devkit of the data set does, such as nuScenes' with ``detection_cvpr_2019``.

    Args:
        table: rows of ``evaluation.io.detections.SCHEMA``.

    Raises:
        UsageError: the detections are not what the benchmark accepts.
    """
    samples, gt = ground_truth.samples, ground_truth.boxes
    detected = detection_columns(table, samples)
    detections = detected[is_evaluated(detected, samples)]
    description = samples.description
    matching = match(detections, gt, description)
    curves = accumulate(detections, gt, matching, description)
    return Scoring(samples, detected, detections, gt, matching, curves, summarise(curves, description))


def score_detections(prepared: PreparedData, tokens: Sequence[str], table: pa.Table) -> Scoring:
    """Read the ground truth of the samples `tokens` and score one table of detections on it; errors are those of both.

    See :func:`read_ground_truth` and :func:`score`.
    """
    return score(table, read_ground_truth(prepared, tokens))
