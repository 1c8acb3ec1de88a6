"""Bridge to the official nuScenes devkit: its own detection evaluation, without its console output."""

import math
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from crkd_core.config.classes import DETECTION_CLASSES
from crkd_core.datasets.nuscenes.regular_files import refuse_special_file
from crkd_core.errors import CrkdError, DatasetError, MetricsDifferError, UsageError
from crkd_core.evaluation.nuscenes.metrics import (
    DEVKIT_ERRORS,
    MATCH_DISTANCES_M,
    UNDEFINED_ERRORS,
    ClassMetrics,
    Metrics,
    TPErrors,
    detection_score,
)
from crkd_core.progress import Progress, Task

CONFIG_NAME = "detection_cvpr_2019"
_CUSTOM = " (samples)"
"""Ends the name of what is no official split, so that the devkit cannot take it for one."""
TOLERANCE = 1e-9
"""Absolute difference from the devkit's numbers that is not tolerated."""
DEVKIT_INSTALL = "pip install cachetools pyquaternion scikit-learn && pip install --no-deps nuscenes-devkit"
"""Adds the devkit on any Python: it runs with numpy 2, which the versions that it pins do not say."""


def require_devkit() -> None:
    """Import the devkit's detection evaluation, which is no dependency of this package from Python 3.13 on.

    Raises:
        UsageError: it is not installed, with the command that installs it.
    """
    try:
        import nuscenes.eval.detection.evaluate  # noqa: F401
    except ImportError as error:
        raise UsageError(f"--official needs the nuScenes devkit ({error}); add it: {DEVKIT_INSTALL}") from error


def evaluate_official(
    dataroot: Path,
    version: str,
    split: str,
    submission_path: Path,
    progress: Progress,
    tokens: Sequence[str] | None = None,
) -> Metrics:
    """Score a submission file with the devkit's ``DetectionEval`` and the configuration ``detection_cvpr_2019``.

    Args:
        dataroot: the nuScenes folder.
        version: name of its table folder, such as ``v1.0-mini``.
        split: official split name, such as ``mini_val``; must belong to the version.
        submission_path: detections in the nuScenes result format, with every sample of the split.
        tokens: the samples to score, for what is no official split or only a part of one: the devkit then takes the way
            of its custom splits, with these samples for those that it would look up.

    Raises:
        DatasetError: the devkit cannot open the data set, or it has no annotations to compare with.
        UsageError: split and version do not go together, or the submission has other samples than the split.
    """
    # The devkit imports matplotlib and more, which the rest of this package does without.
    from nuscenes import NuScenes
    from nuscenes.eval.common.config import config_factory

    for table in sorted((dataroot / version).glob("*.json")):
        refuse_special_file(table, "the table")
    with progress.task("official metrics", total=3, unit="steps") as task:
        try:
            tables = NuScenes(version=version, dataroot=str(dataroot), verbose=False)
        except (AssertionError, OSError, KeyError, ValueError) as error:
            raise DatasetError(
                f"the nuScenes devkit cannot open {version} in {dataroot}: {_first_line(error)}; the official metrics "
                "need the complete tables and map files of the data set."
            ) from error
        task.advance(step="tables")
        if not tables.sample_annotation:
            raise DatasetError(f"{version} in {dataroot} has no annotations, so nothing can be scored on it.")
        return _score(tables, config_factory(CONFIG_NAME), split, submission_path, tokens, task)


def _score(
    tables: Any, config: Any, split: str, submission_path: Path, tokens: Sequence[str] | None, task: Task
) -> Metrics:
    from nuscenes.eval.detection.evaluate import DetectionEval

    if not _has_boxes(submission_path):
        if tokens is None:
            _check_split(tables.version, split)
        return metrics_without_detections()
    with tempfile.TemporaryDirectory(prefix="crkd-official-") as scratch, _quiet_loaders(), _samples(tokens):
        split = split if tokens is None else f"{split}{_CUSTOM}"
        try:
            official = DetectionEval(tables, config, str(submission_path), split, scratch, verbose=False)
            task.advance(step="boxes")
            summary, _ = official.evaluate()
        except (AssertionError, ValueError, KeyError) as error:
            raise UsageError(
                f"the nuScenes devkit refuses {submission_path.name} for {split} of {tables.version}: "
                f"{_first_line(error)}"
            ) from error
        except Exception as error:
            # The devkit raises a bare Exception where no box at all is left to compare.
            if type(error) is not Exception:
                raise
            raise DatasetError(
                f"the nuScenes devkit cannot score {split} of {tables.version}: {_first_line(error)}; expected "
                "annotated objects of the ten detection classes."
            ) from error
    task.advance(step="matching")
    return convert_summary(summary)


def metrics_without_detections() -> Metrics:
    """What the devkit's definitions give when nothing was detected (it cannot load such a file itself)."""
    classes = {
        name: ClassMetrics(
            ap_by_distance=dict.fromkeys(MATCH_DISTANCES_M, 0.0),
            errors=TPErrors(
                **{error: math.nan if error in UNDEFINED_ERRORS.get(name, ()) else 1.0 for error in DEVKIT_ERRORS}
            ),
        )
        for name in DETECTION_CLASSES
    }
    errors = TPErrors(1.0, 1.0, 1.0, 1.0, 1.0)
    return Metrics(mean_ap=0.0, nds=detection_score(0.0, errors), errors=errors, classes=classes)


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
                f"{name} is {value!r} by our metrics and {expected!r} by the nuScenes devkit, where less than "
                f"{tolerance:g} may lie between them; this is a mistake in the metrics: please report it with the "
                "detections."
            )
        largest = max(largest, difference)
    return largest


def convert_summary(summary: Any) -> Metrics:
    """The devkit's ``DetectionMetrics`` as :class:`Metrics`."""
    classes = {
        name: ClassMetrics(
            ap_by_distance={d: float(summary.get_label_ap(name, d)) for d in MATCH_DISTANCES_M},
            errors=TPErrors(
                **{error: float(summary.get_label_tp(name, devkit)) for error, devkit in DEVKIT_ERRORS.items()}
            ),
        )
        for name in DETECTION_CLASSES
    }
    means = summary.tp_errors
    return Metrics(
        mean_ap=float(summary.mean_ap),
        nds=float(summary.nd_score),
        errors=TPErrors(**{error: float(means[devkit]) for error, devkit in DEVKIT_ERRORS.items()}),
        classes=classes,
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


@contextmanager
def _samples(tokens: Sequence[str] | None) -> Iterator[None]:
    """Have the devkit take these samples for those of any custom split."""
    if tokens is None:
        yield
        return
    from nuscenes.eval.detection import evaluate

    if not hasattr(evaluate, "get_samples_of_custom_split"):
        raise UsageError(
            "this nuscenes-devkit scores whole official splits only; install one that knows others: "
            "pip install 'nuscenes-devkit>=1.2'"
        )
    with patch.object(evaluate, "get_samples_of_custom_split", lambda **_: list(tokens)):
        yield


@contextmanager
def _quiet_loaders() -> Iterator[None]:
    # `verbose=False` does not reach the progress bar of the devkit's ground-truth loader.
    def plain(items: Iterable, **_: object) -> Iterable:
        return items

    from nuscenes.eval.common import loaders

    with patch.object(loaders, "tqdm", SimpleNamespace(tqdm=plain)):
        yield
