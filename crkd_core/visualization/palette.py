"""Colours, glyphs and line styles that every picture shares, chosen for a dark background.

The ten class colours differ from each other, from white and from the background for viewers of every kind of colour
vision. A glyph is the second cue, in the bird's-eye view also the only one at which a pedestrian of three pixels has a
size; in images the second cue is the name on a tag.
"""

from dataclasses import dataclass
from typing import Literal

from crkd_core.config.classes import DETECTION_CLASSES

BACKGROUND = "#0d1117"
PANEL = "#11161f"
RULES = "#2c3544"
TEXT = "#e6edf3"
FAINT_TEXT = "#9aa7b8"
GROUND_TRUTH = "#ffffff"
LIDAR = "#a9b1bd"
RADAR = "#c3ccd8"
EGO = "#e6edf3"
MARK = "#ff2e63"
CASING = "#05070a"
"""Under every line in an image, so that it shows on a bright sky and at night alike."""


@dataclass(frozen=True)
class ClassStyle:
    """How the objects of a class look.

    Attributes:
        colour: of outlines, fillings and tags.
        glyph: matplotlib marker at the centre of a box in the bird's-eye view; None for the plain box of a car.
        tag: its name where there is little room.
    """

    colour: str
    glyph: str | None
    tag: str


CLASS_STYLES: dict[str, ClassStyle] = {
    "car": ClassStyle("#ad9eff", None, "car"),
    "truck": ClassStyle("#4d8261", "$T$", "truck"),
    "construction_vehicle": ClassStyle("#ebf500", "$C$", "constr."),
    "bus": ClassStyle("#924cfe", "$B$", "bus"),
    "trailer": ClassStyle("#97688d", "$L$", "trailer"),
    "barrier": ClassStyle("#e2a15c", "X", "barrier"),
    "motorcycle": ClassStyle("#67bbaf", "D", "moto"),
    "bicycle": ClassStyle("#ffd2ff", "s", "bike"),
    "pedestrian": ClassStyle("#26ffb9", "o", "ped"),
    "traffic_cone": ClassStyle("#d14a03", "^", "cone"),
}
CLASS_COLOURS: dict[str, str] = {name: CLASS_STYLES[name].colour for name in DETECTION_CLASSES}


@dataclass(frozen=True)
class BoxStyle:
    """How a box is drawn, in images and in the bird's-eye view.

    Attributes:
        dashes: pattern of the outline as matplotlib takes it.
        width: of the outline, points.
        fill_alpha: opacity of the filling; glyphs of unfilled boxes are hollow.
        colour: None for that of the class.
    """

    dashes: Literal["solid"] | tuple[float, tuple[float, ...]]
    width: float
    fill_alpha: float
    colour: str | None = None

    def colour_of(self, label: int) -> str:
        """Of a box of a class, by its index."""
        return self.colour or class_style(label).colour


TRUE_POSITIVE = BoxStyle("solid", 1.6, 0.25)
FALSE_POSITIVE = BoxStyle((0.0, (3.2, 1.8)), 1.3, 0.0)
MISSED = BoxStyle((0.0, (1.0, 1.3)), 1.3, 0.0, GROUND_TRUTH)


def class_style(label: int) -> ClassStyle:
    """Of a detection class by its index."""
    return CLASS_STYLES[DETECTION_CLASSES[label]]


def score_alpha(score: float) -> float:
    """Opacity of a detection: faint at low scores, never invisible."""
    return 0.55 + 0.45 * min(max(score, 0.0), 1.0)
