"""The table of an ablation: mean and spread over seeds beside the published cells, as JSON, CSV and Markdown."""

import csv
import io
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crkd_core.artifacts.atomic import write_json, write_text
from crkd_core.evaluation.nuscenes.metrics import Metrics
from crkd_core.stages.ablate.rows import BACKBONES, METRICS, Row, ShownVariant, run_of

JSON_NAME, CSV_NAME, MARKDOWN_NAME = "table.json", "table.csv", "table.md"
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


def write_tables(folder: Path, rows: Sequence[ScoredRow], backbone: str) -> None:
    """Write all three forms.

    Args:
        backbone: whose published cells stand in the Markdown; the other forms have those of every backbone.

    Raises:
        WriteError: a file cannot be written.
    """
    write_json(folder / JSON_NAME, [_to_json(row) for row in rows])
    write_text(folder / CSV_NAME, _to_csv(rows))
    write_text(folder / MARKDOWN_NAME, _to_markdown(rows, backbone))


def _to_json(row: ScoredRow) -> dict[str, Any]:
    return {
        "comparison": row.comparison,
        "row": row.row.title,
        "run": row.run,
        "seeds": list(row.seeds),
        "n": len(row.seeds),
        "metrics": {
            metric: {
                "mean": _number(row.mean(metric)),
                "standard_deviation": _number(row.deviation(metric)),
                "per_seed": {str(seed): _number(value) for seed, value in zip(row.seeds, row.values[metric])},
            }
            for metric in METRICS
        },
        "published": {backbone: row.row.paper(backbone) for backbone in BACKBONES if row.row.paper(backbone)},
    }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _to_csv(rows: Sequence[ScoredRow]) -> str:
    text = io.StringIO()
    seeds = sorted({seed for row in rows for seed in row.seeds})
    writer = csv.writer(text, lineterminator="\n")
    header = ["comparison", "row", "run", "n"]
    for metric in METRICS:
        header += [f"{metric} mean", f"{metric} standard deviation", *(f"{metric} seed {seed}" for seed in seeds)]
        header += [f"{metric} published {backbone}" for backbone in BACKBONES]
    writer.writerow(header)
    for row in rows:
        cells: list[Any] = [row.comparison, row.row.title, row.run, len(row.seeds)]
        for metric in METRICS:
            per_seed = dict(zip(row.seeds, row.values[metric]))
            cells += [_cell(row.mean(metric)), _cell(row.deviation(metric))]
            cells += [_cell(per_seed.get(seed, math.nan)) for seed in seeds]
            cells += [row.row.paper(backbone).get(metric, "") for backbone in BACKBONES]
        writer.writerow(cells)
    return text.getvalue()


def _cell(value: float) -> float | str:
    return "" if math.isnan(value) else value


def _to_markdown(rows: Sequence[ScoredRow], backbone: str) -> str:
    published = [metric for metric in METRICS if any(row.paper_text(metric, backbone) for row in rows)]
    header = ["", "n", *METRICS, *(f"paper {metric}" for metric in published)]
    lines = [_line(header), _line(["---"] * len(header))]
    previous = None
    for row in rows:
        if row.comparison != previous:
            lines.append(_line([f"**{row.comparison}**", *[""] * (len(header) - 1)]))
            previous = row.comparison
        measured = [_with_deviation(row, metric) for metric in METRICS]
        paper = [row.paper_text(metric, backbone) for metric in published]
        lines.append(_line([row.row.title, str(len(row.seeds)), *measured, *paper]))
    note = (
        f"Mean over n seeds ± standard deviation; mAP and NDS in percent. Paper: {backbone}, nuScenes val, "
        "a different data set from a simulated or mini one."
    )
    return "\n".join([*lines, "", note, ""])


def _with_deviation(row: ScoredRow, metric: str) -> str:
    deviation = row.deviation_text(metric)
    return row.mean_text(metric) + (f" ± {deviation}" if deviation else "")


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
