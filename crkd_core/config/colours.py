"""Colours that classes are given where a description names none, for a dark background.

They differ from each other, from white and from the background for viewers of every kind of colour vision.
"""

import colorsys
from collections.abc import Iterable

_DISTINGUISHABLE = (
    "#ad9eff", "#4d8261", "#ebf500", "#924cfe", "#97688d", "#e2a15c", "#67bbaf", "#ffd2ff", "#26ffb9", "#d14a03",
    "#aa22aa", "#bbff77", "#ccbb11", "#666633",
)  # fmt: skip
_GOLDEN_RATIO = 0.618


def distinguishable_colours(count: int, taken: Iterable[str]) -> list[str]:
    """At least so many colours, '#rrggbb', without those that are taken; beyond a dozen their hues alone differ."""
    taken = {colour.lower() for colour in taken}
    further = (_colour_of_hue(index * _GOLDEN_RATIO % 1) for index in range(count + len(taken)))
    return [colour for colour in dict.fromkeys((*_DISTINGUISHABLE, *further)) if colour not in taken]


def _colour_of_hue(hue: float) -> str:
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.6, 0.95)
    return f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"
