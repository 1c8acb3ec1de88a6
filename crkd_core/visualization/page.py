"""A page that shows the pictures of a split, with the scores of the models in them."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crkd_core.artifacts.atomic import write_text
from crkd_core.visualization.palette import BACKGROUND, FAINT_TEXT, PANEL, RULES, TEXT

_STYLE = f"""
body {{ background: {BACKGROUND}; color: {TEXT}; font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto;
  max-width: 1500px; padding: 0 1rem; }}
h1 {{ font-size: 1.6rem; }}
h2 {{ font-size: 1.1rem; margin: 2.5rem 0 0; }}
p {{ color: {FAINT_TEXT}; margin: 0 0 .6rem; }}
img {{ width: 100%; border: 1px solid {RULES}; border-radius: 6px; }}
table {{ border-collapse: collapse; background: {PANEL}; }}
th, td {{ padding: .35rem 1rem; border: 1px solid {RULES}; text-align: right; }}
th:first-child, td:first-child {{ text-align: left; }}
"""


@dataclass(frozen=True)
class PictureEntry:
    """One picture of the page: file name beside the page, and what it shows."""

    file: str
    token: str
    scene: str
    condition: str


@dataclass(frozen=True)
class ScoreEntry:
    """One row of the table: a model and its official scores (0 to 1), None where there are none."""

    model: str
    sensors: str
    mean_ap: float | None
    nds: float | None

    @staticmethod
    def of(model: str, modalities: Sequence[str], facts: Mapping[str, Any]) -> "ScoreEntry":
        """The row of an evaluation with such facts."""
        return ScoreEntry(model, " + ".join(modalities), facts.get("mean_ap"), facts.get("nds"))


@dataclass(frozen=True)
class CurvesEntry:
    """Training curves of one model: file name beside the page."""

    file: str
    model: str


def write_page(
    path: Path,
    title: str,
    pictures: Sequence[PictureEntry],
    scores: Sequence[ScoreEntry],
    curves: Sequence[CurvesEntry] = (),
) -> None:
    """Write one self-contained HTML page that refers to the pictures beside it.

    Raises:
        WriteError: the file cannot be written.
    """
    rows = "\n".join(
        f"<tr><td>{html.escape(row.model)}</td><td>{html.escape(row.sensors)}</td>"
        f"<td>{_score(row.mean_ap)}</td><td>{_score(row.nds)}</td></tr>"
        for row in scores
    )
    figures = "\n".join(
        f"<h2>{html.escape(entry.scene)} <small>{html.escape(entry.token)}</small></h2>\n"
        f"<p>{html.escape(entry.condition)}</p>\n"
        f'<a href="{html.escape(entry.file)}"><img src="{html.escape(entry.file)}" alt="BEV and cameras"></a>'
        for entry in pictures
    )
    trainings = "\n".join(
        f"<h2>Training of {html.escape(entry.model)}</h2>\n"
        f'<a href="{html.escape(entry.file)}"><img src="{html.escape(entry.file)}" alt="training curves"></a>'
        for entry in curves
    )
    write_text(
        path,
        f'<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style></head>\n<body>\n<h1>{html.escape(title)}</h1>\n"
        f"<table>\n<tr><th>model</th><th>sees</th><th>mAP</th><th>NDS</th></tr>\n{rows}\n</table>\n"
        f"{figures}\n{trainings}\n</body>\n</html>\n",
    )


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
