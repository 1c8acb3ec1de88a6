"""Colours and line styles that every picture shares, chosen for a dark background."""

from dataclasses import dataclass
from typing import Literal

from crkd_core.config.classes import DETECTION_CLASSES

BACKGROUND = "#0d1117"
PANEL = "#11161f"
RULES = "#2c3544"
TEXT = "#e6edf3"
FAINT_TEXT = "#8b98a9"
GROUND_TRUTH = "#ffffff"
RADAR = "#00e0b0"
EGO = "#e6edf3"
MARK = "#ff2e63"

CLASS_COLOURS: dict[str, str] = dict(
    zip(
        DETECTION_CLASSES,
        (
            "#4cc9f0",  # car
            "#ff9f1c",  # truck
            "#ffe14d",  # construction vehicle
            "#ff5d5d",  # bus
            "#b892ff",  # trailer
            "#d4a373",  # barrier
            "#ff6ad5",  # motorcycle
            "#57e389",  # bicycle
            "#6c8cff",  # pedestrian
            "#c6ff4d",  # traffic cone
        ),
        strict=True,
    )
)


@dataclass(frozen=True)
class LineStyle:
    """How an outline is drawn: dash pattern as matplotlib takes it, width in points, opacity of its filling."""

    dashes: Literal["solid"] | tuple[float, tuple[float, ...]]
    width: float
    fill_alpha: float


TRUE_POSITIVE = LineStyle("solid", 1.5, 0.22)
FALSE_POSITIVE = LineStyle((0.0, (3.0, 1.6)), 1.0, 0.0)
MISSED = LineStyle((0.0, (1.0, 1.3)), 1.1, 0.0)


def class_colour(label: int) -> str:
    """Colour of a detection class by its index."""
    return CLASS_COLOURS[DETECTION_CLASSES[label]]


def score_alpha(score: float) -> float:
    """Opacity of a detection: faint at low scores, never invisible."""
    return 0.35 + 0.65 * min(max(score, 0.0), 1.0)
