"""Scores of every slice and class as one table."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from crkd_core.evaluation.nuscenes.metrics import DEVKIT_ERRORS
from crkd_core.evaluation.statistics.bootstrap import ResampledScores, interval
from crkd_core.evaluation.statistics.slices import ALL

BREAKDOWN_NAME = "breakdown.parquet"


def breakdown_table(scores: ResampledScores) -> pa.Table:
    """One row for every slice and class that has objects, the mean of its classes first.

    Columns: ``kind``, ``slice``, ``class``, ``objects``, ``ap`` (mAP for the class ``all``) with ``ap_low`` and
    ``ap_high``, ``nds`` likewise (of ``all`` only), ``recall`` (the highest, at 2 m), and the five errors. Missing
    where undefined, intervals also where too few scenes have such objects.
    """
    ap = np.concatenate([scores.mean_ap[:, :, None], scores.ap], axis=2)
    nds = np.full_like(ap, np.nan)
    nds[:, :, 0] = scores.nds
    objects = np.concatenate([scores.objects.sum(axis=1, keepdims=True), scores.objects], axis=1)
    tp = np.nansum(scores.recall[0] * scores.objects, axis=1)
    all_recall = np.divide(tp, objects[:, 0], out=np.full(len(tp), np.nan), where=objects[:, 0] > 0)
    errors = np.concatenate([scores.mean_errors[0][:, None], scores.errors[0]], axis=1)
    known = scores.is_resampled
    values = {
        "ap": ap[0],
        **dict(zip(("ap_low", "ap_high"), intervals(ap, known))),
        "nds": nds[0],
        **dict(zip(("nds_low", "nds_high"), intervals(nds, known))),
        "recall": np.concatenate([all_recall[:, None], scores.recall[0]], axis=1),
        **{name: errors[:, :, column] for column, name in enumerate(DEVKIT_ERRORS)},
    }
    kept = objects > 0
    return pa.table(label_columns(scores, kept) | {"objects": objects[kept]} | numbers(values, kept))


def intervals(values: NDArray[np.float64], known: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lower and upper end (K, 1 + C) of resampled values (R, K, 1 + C); NaN where they are not `known`."""
    low, high = interval(values)
    return np.where(known, low, np.nan), np.where(known, high, np.nan)


def label_columns(scores: ResampledScores, kept: NDArray[np.bool_]) -> dict[str, pa.Array]:
    """``kind``, ``slice`` and ``class`` of the chosen cells (K, 1 + C) of slices and classes, their mean first."""
    row, column = np.nonzero(kept)
    slices, names = scores.slices, (ALL, *scores.classes)
    return {
        "kind": pa.array([slices[index].kind for index in row], pa.string()),
        "slice": pa.array([slices[index].name for index in row], pa.string()),
        "class": pa.array([names[index] for index in column], pa.string()),
    }


def numbers(values: dict[str, NDArray[np.float64]], kept: NDArray[np.bool_]) -> dict[str, pa.Array]:
    """Columns of the chosen cells; NaN is missing."""
    return {name: pa.array(cells[kept], pa.float64(), from_pandas=True) for name, cells in values.items()}
