"""Shapes of people, two-wheelers, road works and other small things; all fill the (width, length, height) given."""

import numpy as np

from crkd_core.datasets.simulated.shapes.solids import Colour, Shape, ShapeBuilder
from crkd_core.datasets.simulated.shapes.vehicles import DARK, LAMP, Size, pick, shade

_SKIN: tuple[Colour, ...] = ((232, 190, 160), (204, 150, 116), (150, 102, 74), (96, 66, 50))
_HAIR: tuple[Colour, ...] = ((34, 28, 24), (84, 58, 36), (150, 120, 76), (120, 120, 122))
_TOPS: tuple[Colour, ...] = (
    (176, 40, 46),
    (40, 70, 140),
    (226, 226, 222),
    (46, 104, 70),
    (228, 186, 64),
    (60, 60, 66),
    (146, 92, 150),
    (120, 168, 196),
)
_TROUSERS: tuple[Colour, ...] = ((38, 44, 70), (48, 48, 50), (112, 98, 78), (72, 84, 104))
_VEST: Colour = (238, 122, 22)
_SIGNAL: Colour = (226, 240, 60)


def pedestrian(size: Size, rng: np.random.Generator, dress: str = "plain", walking: bool = True) -> Shape:
    """A person: two legs, torso, two arms, head; `dress` is plain, worker or officer."""
    w, length, h = size
    b = ShapeBuilder()
    top = pick(rng, _TOPS) if dress == "plain" else (_VEST if dress == "worker" else (34.0, 42.0, 84.0))
    trousers = pick(rng, _TROUSERS, 6)
    stride = min(0.3, 0.42 * length) if walking else 0.06
    for side, step in ((1, stride), (-1, -stride)):
        foot = step - np.sign(step) * 0.14 if walking else 0.0
        inner, outer = sorted((side * 0.02, side * 0.2))
        low_x, high_x = min(foot - 0.1, step - 0.1), max(foot + 0.1, step + 0.1)
        b.box(
            (max(low_x, -length / 2), inner, 0.0),
            (min(high_x, length / 2), outer, 0.47 * h),
            trousers,
            top_x=((0.02, 0.16) if step > 0 and walking else ((0.16, 0.02) if walking else (0.0, 0.0))),
            reflectivity=0.2,
        )
    torso = b.box((-0.14, -0.23, 0.47 * h), (0.14, 0.23, 0.82 * h), top, top_x=(0.02, 0.02), reflectivity=0.3)
    if dress == "worker":
        for face in ("front", "back", "left", "right"):
            b.patch(torso, face, (0.0, 0.3, 1.0, 0.45), _SIGNAL, glow=0.2)
    elif rng.random() < 0.35:
        b.box((-0.3, -0.17, 0.55 * h), (-0.14, 0.17, 0.8 * h), pick(rng, _TOPS))
    for side, swing in ((1, -0.1), (-1, 0.1)):
        inner, outer = sorted((side * 0.23, side * min(0.33, w / 2)))
        x = swing if walking else 0.0
        b.box((x - 0.07, inner, 0.44 * h), (x + 0.07, outer, 0.8 * h), shade(top, 0.85))
    skin = pick(rng, _SKIN, 5)
    head = b.box((-0.1, -0.09, 0.84 * h), (0.11, 0.09, h), skin, top_x=(0.03, 0.03), top_y=0.02)
    hair = {"plain": pick(rng, _HAIR, 5), "worker": (244.0, 214.0, 40.0), "officer": (24.0, 30.0, 60.0)}[dress]
    b.patch(head, "top", (0.0, 0.0, 1.0, 1.0), hair)
    b.patch(head, "back", (0.0, 0.15, 1.0, 1.0), hair)
    for face in ("left", "right"):
        b.patch(head, face, (0.0, 0.5, 1.0, 1.0), hair)
    return b.build()


def sitting_person(size: Size, rng: np.random.Generator, wheelchair: bool = False) -> Shape:
    """A person sitting on a bench or in a wheelchair, facing forward."""
    w, length, h = size
    b = ShapeBuilder()
    trousers, top = pick(rng, _TROUSERS, 6), pick(rng, _TOPS)
    seat = 0.36 * h
    if wheelchair:
        for side in (1, -1):
            low, high = sorted((side * (w / 2 - 0.08), side * (w / 2 - 0.02)))
            b.wheel(-0.12 * length, (low, high), min(0.3, 0.24 * h))
        b.box((-0.3 * length, -0.3 * w, seat - 0.1), (0.2 * length, 0.3 * w, seat), DARK)
    else:
        b.box((-length / 2, -w / 2, 0.0), (0.1 * length, w / 2, seat), (110, 84, 58))
    b.box((0.1 * length, -0.2, 0.0), (0.1 * length + 0.18, 0.2, seat), trousers)
    b.box((-0.3 * length, -0.2, seat), (0.1 * length + 0.18, 0.2, seat + 0.14 * h), trousers)
    b.box((-0.32 * length, -0.22, seat + 0.14 * h), (-0.32 * length + 0.24, 0.22, 0.8 * h), top)
    b.box((-0.3 * length, -0.1, 0.82 * h), (-0.3 * length + 0.2, 0.1, h), pick(rng, _SKIN, 5), top_y=0.02)
    return b.build()


def _rider(
    b: ShapeBuilder,
    x: float,
    seat: float,
    h: float,
    half_width: float,
    rng: np.random.Generator,
    helmet: Colour,
) -> None:
    top, trousers = pick(rng, _TOPS), pick(rng, _TROUSERS, 6)
    for side in (1, -1):
        inner, outer = sorted((side * 0.08, side * min(0.24, half_width)))
        b.box((x - 0.05, inner, 0.28 * h), (x + 0.3, outer, seat), trousers, top_x=(0.0, 0.12))
        b.box((x + 0.14, inner, 0.62 * h), (x + 0.48, outer, 0.72 * h), shade(top, 0.85))
    b.box(
        (x - 0.18, -min(0.22, half_width), seat),
        (x + 0.14, min(0.22, half_width), 0.84 * h),
        top,
        top_x=(0.1, -0.04),
    )
    b.box((x, -0.1, 0.85 * h), (x + 0.24, 0.1, h), helmet, top_x=(0.05, 0.05), top_y=0.03)


def bicycle(size: Size, rng: np.random.Generator, rider: bool) -> Shape:
    """Two thin wheels, a frame, a handlebar, and a rider if there is one."""
    w, length, h = size
    b = ShapeBuilder()
    radius = min(0.34, 0.2 * length)
    paint = pick(rng, ((190, 36, 40), (36, 110, 170), (30, 30, 34), (70, 160, 80), (230, 200, 60)))
    for x in (length / 2 - radius, -length / 2 + radius):
        b.wheel(x, (-0.025, 0.025), radius, hub=(150, 152, 150))
    saddle = 0.88 if not rider else 0.54 * h
    b.box((-0.16 * length, -0.025, 0.5), (0.24 * length, 0.025, 0.6), paint)
    b.box((-0.18 * length, -0.025, 0.28), (-0.12 * length, 0.025, saddle - 0.06), paint)
    b.box((-0.24 * length, -0.07, saddle - 0.06), (-0.08 * length, 0.07, saddle), DARK)
    bar = h if not rider else 0.62 * h
    b.box((0.24 * length, -0.03, 0.34), (0.28 * length, 0.03, bar - 0.05), paint)
    b.box((0.22 * length, -w / 2, bar - 0.05), (0.27 * length, w / 2, bar), DARK)
    if rider:
        _rider(b, -0.16 * length, saddle, h, w / 2, rng, pick(rng, _TOPS))
    return b.build()


def motorcycle(size: Size, rng: np.random.Generator, rider: bool) -> Shape:
    """Two fat wheels, tank, engine, seat, windscreen, lamps, and a rider if there is one."""
    w, length, h = size
    b = ShapeBuilder()
    radius = min(0.32, 0.16 * length)
    paint = pick(rng, ((176, 30, 34), (30, 60, 130), (32, 32, 36), (214, 214, 216), (40, 120, 70)))
    for x in (length / 2 - radius, -length / 2 + radius):
        b.wheel(x, (-0.08, 0.08), radius, hub=(120, 122, 126))
    b.box((-0.2 * length, -0.2, 0.25), (0.18 * length, 0.2, 0.62), (86, 86, 90), reflectivity=0.4)
    b.box((-0.02 * length, -0.16, 0.62), (0.24 * length, 0.16, 0.9), paint, top_x=(0.05, 0.1), top_y=0.04)
    tail = b.box((-0.46 * length, -0.14, 0.66), (-0.02 * length, 0.14, 0.82), DARK)
    b.patch(tail, "back", (0.1, 0.1, 0.9, 0.9), (230, 30, 30), glow=0.8)
    bar = min(h, 1.12) if rider else h
    front = b.box((0.24 * length, -0.16, 0.62), (0.36 * length, 0.16, bar - 0.08), paint, top_x=(0.0, 0.1))
    b.patch(front, "front", (0.15, 0.1, 0.85, 0.6), LAMP, glow=0.9)
    b.box((0.2 * length, -w / 2, bar - 0.08), (0.25 * length, w / 2, bar), DARK)
    if rider:
        _rider(b, -0.2 * length, 0.82, h, w / 2, rng, pick(rng, ((240, 240, 240), (30, 30, 34), (200, 40, 40))))
    return b.build()


def traffic_cone(size: Size, rng: np.random.Generator) -> Shape:
    """An orange cone with white bands on a dark foot."""
    w, length, h = size
    b = ShapeBuilder()
    b.box((-length / 2, -w / 2, 0.0), (length / 2, w / 2, 0.06 * h), (50, 44, 44))
    radius = 0.4 * min(w, length)
    orange: Colour = pick(rng, ((242, 96, 24), (232, 70, 30)), 5)
    levels = (
        (0.06, 0.34, orange),
        (0.34, 0.52, (240.0, 240.0, 236.0)),
        (0.52, 0.72, orange),
        (0.72, 0.82, (240.0, 240.0, 236.0)),
        (0.82, 1.0, orange),
    )
    for low, high, colour in levels:
        r0, r1 = radius * (1.05 - low), radius * (1.05 - high)
        b.box(
            (-r0, -r0, low * h),
            (r0, r0, high * h),
            colour,
            top_x=(r0 - r1, r0 - r1),
            top_y=r0 - r1,
            reflectivity=0.5,
        )
    return b.build()


def barrier(size: Size, rng: np.random.Generator, style: str) -> Shape:
    """A concrete wall piece, or a red-and-white water-filled one; long across (width), thin along its heading."""
    w, length, h = size
    b = ShapeBuilder()
    if style == "concrete":
        grey: Colour = pick(rng, ((176, 174, 168), (160, 158, 154)), 5)
        b.box((-length / 2, -w / 2, 0.0), (length / 2, w / 2, 0.35 * h), grey, top_x=(0.28 * length, 0.28 * length))
        upper = b.box(
            (-0.22 * length, -w / 2, 0.35 * h), (0.22 * length, w / 2, h), grey, top_x=(0.05 * length, 0.05 * length)
        )
        for face in ("front", "back"):
            b.patch(upper, face, (0.06, 0.55, 0.3, 0.85), (240, 200, 40))
            b.patch(upper, face, (0.7, 0.55, 0.94, 0.85), (240, 200, 40))
        return b.build()
    red: Colour = (214, 46, 36)
    white: Colour = (236, 234, 230)
    flip = bool(rng.random() < 0.5)
    pieces = 4
    for k in range(pieces):
        low, high = -w / 2 + w * k / pieces, -w / 2 + w * (k + 1) / pieces
        colour = red if (k % 2 == 0) != flip else white
        b.box(
            (-length / 2, low, 0.0), (length / 2, high, h), colour, top_x=(0.3 * length, 0.3 * length), reflectivity=0.5
        )
    return b.build()


def stroller(size: Size, rng: np.random.Generator) -> Shape:
    """A pram: basket on four wheels with a hood and a push bar."""
    w, length, h = size
    b = ShapeBuilder()
    for x in (0.3 * length, -0.3 * length):
        for side in (1, -1):
            low, high = sorted((side * (w / 2 - 0.07), side * (w / 2 - 0.02)))
            b.wheel(x, (low, high), 0.12)
    cloth = pick(rng, _TOPS)
    b.box((-0.35 * length, -0.42 * w, 0.35 * h), (0.4 * length, 0.42 * w, 0.66 * h), cloth, top_x=(-0.02, -0.02))
    b.box(
        (0.05 * length, -0.42 * w, 0.66 * h), (0.42 * length, 0.42 * w, 0.95 * h), shade(cloth, 0.7), top_x=(0.06, 0.06)
    )
    b.box((-length / 2, -0.42 * w, 0.9 * h), (-0.44 * length, 0.42 * w, h), DARK)
    return b.build()


def animal(size: Size, rng: np.random.Generator) -> Shape:
    """A dog: four legs, trunk, head, tail."""
    w, length, h = size
    b = ShapeBuilder()
    fur = pick(rng, ((120, 84, 52), (40, 36, 34), (206, 186, 150)))
    for x in (0.22 * length, -0.36 * length):
        for side in (1, -1):
            low, high = sorted((side * 0.1 * w, side * 0.4 * w))
            b.box((x, low, 0.0), (x + 0.08, high, 0.5 * h), fur)
    b.box((-0.4 * length, -0.4 * w, 0.5 * h), (0.32 * length, 0.4 * w, 0.85 * h), fur)
    b.box((0.28 * length, -0.25 * w, 0.85 * h), (length / 2, 0.25 * w, h), shade(fur, 0.8))
    return b.build()


def crate(size: Size, rng: np.random.Generator, wheels: bool) -> Shape:
    """A bin on wheels (pushable) or a heap of rubbish (debris)."""
    w, length, h = size
    b = ShapeBuilder()
    if not wheels:
        b.box(
            (-length / 2, -w / 2, 0.0),
            (length / 2, w / 2, h),
            pick(rng, ((60, 52, 46), (120, 100, 70))),
            top_x=(0.2 * length, 0.1 * length),
            top_y=0.15 * w,
        )
        return b.build()
    paint = pick(rng, ((40, 96, 60), (50, 60, 120), (90, 90, 92)))
    b.box(
        (-0.42 * length, -0.42 * w, 0.05 * h),
        (0.42 * length, 0.42 * w, 0.88 * h),
        paint,
        top_x=(-0.08 * length, -0.08 * length),
        top_y=-0.08 * w,
    )
    b.box((-length / 2, -w / 2, 0.88 * h), (length / 2, w / 2, h), shade(paint, 0.7), top_x=(0.05, 0.05))
    return b.build()


def bicycle_rack(size: Size, rng: np.random.Generator) -> Shape:
    """A row of metal hoops across the width, with a few frames between."""
    w, length, h = size
    b = ShapeBuilder()
    steel: Colour = (168, 170, 174)
    count = max(3, int(w / 0.6))
    for k in range(count):
        y = -w / 2 + (k + 0.5) * w / count
        for x in (-length / 2 + 0.1, length / 2 - 0.1):
            b.box((x - 0.04, y - 0.03, 0.0), (x + 0.04, y + 0.03, h - 0.06), steel, reflectivity=0.5)
        b.box((-length / 2 + 0.06, y - 0.03, h - 0.06), (length / 2 - 0.06, y + 0.03, h), steel)
        if rng.random() < 0.6:
            b.box((-length / 2, y + 0.08, 0.2), (length / 2, y + 0.12, 0.75 * h), pick(rng, _TOPS))
    return b.build()
