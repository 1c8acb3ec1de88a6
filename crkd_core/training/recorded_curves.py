"""The training curves of a finished run, from its recorded metrics."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from crkd_core.artifacts.tables import read_table
from crkd_core.artifacts.workspace import Artifact, Workspace
from crkd_core.errors import DamagedArtifactError
from crkd_core.progress import Progress
from crkd_core.training.gradients import COSINE, NORM
from crkd_core.training.metric_log import METRICS_NAME
from crkd_core.visualization.training_curves import Curve, RecordedTraining, TrainingCurves

_LOSS, _TOTAL, _SCORE = "loss/", "loss/total", "validation/"


def trainings_of(
    evaluations: Sequence[Artifact], workspace: Workspace, progress: Progress
) -> list[RecordedTraining | None]:
    """The training of each evaluated model; None where its run is no longer there, recorded nothing (a results file),
    or cannot be read, of which there is a warning."""
    trainings: list[RecordedTraining | None] = []
    for evaluation in evaluations:
        reference = evaluation.manifest.inputs.get("model")
        runs = workspace.artifacts(reference.stage) if reference is not None else []
        run = next((run for run in runs if run.reference() == reference), None)
        try:
            curves = read_curves(run) if run is not None else None
        except DamagedArtifactError as error:
            progress.warning(f"left out: {error}")
            curves = None
        trainings.append(RecordedTraining(run.label, curves) if run is not None and curves is not None else None)
    return trainings


def read_curves(run: Artifact) -> TrainingCurves | None:
    """What a training run recorded; None where it recorded nothing (imported weights).

    Raises:
        DamagedArtifactError: the table cannot be read.
    """
    if METRICS_NAME not in run.manifest.files:
        return None
    table = read_table(run, METRICS_NAME, ["step", "name", "value"])
    steps, values = table.column("step").to_numpy(), table.column("value").to_numpy()
    names = np.asarray(table.column("name").to_pylist(), dtype=object)
    recorded = {name: Curve(steps[rows], values[rows]) for name, rows in _rows(names)}
    losses: dict[str, Curve] = {}
    norms: dict[str, dict[str, Curve]] = {}
    cosines: dict[str, dict[tuple[str, str], float]] = {}
    scores: dict[str, Curve] = {}
    for name, curve in recorded.items():
        if name.startswith(_LOSS) and name != _TOTAL:
            family = name.removeprefix(_LOSS).partition("/")[0]
            sum_before = losses[family].values if family in losses else 0.0
            losses[family] = Curve(curve.steps, curve.values + sum_before)
        elif name.startswith(NORM):
            layer, _, family = name.removeprefix(NORM).partition("/")
            norms.setdefault(layer, {})[family] = curve
        elif name.startswith(COSINE):
            layer, _, pair = name.removeprefix(COSINE).partition("/")
            first, _, second = pair.partition(",")
            cosines.setdefault(layer, {})[first, second] = float(curve.values.mean())
        elif name.startswith(_SCORE):
            scores[name.removeprefix(_SCORE)] = curve
    return TrainingCurves(losses, norms, cosines, scores) if losses else None


def _rows(names: NDArray) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """Every name with its rows, in the order of their first appearance."""
    unique, first, numbers = np.unique(names.astype(str), return_index=True, return_inverse=True)
    by_name = np.split(np.argsort(numbers, kind="stable"), np.cumsum(np.bincount(numbers))[:-1])
    for index in np.argsort(first).tolist():
        yield str(unique[index]), by_name[index]
