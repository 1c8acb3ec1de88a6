"""The legend of a picture: the classes and marks that occur in it, and no others."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.patches import Rectangle

from crkd_core.config.classes import DETECTION_CLASSES
from crkd_core.visualization.bev import (
    ARROW_SECONDS,
    EGO_OUTLINE_M,
    GLYPH_AREA,
    LETTER_AREA,
    MOVING_MPS,
    RADAR_MARKER,
    has_arrow,
)
from crkd_core.visualization.palette import (
    BACKGROUND,
    EGO,
    FALSE_POSITIVE,
    LIDAR,
    MARK,
    MISSED,
    RADAR,
    TEXT,
    TRUE_POSITIVE,
    BoxStyle,
    class_style,
    score_alpha,
)
from crkd_core.visualization.true_positives import MATCH_DISTANCE_M, Outcome
from crkd_core.visualization.views import LabelledBoxes, SampleView

_CLASS_COLUMN_PX = 210.0
_MARK_COLUMN_PX = 315.0
_LETTER_PX = 9.6
_COLUMN_GAP_PX = 24.0
_ROW_PX = 33.0
_LINE_PX = 22.0
_SECTION_GAP_PX = 16.0
_TEXT_LEFT_PX = 52.0
_FONT_POINTS = 13.0
_BOX_PX = (38.0, 18.0)


@dataclass(frozen=True)
class BoxSign:
    """A small box as it is drawn in the bird's-eye view, driving to the right."""

    colour: str
    style: BoxStyle = TRUE_POSITIVE
    glyph: str | None = None
    alpha: float = 1.0
    has_heading: bool = False

    def draw(self, axes: Axes, x: float, y: float) -> None:
        """Around (x, y), pixels of the axes."""
        width, height = _BOX_PX
        corner = x - width / 2, y - height / 2
        edge, fill = to_rgba(self.colour, self.alpha), to_rgba(self.colour, self.alpha * self.style.fill_alpha)
        axes.add_patch(
            Rectangle(
                corner, width, height, facecolor=fill, edgecolor=edge, linewidth=self.style.width + 0.3,
                linestyle=self.style.dashes,
            )
        )  # fmt: skip
        if self.has_heading:
            axes.plot([x, x + width / 2], [y, y], color=edge, linewidth=self.style.width + 0.3)
        if self.glyph is not None:
            is_letter = self.glyph.startswith("$")
            area = 1.5 * (LETTER_AREA if is_letter else GLYPH_AREA)
            inside = edge if self.style.fill_alpha or is_letter else to_rgba(BACKGROUND)
            axes.scatter(
                [x],
                [y],
                marker=self.glyph,
                s=area,
                facecolors=inside,
                edgecolors=edge,
                linewidths=0.3 if is_letter else 1.1,
            )


@dataclass(frozen=True)
class MarkSign:
    """One matplotlib marker of a size in points."""

    marker: str | tuple[tuple[float, float], ...]
    colour: str
    size: float
    is_hollow: bool = False

    def draw(self, axes: Axes, x: float, y: float) -> None:
        """At (x, y), pixels of the axes."""
        axes.plot(
            [x], [y], marker=self.marker, markersize=self.size, color=self.colour, linewidth=0,
            markerfacecolor="none" if self.is_hollow else self.colour, markeredgewidth=1.8 if self.is_hollow else 0.8,
        )  # fmt: skip


@dataclass(frozen=True)
class LegendEntry:
    """A sign of a picture, as drawn, and what it means."""

    label: str
    sign: BoxSign | MarkSign

    @property
    def lines(self) -> int:
        """Of its label."""
        return self.label.count("\n") + 1


@dataclass(frozen=True)
class Legend:
    """What occurs in a picture: classes above, marks below."""

    classes: tuple[LegendEntry, ...]
    marks: tuple[LegendEntry, ...]

    def height_px(self, width_px: float) -> float:
        """Height of the legend in so much width."""
        sections = [sum(map(_row_height_px, rows)) for rows, _ in self._sections(width_px)]
        return sum(sections) + _SECTION_GAP_PX * max(len(sections) - 1, 0)

    def draw(self, axes: Axes, width_px: float, height_px: float) -> None:
        """Into axes of that size, from the top left."""
        axes.set_xlim(0, width_px)
        axes.set_ylim(height_px, 0)
        axes.set_axis_off()
        top_px = 0.0
        for rows, column_px in self._sections(width_px):
            for row in rows:
                y = top_px + _row_height_px(row) / 2
                for column, entry in enumerate(row):
                    x = column * column_px
                    entry.sign.draw(axes, x + _BOX_PX[0] / 2 + 1, y)
                    axes.text(
                        x + _TEXT_LEFT_PX, y, entry.label, color=TEXT, fontsize=_FONT_POINTS,
                        va="center_baseline" if entry.lines == 1 else "center", linespacing=1.1,
                    )  # fmt: skip
                top_px += _row_height_px(row)
            top_px += _SECTION_GAP_PX

    def _sections(self, width_px: float) -> list[tuple[list[list[LegendEntry]], float]]:
        """Rows of entries, and the width of a column; a long label widens the columns, and one too long is wrapped."""
        sections = []
        letters = int((width_px - _TEXT_LEFT_PX) / _LETTER_PX)
        for entries, least_px in ((self.classes, _CLASS_COLUMN_PX), (self.marks, _MARK_COLUMN_PX)):
            wrapped = [LegendEntry(textwrap.fill(entry.label, letters), entry.sign) for entry in entries]
            longest = max((len(line) for entry in wrapped for line in entry.label.splitlines()), default=0)
            column_px = max(least_px, _TEXT_LEFT_PX + _LETTER_PX * longest + _COLUMN_GAP_PX)
            columns = max(1, int((width_px + _COLUMN_GAP_PX) // column_px))
            if wrapped:
                rows = [wrapped[index : index + columns] for index in range(0, len(wrapped), columns)]
                sections.append((rows, column_px))
        return sections


def legend_of(sample: SampleView) -> Legend:
    """The legend of everything that is drawn of a sample."""
    outcomes = [Outcome.of(model.detections, sample.gt) for model in sample.models]
    shown = [model.detections for model in sample.models] + ([sample.gt] if sample.gt is not None else [])
    labels = sorted({int(label) for boxes in shown for label in boxes.labels})
    classes = tuple(
        LegendEntry(
            DETECTION_CLASSES[label].replace("_", " "),
            BoxSign(class_style(label).colour, glyph=class_style(label).glyph),
        )
        for label in labels
    )
    return Legend(classes, (*_outcome_entries(outcomes), *_scene_entries(sample, shown)))


def _outcome_entries(outcomes: Sequence[Outcome]) -> list[LegendEntry]:
    entries = []
    if any(outcome.is_judged and len(outcome.tp) for outcome in outcomes):
        entries.append(LegendEntry(f"found (within {MATCH_DISTANCE_M:g} m)", BoxSign(TEXT, glyph="o")))
    if any(len(outcome.fp) for outcome in outcomes):
        entries.append(LegendEntry("false alarm", BoxSign(TEXT, FALSE_POSITIVE, "o")))
    if any(len(outcome.missed) for outcome in outcomes):
        entries.append(LegendEntry("missed", BoxSign(MISSED.colour or TEXT, MISSED, "o")))
    if any(len(outcome.tp) + len(outcome.fp) for outcome in outcomes):
        entries.append(LegendEntry("fainter: lower score", BoxSign(TEXT, alpha=score_alpha(0.0))))
    return entries


def _scene_entries(sample: SampleView, shown: Sequence[LabelledBoxes]) -> list[LegendEntry]:
    entries = []
    if any(map(len, shown)):
        entries.append(LegendEntry("heading: line to the front", BoxSign(TEXT, has_heading=True)))
    radar_moves = (np.hypot(sample.radar[:, 2], sample.radar[:, 3]) > MOVING_MPS).any()
    if radar_moves or any(has_arrow(boxes).any() for boxes in shown):
        entries.append(LegendEntry(f"motion in {ARROW_SECONDS:g} s", MarkSign(r"$\rightarrow$", TEXT, 17.0)))
    entries.append(LegendEntry("own car, driving up", MarkSign(EGO_OUTLINE_M, EGO, 15.0)))
    if len(sample.lidar):
        entries.append(LegendEntry("LiDAR point", MarkSign("o", LIDAR, 2.0)))
    if len(sample.radar):
        entries.append(LegendEntry("radar point", MarkSign(RADAR_MARKER, RADAR, 6.0)))
    if len(sample.marked):
        entries.append(LegendEntry(sample.marked_title, MarkSign("o", MARK, 14.0, is_hollow=True)))
    return entries


def _row_height_px(row: Sequence[LegendEntry]) -> float:
    return _ROW_PX + _LINE_PX * (max(entry.lines for entry in row) - 1)
