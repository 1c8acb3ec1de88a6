"""Metrics against the official devkit's (``--official``): where the two can agree, and whether they do."""

from pathlib import Path

from crkd_core.datasets.nuscenes.splits import splits_of_version
from crkd_core.datasets.prepared import preparing
from crkd_core.datasets.prepared.prepared_data import PreparedData
from crkd_core.errors import UsageError
from crkd_core.evaluation.evaluated_split import EvaluatedSplit, is_annotated
from crkd_core.evaluation.nuscenes.devkits import devkit_of
from crkd_core.evaluation.nuscenes.metrics import Metrics
from crkd_core.evaluation.nuscenes.official import evaluate_official, require_devkit, require_equal
from crkd_core.progress import Progress, format_count


def require_comparable(prepared: PreparedData, split: str) -> None:
    """Refuse ``--official`` where there is nothing to compare, or where the devkit differs by design.

    Raises:
        UsageError: the split has no public annotations, the devkit treats some boxes otherwise, or it is not installed.
    """
    if not is_annotated(prepared, split):
        raise UsageError("--official compares metrics, and the test split has none: its annotations are not public.")
    devkit = devkit_of(prepared.description)
    differences = prepared.artifact.manifest.facts.get(preparing.DEVKIT_DIFFERENCES, {}).get(split, {})
    if differences:
        boxes = " and ".join(f"{format_count(count, 'box', 'boxes')} {kind}" for kind, count in differences.items())
        raise UsageError(
            f"--official cannot agree on {split} of {prepared.version}: the {devkit.name} treats {boxes} otherwise "
            "(see the report of crkd prepare); leave out --official, or mend the tables."
        )
    require_devkit(devkit)


def compare_with_devkit(
    submission: Path, evaluated: EvaluatedSplit, metrics: Metrics | None, progress: Progress
) -> float | None:
    """Largest absolute difference between `metrics` and the devkit's of a submission file.

    Returns:
        None where there are no metrics.

    Raises:
        MetricsDifferError: there is a difference.
        DatasetError: the devkit cannot open the data set.
    """
    if metrics is None:
        return None
    prepared, split = evaluated.prepared, evaluated.split
    # What the devkit has no list of, or only a longer one, it is told sample by sample.
    own = prepared.artifact.manifest.facts.get("own_splits", ())
    is_known = split in (splits_of_version(prepared.version) or ()) and split not in own
    is_whole = len(evaluated.tokens) == prepared.split_size(split)
    tokens = None if is_known and is_whole else evaluated.tokens
    official = evaluate_official(
        prepared.description, prepared.dataroot, prepared.version, split, submission, progress, tokens
    )
    return require_equal(metrics, official)
