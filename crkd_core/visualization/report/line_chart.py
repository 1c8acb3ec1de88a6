"""Curves as an inline SVG picture, in the page's own colours and letters."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crkd_core.visualization.report.markup import Markup, element, folded, joined, table
from crkd_core.visualization.training_curves import Curve, smoothed

_WIDTH, _HEIGHT = 440, 270
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 10, 12, 40
_MOST_TICKS = 6
_COLOURS = 8
_NUMBERS = ("", "first", "lowest", "highest", "last")
_DASHES = ("", "7 3", "2 3", "9 3 2 3")
"""A second cue: lines that share a colour, or colours that look alike to a viewer, differ in their dashes."""


def line_chart(title: str, curves: Mapping[str, Curve], numbers: Mapping[str, int], logarithmic: bool = True) -> Markup:
    """A figure with its legend, and its numbers as a folded table.

    Args:
        numbers: by which a curve's colour and dashes are chosen, the same in every chart of a section.
        logarithmic: where all values allow it.
    """
    drawn = {name: smoothed(curve) for name, curve in curves.items()}
    drawn = {name: (x[np.isfinite(y)], y[np.isfinite(y)]) for name, (x, y) in drawn.items()}
    drawn = {name: (x, y) for name, (x, y) in drawn.items() if len(x)}
    if not drawn:
        return element("p", f"{title}: nothing was recorded.", class_="nothing")
    plane = _Plane.of(drawn, logarithmic)
    parts = plane.grid()
    for name, (x, y) in drawn.items():
        style = line_style(numbers[name])
        columns, rows = plane.columns(x), plane.rows(y)
        if len(x) == 1:
            at = {"cx": f"{columns[0]:.1f}", "cy": f"{rows[0]:.1f}"}
            parts.append(element("circle", r="3", class_=f"point {style.colour}", **at))
        else:
            points = " ".join(f"{column:.1f},{row:.1f}" for column, row in zip(columns, rows, strict=True))
            parts.append(element("polyline", points=points, **style.attributes))
    described = f"{title}: {', '.join(_in_words(name, y) for name, (_, y) in drawn.items())}."
    picture = element("svg", *parts, viewBox=f"0 0 {_WIDTH} {_HEIGHT}", role="img", aria_label=described)
    cells = [(name, *(f"{value:.4g}" for value in (y[0], y.min(), y.max(), y[-1]))) for name, (_, y) in drawn.items()]
    return element(
        "figure",
        element("figcaption", title),
        picture,
        _key(drawn, numbers),
        folded(
            "In numbers",
            table(f"{title} (means over equal numbers of steps)", ("", "first", "lowest", "highest", "last"), cells),
        ),
    )


@dataclass(frozen=True)
class LineStyle:
    """CSS class of a colour, and a dash pattern."""

    colour: str
    dashes: str

    @property
    def attributes(self) -> dict[str, str | None]:
        """Of an SVG line."""
        return {"class_": f"line {self.colour}", "stroke_dasharray": self.dashes or None}


def line_style(number: int) -> LineStyle:
    """Of a curve, by its number in the section."""
    return LineStyle(f"s{number % _COLOURS + 1}", _DASHES[number % len(_DASHES)])


@dataclass(frozen=True)
class _Plane:
    """Where steps and values are in the picture; ends of a logarithmic axis are those of the logarithm."""

    steps: tuple[float, float]
    ends: tuple[float, float]
    is_logarithmic: bool

    @staticmethod
    def of(curves: Mapping[str, tuple[NDArray, NDArray]], logarithmic: bool) -> "_Plane":
        """That holds all curves."""
        steps, values = (np.concatenate([curve[axis] for curve in curves.values()]) for axis in (0, 1))
        first = float(steps.min())
        low, high = float(values.min()), float(values.max())
        if logarithmic and low > 0:
            # At least a factor of two, or noise would fill the height.
            middle = math.sqrt(low) * math.sqrt(high)
            ends = min(low, middle / math.sqrt(2)), max(high, middle * math.sqrt(2))
            return _Plane((first, max(float(steps.max()), first + 1)), (math.log10(ends[0]), math.log10(ends[1])), True)
        low, high = min(low, 0.0), max(high, 0.0)
        return _Plane((first, max(float(steps.max()), first + 1)), (low, high if high > low else low + 1.0), False)

    def columns(self, steps: NDArray) -> NDArray:
        first, last = self.steps
        return _LEFT + (steps - first) / (last - first) * (_WIDTH - _LEFT - _RIGHT)

    def rows(self, values: NDArray) -> NDArray:
        low, high = self.ends
        heights = ((np.log10(values) if self.is_logarithmic else values) - low) / (high - low)
        return _TOP + (1 - heights) * (_HEIGHT - _TOP - _BOTTOM)

    def grid(self) -> list[Markup]:
        """Lines of round values, and the names of both axes."""
        low, high = self.ends
        ticks = np.array(_log_ticks(10**low, 10**high) if self.is_logarithmic else _round_ticks(low, high))
        parts = [_grid_line(tick, row) for tick, row in zip(ticks, self.rows(ticks), strict=True)]
        steps = np.array(_round_ticks(*self.steps))
        for step, column in zip(steps, self.columns(steps), strict=True):
            parts.append(element("text", f"{step:g}", x=f"{column:.1f}", y=f"{_HEIGHT - 20}", text_anchor="middle"))
        middle = f"{(_LEFT + _WIDTH - _RIGHT) / 2:.0f}"
        return [*parts, element("text", "optimiser step", x=middle, y=f"{_HEIGHT - 3}", text_anchor="middle")]


def _log_ticks(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for multiples in ((1, 2, 5), (1,)):
        ticks = [multiple * 10.0**decade for decade in decades for multiple in multiples]
        inside = [tick for tick in ticks if low <= tick <= high]
        if len(inside) <= _MOST_TICKS:
            return inside or [low, high]
    return inside[:: -(-len(inside) // _MOST_TICKS)]


def _round_ticks(low: float, high: float) -> list[float]:
    least = (high - low) / _MOST_TICKS
    power = 10.0 ** math.floor(math.log10(least))
    step = next(multiple * power for multiple in (1, 2, 5, 10) if multiple * power >= least)
    return [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _grid_line(value: float, y: float) -> Markup:
    line = element("line", x1=f"{_LEFT}", x2=f"{_WIDTH - _RIGHT}", y1=f"{y:.1f}", y2=f"{y:.1f}", class_="grid")
    return joined((line, element("text", f"{value:g}", x=f"{_LEFT - 6}", y=f"{y + 4:.1f}", text_anchor="end")))


def _key(names: Mapping[str, object], numbers: Mapping[str, int]) -> Markup:
    items = []
    for name in names:
        line = element("line", x1="0", x2="26", y1="5", y2="5", **line_style(numbers[name]).attributes)
        stroke = element("svg", line, viewBox="0 0 26 10", aria_hidden="true", class_="stroke")
        items.append(element("li", stroke, name))
    return element("ul", *items, class_="key")


def _in_words(name: str, values: NDArray) -> str:
    return f"{name} from {values[0]:.3g} to {values[-1]:.3g}"
