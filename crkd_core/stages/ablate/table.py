"""The table of an ablation: mean and spread over seeds beside the published cells, as JSON, CSV and Markdown."""

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crkd_core.artifacts.atomic import write_json, write_text
from crkd_core.stages.ablate.rows import BACKBONES, METRICS
from crkd_core.stages.ablate.scored_row import ScoredRow

JSON_NAME, CSV_NAME, MARKDOWN_NAME = "table.json", "table.csv", "table.md"


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
