"""Shapes of the ego truck: what its own sensors see of its cab and its semi-trailer."""

from crkd_core.datasets.simulated.shapes.solids import Colour, Shape, ShapeBuilder
from crkd_core.datasets.simulated.shapes.vehicles import DARK, GLASS, TAIL, Size

_CAB_PAINT: Colour = (196, 200, 206)
_TARPAULIN: Colour = (214, 214, 208)
_STRIPE: Colour = (38, 86, 152)


def cab(size: Size) -> Shape:
    """A cab over its front wheels, in the box (width, length, height)."""
    w, length, h = size
    half = length / 2
    b = ShapeBuilder()
    low = 0.28 * h
    body = b.box((-half, -w / 2, low), (half, w / 2, h), _CAB_PAINT, top_x=(0.0, 0.06 * length), reflectivity=0.35)
    b.patch(body, "front", (0.06, 0.42, 0.94, 0.8), GLASS)
    for face, begin, end in (("left", 0.1, 0.5), ("right", 0.5, 0.9)):
        b.patch(body, face, (begin, 0.4, end, 0.76), GLASS)
        b.patch(body, face, (0.0, 0.0, 1.0, 0.12), DARK)
    b.patch(body, "back", (0.04, 0.04, 0.96, 0.96), (150, 154, 160))
    radius = low / 2
    for side in (1, -1):
        y = sorted((side * w / 2, side * (w / 2 - 0.3)))
        b.wheel(0.1 * length, (y[0], y[1]), radius)
    b.box((-half, -0.3 * w, 0.5 * low), (half, 0.3 * w, low), DARK, reflectivity=0.12)
    return b.build()


def semi_trailer(size: Size) -> Shape:
    """A curtain-sided trailer with three axles at its rear and nothing below its front, where the tractor is."""
    w, length, h = size
    half, deck = length / 2, 0.3 * h
    b = ShapeBuilder()
    box = b.box((-half, -w / 2, deck), (half, w / 2, h), _TARPAULIN, reflectivity=0.4)
    ribs = 9
    for face in ("left", "right"):
        for k in range(ribs):
            b.patch(box, face, ((k + 0.96) / ribs, 0.0, (k + 1.0) / ribs, 1.0), (176, 176, 172))
        b.patch(box, face, (0.08, 0.42, 0.92, 0.6), _STRIPE)
        b.patch(box, face, (0.0, 0.0, 1.0, 0.04), (220, 190, 60))
    for begin in (0.03, 0.51):
        b.patch(box, "back", (begin, 0.04, begin + 0.46, 0.96), (188, 190, 192))
    for begin in (0.02, 0.82):
        b.patch(box, "back", (begin, 0.0, begin + 0.16, 0.04), TAIL, glow=0.7)
    radius = 0.42 * deck
    for x in (-0.22 * length, -0.31 * length, -0.40 * length):
        for side in (1, -1):
            y = sorted((side * w / 2, side * (w / 2 - 0.35)))
            b.wheel(x, (y[0], y[1]), radius)
    for side in (1, -1):
        y = sorted((side * 0.36 * w, side * 0.42 * w))
        b.box((0.12 * length, y[0], 0.3), (0.13 * length, y[1], deck), DARK)
    return b.build()
