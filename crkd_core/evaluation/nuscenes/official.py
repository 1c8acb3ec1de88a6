"""Bridge to the official devkits: their own detection evaluation of a submission file."""

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crkd_core.config.description import DatasetDescription
from crkd_core.datasets.nuscenes.regular_files import refuse_special_file
from crkd_core.errors import CrkdError, DatasetError, MetricsDifferError, UsageError
from crkd_core.evaluation.nuscenes.devkits import Devkit, devkit_of
from crkd_core.evaluation.nuscenes.metrics import DEVKIT_ERRORS, ClassMetrics, Metrics, TPErrors, detection_score
from crkd_core.progress import Progress, Task, in_words

TOLERANCE = 1e-9
"""Absolute difference from the devkit's numbers that is not tolerated."""


def require_devkit(devkit: Devkit) -> None:
    """Import a devkit's detection evaluation; that of nuScenes is no dependency of this package from Python 3.13 on.

    Raises:
        UsageError: it is not installed, with the command that installs it.
    """
    try:
        devkit.load()
    except ImportError as error:
        raise UsageError(f"--official needs the {devkit.name} ({error}); add it: {devkit.install}") from error


def evaluate_official(
    description: DatasetDescription,
    dataroot: Path,
    version: str,
    split: str,
    submission_path: Path,
    progress: Progress,
    tokens: Sequence[str] | None = None,
) -> Metrics:
    """Score a submission file with the ``DetectionEval`` of a data set's devkit and its own configuration.

    Args:
        dataroot: the data set's folder.
        version: name of its table folder, such as ``v1.0-mini``.
        split: official split name, such as ``mini_val``; must belong to the version.
        submission_path: detections in the nuScenes result format, with every sample of the split.
        tokens: the samples to score, for what is no official split or only a part of one.

    Raises:
        DatasetError: the devkit cannot open the data set, or it has no annotations to compare with.
        UsageError: split and version do not go together, or the submission has other samples than the split.
    """
    devkit = devkit_of(description)
    for table in sorted((dataroot / version).glob("*.json")):
        refuse_special_file(table, "the table")
    with progress.task("official metrics", total=3, unit="steps") as task:
        try:
            tables = devkit.open(dataroot, version)
        except (AssertionError, OSError, KeyError, ValueError) as error:
            raise DatasetError(
                f"the {devkit.name} cannot open {version} in {dataroot}: {_first_line(error)}; the official metrics "
                "need the complete tables and map files of the data set."
            ) from error
        task.advance(step="tables")
        if not tables.sample_annotation:
            raise DatasetError(f"{version} in {dataroot} has no annotations, so nothing can be scored on it.")
        return _score(devkit, tables, split, submission_path, tokens, task)


def _score(
    devkit: Devkit, tables: Any, split: str, submission_path: Path, tokens: Sequence[str] | None, task: Task
) -> Metrics:
    description = devkit.description
    if not _has_boxes(submission_path):
        if tokens is None:
            _check_split(tables.version, split)
        return metrics_without_detections(description)
    with tempfile.TemporaryDirectory(prefix="crkd-official-") as scratch:
        try:
            with devkit.evaluation(tables, split, tokens) as (evaluation, given_tables, given_split):
                official = evaluation(
                    given_tables, devkit.config(), str(submission_path), given_split, scratch, verbose=False
                )
            task.advance(step="boxes")
            summary, _ = official.evaluate()
        except (AssertionError, ValueError, KeyError) as error:
            raise UsageError(
                f"the {devkit.name} refuses {submission_path.name} for {split} of {tables.version}: "
                f"{_first_line(error)}"
            ) from error
        except Exception as error:
            # The devkits raise a bare Exception where no box at all is left to compare.
            if type(error) is not Exception:
                raise
            raise DatasetError(
                f"the {devkit.name} cannot score {split} of {tables.version}: {_first_line(error)}; expected "
                f"annotated objects of the {in_words(len(description.classes))} detection classes."
            ) from error
    task.advance(step="matching")
    return convert_summary(devkit.metrics(summary), description)


def metrics_without_detections(description: DatasetDescription) -> Metrics:
    """What the devkits' definitions give when nothing was detected (they cannot load such a file themselves)."""
    classes = {
        name: ClassMetrics(
            ap_by_distance=dict.fromkeys(description.evaluation.match_distances_m, 0.0),
            errors=TPErrors(**{error: math.nan if error in entry.unscored else 1.0 for error in DEVKIT_ERRORS}),
        )
        for name, entry in description.classes.items()
    }
    errors = TPErrors(1.0, 1.0, 1.0, 1.0, 1.0)
    return Metrics(0.0, detection_score(0.0, errors), errors, classes, description)


def require_equal(metrics: Metrics, official: Metrics, tolerance: float = TOLERANCE) -> float:
    """Compare every number of two summaries; returns the largest absolute difference.

    Raises:
        MetricsDifferError: naming the first number that differs by `tolerance` or more.
    """
    largest = 0.0
    official_numbers = dict(official.numbers())
    for name, value in metrics.numbers():
        expected = official_numbers[name]
        equal = value == expected or (math.isnan(value) and math.isnan(expected))
        difference = 0.0 if equal else abs(value - expected)
        if not difference < tolerance:
            raise MetricsDifferError(
                f"{name} is {value!r} by our metrics and {expected!r} by the {official.description.text_name} devkit, "
                f"where less than {tolerance:g} may lie between them; this is a mistake in the metrics: please report "
                "it with the detections."
            )
        largest = max(largest, difference)
    return largest


def convert_summary(summary: Any, description: DatasetDescription) -> Metrics:
    """A devkit's ``DetectionMetrics`` as :class:`Metrics`."""
    classes = {
        name: ClassMetrics(
            ap_by_distance={d: float(summary.get_label_ap(name, d)) for d in description.evaluation.match_distances_m},
            errors=TPErrors(
                **{error: float(summary.get_label_tp(name, devkit)) for error, devkit in DEVKIT_ERRORS.items()}
            ),
        )
        for name in description.class_names
    }
    means = summary.tp_errors
    return Metrics(
        mean_ap=float(summary.mean_ap),
        nds=float(summary.nd_score),
        errors=TPErrors(**{error: float(means[devkit]) for error, devkit in DEVKIT_ERRORS.items()}),
        classes=classes,
        description=description,
    )


def _has_boxes(submission_path: Path) -> bool:
    # Every box names its class; reading in blocks keeps a large submission out of memory.
    marker, tail = b'"detection_name"', b""
    try:
        with submission_path.open("rb") as stream:
            while block := stream.read(1 << 20):
                if marker in tail + block:
                    return True
                tail = block[-len(marker) :]
    except OSError as error:
        raise CrkdError(f"the submission {submission_path} cannot be read: {error.strerror}.") from error
    return False


def _check_split(version: str, split: str) -> None:
    suffix = "mini" if split.startswith("mini") else "test" if split == "test" else "trainval"
    if not version.endswith(suffix):
        raise UsageError(f"the split {split} belongs to a version ending in {suffix}, found {version}.")


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return text[0].removeprefix("Error: ") if text else type(error).__name__
