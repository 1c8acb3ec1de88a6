"""Scores of the rows of an ablation: mean and spread over seeds, as text beside the published cells."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from crkd_core.evaluation.nuscenes.metrics import Metrics
from crkd_core.stages.ablate.rows import METRICS, Row, ShownVariant
from crkd_core.stages.ablate.variants import run_of

_PERCENT = ("mAP", "NDS")


@dataclass(frozen=True)
class ScoredRow:
    """One row of an ablation's table.

    Attributes:
        comparison: which comparison it belongs to.
        run: its students are called ``<run>-s<seed>``.
        seeds: of its students.
        values: by metric, one value a seed: mAP and NDS from 0 to 1, errors as measured, NaN where there is none.
    """

    comparison: str
    row: Row
    run: str
    seeds: tuple[int, ...]
    values: dict[str, tuple[float, ...]]

    def mean(self, metric: str) -> float:
        """Mean over the seeds; NaN where one has no value."""
        return statistics.fmean(self.values[metric])

    def deviation(self, metric: str) -> float:
        """Sample standard deviation over the seeds; NaN for a single one."""
        values = self.values[metric]
        known = len(values) > 1 and not any(map(math.isnan, values))
        return statistics.stdev(values) if known else math.nan

    def mean_text(self, metric: str) -> str:
        """The mean as the paper prints it: mAP and NDS in percent."""
        return format_value(metric, self.mean(metric))

    def deviation_text(self, metric: str) -> str:
        """The deviation in the unit of the mean; empty where there is none."""
        deviation = self.deviation(metric)
        return "" if math.isnan(deviation) else format_value(metric, deviation)

    def paper_text(self, metric: str, backbone: str) -> str:
        """The published cell; empty where there is none."""
        cells = self.row.paper(backbone)
        return format_value(metric, cells[metric]) if metric in cells else ""


def format_value(metric: str, value: float) -> str:
    """One decimal of a percentage for mAP and NDS, three of an error; ``-`` for NaN."""
    if math.isnan(value):
        return "-"
    return f"{100 * value:.1f}" if metric in _PERCENT else f"{value:.3f}"


def score_rows(
    rows: Sequence[ShownVariant], seeds: Sequence[int], metrics: Mapping[str, Metrics]
) -> tuple[ScoredRow, ...]:
    """The rows with the official metrics of their students, which are given by the names of the runs."""
    scored = []
    for shown in rows:
        run = run_of(shown.variant)
        of_seeds = [metrics[f"{run}-s{seed}"] for seed in seeds]
        columns = zip(*((m.mean_ap, m.nds, *m.errors) for m in of_seeds), strict=True)
        values = dict(zip(METRICS, columns, strict=True))
        scored.append(ScoredRow(shown.comparison, shown.row, run, tuple(seeds), values))
    return tuple(scored)
