"""What lies behind scores, as lines and tables that fit a terminal."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from crkd_cli import console
from crkd_core.errors import UsageError

if TYPE_CHECKING:
    from crkd_core.evaluation.report import Analysis

KINDS = ("range", "speed", "visibility", "radar-points", "lidar-points", "condition", "tag")
"""Kinds of slices of ``crkd_core.evaluation.statistics.slices``, named here so that help needs no numpy."""


def complete_kind(incomplete: str) -> list[str]:
    """Kinds of slices."""
    return [name for name in KINDS if name.startswith(incomplete)]


def check_kinds(kinds: Sequence[str]) -> None:
    """Refuse a kind of slices that does not exist.

    Raises:
        UsageError: naming it.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise UsageError(f"--breakdown knows {', '.join(KINDS)}, found {kind!r}.")


def print_analysis(name: str, analysis: "Analysis", kinds: Sequence[str]) -> None:
    """The interval of the scores, the kinds of slices asked for, the pictures, and last what is suspicious."""
    rows = analysis.breakdown.to_pylist()
    whole = next((row for row in rows if row["kind"] == row["class"] == "all"), None)
    if whole is not None and whole["ap_low"] is not None:
        scores = f"mAP {_interval(whole, 'ap')}, NDS {_interval(whole, 'nds')}"
        console.print_lines(f"{name}: {scores} (95% of the resamples of its scenes)")
    for kind in kinds:
        _print_breakdown(name, kind, rows)
    console.print_lines(*map(str, analysis.pictures))
    for diagnosis in analysis.diagnoses:
        console.print_lines(f"Suspicious in {name}: {diagnosis.cause}.")
        console.print_lines(f"  {diagnosis.evidence}.", f"  {diagnosis.advice}.")


def analysis_to_json(analysis: "Analysis | None") -> dict[str, Any]:
    """Everything, as plain values; empty where there are no scores."""
    if analysis is None:
        return {"findings": [], "breakdown": [], "curves": []}
    return {
        "findings": [vars(diagnosis) for diagnosis in analysis.diagnoses],
        "breakdown": analysis.breakdown.to_pylist(),
        "curves": [str(path) for path in analysis.pictures],
    }


def _print_breakdown(name: str, kind: str, rows: Sequence[dict[str, Any]]) -> None:
    """One kind of slices: their scores, then the average precision of every class in each."""
    from crkd_core.evaluation.statistics.slices import KINDS as DESCRIPTIONS

    own = [row for row in rows if row["kind"] == kind]
    if not own:
        console.print_lines(f"{name} by {kind}: no object belongs to any slice.")
        return
    console.print_lines(f"{name} by {kind}: {DESCRIPTIONS[kind]}")
    columns = [kind, "objects", "mAP", "95%", "NDS", "recall", "ATE", "ASE", "AOE", "AVE"]
    table = console.make_table(columns, numbers_from=1)
    errors = ("translation_m", "scale", "orientation_rad", "velocity_mps")
    for row in own:
        if row["class"] == "all":
            values = [number(row[column]) for column in ("nds", "recall", *errors)]
            table.add_row(row["slice"], str(row["objects"]), number(row["ap"]), _interval(row, "ap"), *values)
    console.print_table(table)
    slices = list(dict.fromkeys(row["slice"] for row in own))
    table = console.make_table(["AP", *slices], numbers_from=1)
    for label in list(dict.fromkeys(row["class"] for row in rows))[1:]:
        cells = {row["slice"]: number(row["ap"]) for row in own if row["class"] == label}
        if cells:
            table.add_row(label, *(cells.get(name, "-") for name in slices))
    console.print_table(table)


def number(value: float | None) -> str:
    """Three digits; a dash where there is none."""
    return "-" if value is None else f"{value:.3f}"


def _interval(row: dict[str, Any], column: str) -> str:
    low, high = row[f"{column}_low"], row[f"{column}_high"]
    return "-" if low is None else f"{low:.3f}-{high:.3f}"
