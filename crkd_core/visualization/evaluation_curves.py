"""Precision-recall and error curves of an evaluation as pictures, in an artifact of their own."""

from pathlib import Path

import numpy as np

from crkd_core.artifacts.command import Command
from crkd_core.artifacts.writer import ArtifactRequest
from crkd_core.config.description import TP_DISTANCE_M
from crkd_core.evaluation.finished import FinishedEvaluation
from crkd_core.evaluation.nuscenes.accumulate import RECALLS, Curve
from crkd_core.evaluation.nuscenes.metrics import (
    DEVKIT_ERRORS,
    MIN_PRECISION,
    MIN_RECALL,
)
from crkd_core.evaluation.nuscenes.scoring import Scoring
from crkd_core.visualization.score_curves import (
    ErrorPanel,
    PrecisionPanel,
    write_error_curves,
    write_precision_curves,
)

STAGE = "curves"
PRECISION_NAME = "precision-recall.png"
ERRORS_NAME = "tp-errors.png"
_ERROR_TITLES = {
    "translation_m": ("translation error", "m"),
    "scale": ("scale error", "1 - IoU"),
    "orientation_rad": ("orientation error", "rad"),
    "velocity_mps": ("velocity error", "m/s"),
    "attribute": ("attribute error", "1 - accuracy"),
}


def score_curves(evaluation: FinishedEvaluation) -> tuple[Path, Path]:
    """Pictures of a finished evaluation, drawn anew only if it changed: precision over recall, errors over recall.

    Raises:
        ArtifactError: the evaluation or its prepared data cannot be used.
        WriteError: a file cannot be written.
    """
    artifact, workspace = evaluation.artifact, evaluation.workspace
    made = Command.parse(artifact.manifest.command)
    command = made.moved(workspace.root).setting("--curves") if made is not None else artifact.manifest.command
    inputs = {"evaluation": artifact.reference()}
    output = ArtifactRequest(STAGE, artifact.name, command, settings={}, inputs=inputs, replace=True)
    with workspace.write(output) as writer:
        if writer.finished is None:
            draw_score_curves(writer.path, artifact.name, evaluation.scored.scoring)
            writer.finish()
    folder = workspace.folder(STAGE, artifact.name)
    return folder / PRECISION_NAME, folder / ERRORS_NAME


def draw_score_curves(folder: Path, name: str, scoring: Scoring) -> None:
    """Draw both pictures of an evaluation called `name` into `folder`.

    Raises:
        WriteError: a file cannot be written.
    """
    curves, metrics, counts = scoring.curves, scoring.metrics, scoring.counts()
    classes = scoring.samples.description.classes
    precisions = [
        PrecisionPanel(
            name=label,
            precision={distance: curve.precision for distance, curve in by_distance.items()},
            average_precision={distance: curve.average_precision for distance, curve in by_distance.items()},
            objects=counts[label]["annotations"],
        )
        for label, by_distance in curves.items()
    ]
    errors = [
        ErrorPanel(
            *_ERROR_TITLES[error],
            mean=getattr(metrics.errors, error),
            curves={
                label: _reached(by_distance[TP_DISTANCE_M], column)
                for label, by_distance in curves.items()
                if by_distance[TP_DISTANCE_M].max_recall > 0 and error not in classes[label].unscored
            },
        )
        for column, error in enumerate(DEVKIT_ERRORS)
    ]
    scores = f"mAP {metrics.mean_ap:.3f}, NDS {metrics.nds:.3f}"
    title = f"{name}: errors of matches within {TP_DISTANCE_M:g} m; {scores}"
    write_precision_curves(folder / PRECISION_NAME, f"{name}: {scores}", precisions, max(MIN_RECALL, MIN_PRECISION))
    write_error_curves(folder / ERRORS_NAME, title, errors, MIN_RECALL, scoring.samples.description.colours)


def _reached(curve: Curve, column: int) -> tuple[np.ndarray, np.ndarray]:
    reached = (curve.confidence > 0) & (RECALLS > 0)
    return RECALLS[reached], curve.errors[reached, column]
