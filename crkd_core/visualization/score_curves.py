"""Scores of an evaluation as curves: precision over recall, and true-positive errors over recall."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from crkd_core.artifacts.atomic import atomic_path
from crkd_core.visualization.palette import BACKGROUND, FAINT_TEXT, PANEL, RULES, TEXT

_DPI = 100
_PANEL_INCHES = (3.2, 2.75)
_DISTANCE_COLOURS = ("#ff5d5d", "#ff9f1c", "#57e389", "#4cc9f0", "#c77dff", "#ffffff")


@dataclass(frozen=True)
class PrecisionPanel:
    """One class: precision (101,) by match distance (m) with the average precision of each, and their mean.

    Attributes:
        objects: annotated objects; a class without any has no curve.
    """

    name: str
    precision: Mapping[float, NDArray[np.float64]]
    average_precision: Mapping[float, float]
    objects: int

    @property
    def ap(self) -> float:
        return float(np.mean(list(self.average_precision.values())))


@dataclass(frozen=True)
class ErrorPanel:
    """One error: values over recall (n,) by class, only of what is reached and defined, and its mean over the classes.

    Attributes:
        name, unit: as written at the axis.
        curves: class name to (recall, values).
    """

    name: str
    unit: str
    mean: float
    curves: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]


def write_precision_curves(path: Path, title: str, panels: Sequence[PrecisionPanel], minimum: float) -> None:
    """Draw one PNG with a panel a class; `minimum` is the recall and precision below which nothing counts.

    Raises:
        WriteError: the file cannot be written.
    """
    figure, axes = _figure(title, len(panels), columns=5)
    recalls = np.linspace(0, 1, 101)
    for axis, panel in zip(axes, panels):
        _prepare(axis, panel.name.replace("_", " "), f"AP {panel.ap:.3f}" if panel.objects else "no objects")
        axis.axvspan(0, minimum, color=RULES, alpha=0.45, linewidth=0)
        axis.axhspan(0, minimum, color=RULES, alpha=0.45, linewidth=0)
        shown = panel.precision.items() if panel.objects else ()
        for (distance_m, values), colour in zip(shown, _DISTANCE_COLOURS):
            label = f"{distance_m:g} m  {panel.average_precision[distance_m]:.3f}"
            end = np.flatnonzero(values).max(initial=0) + 2
            axis.plot(recalls[:end], values[:end], color=colour, linewidth=1.5, label=label)
        axis.set_xlim(0, 1)
        axis.set_ylim(0, 1.02)
        if panel.objects:
            axis.legend(
                facecolor=PANEL, edgecolor=RULES, labelcolor=TEXT, fontsize=7.5, loc="upper right", framealpha=0.85
            )
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    _label(axes[: len(panels)], "recall", "precision", columns=5)
    _write(path, figure)


def write_error_curves(
    path: Path, title: str, panels: Sequence[ErrorPanel], minimum: float, colours: Mapping[str, str]
) -> None:
    """Draw one PNG with a panel an error and the legend of the classes.

    Args:
        minimum: recall below which errors do not count.
        colours: of the classes, in the order of the legend.

    Raises:
        WriteError: the file cannot be written.
    """
    figure, axes = _figure(title, len(panels) + 1, columns=3)
    for axis, panel in zip(axes, panels):
        _prepare(axis, panel.name, f"mean {panel.mean:.3f}")
        axis.axvspan(0, minimum, color=RULES, alpha=0.45, linewidth=0)
        highest = 0.0
        for name, (recall, values) in panel.curves.items():
            axis.plot(recall, values, color=colours[name], linewidth=1.5, label=name.replace("_", " "))
            highest = max(highest, float(values.max(initial=0.0)))
        axis.set_xlim(0, 1)
        axis.set_ylim(0, highest * 1.08 if highest > 0 else 1.0)
        axis.set_ylabel(panel.unit, color=FAINT_TEXT, fontsize=9)
        axis.set_xlabel("recall", color=FAINT_TEXT, fontsize=9)
    drawn = {name for panel in panels for name in panel.curves}
    legend = axes[-1]
    legend.set_axis_off()
    for name in (name for name in colours if name in drawn):
        legend.plot([], [], color=colours[name], linewidth=2.5, label=name.replace("_", " "))
    if drawn:
        legend.legend(loc="center", frameon=False, labelcolor=TEXT, fontsize=11)
    _write(path, figure)


def _figure(title: str, panels: int, columns: int) -> tuple[Figure, list[Axes]]:
    rows = -(-panels // columns)
    scale = 5 / columns
    size = (_PANEL_INCHES[0] * 5, 0.5 + _PANEL_INCHES[1] * rows * min(scale, 1.25))
    figure = Figure(figsize=size, dpi=_DPI, facecolor=BACKGROUND, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, color=TEXT, fontsize=14, fontweight="bold")
    return figure, list(figure.subplots(rows, columns, squeeze=False).ravel())


def _prepare(axes: Axes, title: str, figures: str) -> None:
    axes.set_title(title, color=TEXT, fontsize=10.5, loc="left")
    axes.set_title(figures, color=FAINT_TEXT, fontsize=9.5, loc="right")
    axes.set_facecolor(PANEL)
    axes.tick_params(colors=FAINT_TEXT, labelsize=8)
    axes.grid(color=RULES, linewidth=0.5)
    for spine in axes.spines.values():
        spine.set_color(RULES)


def _label(axes: Sequence[Axes], below: str, beside: str, columns: int) -> None:
    """Only at the edges of the picture."""
    for index, axis in enumerate(axes):
        if index >= len(axes) - columns:
            axis.set_xlabel(below, color=FAINT_TEXT, fontsize=9)
        if index % columns == 0:
            axis.set_ylabel(beside, color=FAINT_TEXT, fontsize=9)


def _write(path: Path, figure: Figure) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", facecolor=BACKGROUND, metadata={"Software": None})
