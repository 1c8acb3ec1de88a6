"""Training curves of a run: loss terms over the steps and, where recorded, norms and cosines of their gradients."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from crkd_core.artifacts.atomic import atomic_path
from crkd_core.visualization.palette import BACKGROUND, CLASS_COLOURS, FAINT_TEXT, PANEL, RULES, TEXT

_DPI = 100
_PANEL_INCHES = (5.0, 3.9)
_SMOOTHED_POINTS = 60


@dataclass(frozen=True)
class Curve:
    """One number over the optimiser steps: `steps` and `values` of equal length."""

    steps: NDArray[np.int64]
    values: NDArray[np.float64]


@dataclass(frozen=True)
class TrainingCurves:
    """What a run recorded.

    Attributes:
        losses: weighted loss terms by family.
        norms: by shared layer and family, the norm of the family's gradient there.
        cosines: by shared layer and pair of families, the mean cosine of their gradients, -1 to 1.
    """

    losses: Mapping[str, Curve]
    norms: Mapping[str, Mapping[str, Curve]] = field(default_factory=dict)
    cosines: Mapping[str, Mapping[tuple[str, str], float]] = field(default_factory=dict)


def write_curves(path: Path, title: str, curves: TrainingCurves) -> None:
    """Draw one PNG: losses and gradient norms above, mean cosines below; losses alone where no gradient was recorded.

    Raises:
        WriteError: the file cannot be written.
    """
    with atomic_path(path) as temporary:
        render_curves(title, curves).savefig(temporary, format="png", facecolor=BACKGROUND)


def render_curves(title: str, curves: TrainingCurves) -> Figure:
    """The picture as a figure: one column for the losses and one for each layer."""
    layers, rows = list(curves.norms), 2 if curves.cosines else 1
    size = (_PANEL_INCHES[0] * (1 + len(layers)), _PANEL_INCHES[1] * rows)
    figure = Figure(figsize=size, dpi=_DPI, facecolor=BACKGROUND, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, color=TEXT)
    panels = figure.subplots(rows, 1 + len(layers), squeeze=False)
    colours = dict(zip(curves.losses, list(CLASS_COLOURS.values()) * len(curves.losses)))
    _draw_curves(panels[0, 0], "loss terms (weighted, smoothed)", curves.losses, colours)
    panels[0, 0].legend(facecolor=PANEL, edgecolor=RULES, labelcolor=TEXT, fontsize=8)
    for column, layer in enumerate(layers, start=1):
        _draw_curves(panels[0, column], f"gradient norms, {layer}", curves.norms[layer], colours)
        _draw_cosines(panels[1, column], f"mean cosines, {layer}", curves.cosines.get(layer, {}))
    if rows == 2:
        panels[1, 0].set_axis_off()
    return figure


def _draw_curves(axes: Axes, title: str, curves: Mapping[str, Curve], colours: Mapping[str, str]) -> None:
    _prepare(axes, title)
    for name, curve in curves.items():
        axes.plot(*_smoothed(curve), color=colours.get(name, TEXT), linewidth=1.3, label=name)
    if any((curve.values > 0).any() for curve in curves.values()):
        axes.set_yscale("log", nonpositive="mask")
    axes.set_xlabel("step", color=FAINT_TEXT)


def _smoothed(curve: Curve) -> tuple[NDArray, NDArray]:
    """Means over equal numbers of steps, so that a long run is no black band."""
    parts = min(len(curve.steps), _SMOOTHED_POINTS)
    steps, values = (np.array_split(numbers, parts) for numbers in (curve.steps, curve.values))
    return np.array([part.mean() for part in steps]), np.array([part.mean() for part in values])


def _draw_cosines(axes: Axes, title: str, cosines: Mapping[tuple[str, str], float]) -> None:
    _prepare(axes, title)
    names = list(dict.fromkeys(name for pair in cosines for name in pair))
    matrix = np.full((len(names), len(names)), np.nan)
    for (first, second), cosine in cosines.items():
        row, column = names.index(first), names.index(second)
        matrix[row, column] = matrix[column, row] = cosine
        for x, y in ((row, column), (column, row)):
            axes.text(x, y, f"{cosine:.2f}", ha="center", va="center", color="black", fontsize=8)
    axes.grid(visible=False)
    if names:
        axes.imshow(matrix, cmap="RdYlGn", vmin=-1, vmax=1)
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right")
    axes.set_yticks(range(len(names)), names)


def _prepare(axes: Axes, title: str) -> None:
    axes.set_title(title, color=TEXT, fontsize=10)
    axes.set_facecolor(PANEL)
    axes.tick_params(which="both", colors=FAINT_TEXT, labelsize=8)
    axes.grid(color=RULES, linewidth=0.5)
    for spine in axes.spines.values():
        spine.set_color(RULES)
