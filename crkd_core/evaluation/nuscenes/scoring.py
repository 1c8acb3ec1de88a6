"""The nuScenes detection metrics of a table of detections, from the prepared annotations alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from crkd_core.config.classes import DETECTION_CLASSES
from crkd_core.datasets.prepared.prepared_data import PreparedData
from crkd_core.errors import DatasetError
from crkd_core.evaluation.nuscenes.accumulate import accumulate
from crkd_core.evaluation.nuscenes.columns import BoxColumns, SplitSamples, detection_columns, read_gt, read_samples
from crkd_core.evaluation.nuscenes.filtering import is_evaluated
from crkd_core.evaluation.nuscenes.match import Matching, match
from crkd_core.evaluation.nuscenes.metrics import Metrics


@dataclass(frozen=True)
class Scoring:
    """Metrics with everything they were made from.

    Attributes:
        detections, gt: what takes part in the evaluation.
        matching: between the two.
    """

    samples: SplitSamples
    detections: BoxColumns
    gt: BoxColumns
    matching: Matching
    metrics: Metrics

    def counts(self) -> dict[str, dict[str, int]]:
        """Detections and annotations of every class that take part in the evaluation."""
        sides = {"detections": self.detections, "annotations": self.gt}
        found = {side: np.bincount(boxes.label, minlength=len(DETECTION_CLASSES)) for side, boxes in sides.items()}
        return {
            name: {side: int(counts[label]) for side, counts in found.items()}
            for label, name in enumerate(DETECTION_CLASSES)
        }


def score_detections(prepared: PreparedData, tokens: Sequence[str], table: pa.Table) -> Scoring:
    """Score detections on the samples `tokens`, as the nuScenes devkit does with ``detection_cvpr_2019``.

    Args:
        tokens: all samples of the split; where scores are equal, their order counts.
        table: rows of ``evaluation.detections.SCHEMA``.

    Raises:
        UsageError: the detections are not what the benchmark accepts.
        DatasetError: nothing is annotated in the samples.
        StaleArtifactError, DamagedArtifactError: the prepared data cannot be used.
    """
    samples, detections, gt = evaluated_boxes(prepared, tokens, table)
    matching = match(detections, gt)
    return Scoring(samples, detections, gt, matching, accumulate(detections, gt, matching))


def evaluated_boxes(
    prepared: PreparedData, tokens: Sequence[str], table: pa.Table
) -> tuple[SplitSamples, BoxColumns, BoxColumns]:
    """The samples, and the detections and annotations that take part; see :func:`score_detections`."""
    samples = read_samples(prepared, tokens)
    gt = read_gt(prepared, samples)
    if not len(gt):
        raise DatasetError(
            f"the {len(tokens)} samples of {prepared.version} have no annotated object of the ten detection classes, "
            "so nothing can be scored on them."
        )
    detections = detection_columns(table, samples)
    return samples, detections[is_evaluated(detections, samples)], gt[is_evaluated(gt, samples)]
