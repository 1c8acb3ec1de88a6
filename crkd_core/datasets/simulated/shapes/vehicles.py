"""Shapes of cars, trucks, buses, trailers and construction vehicles.

Every builder fills the box (width, length, height) in metres given to it; paints and details come from the generator.
"""

import numpy as np

from crkd_core.datasets.simulated.shapes.solids import Colour, Number, Shape, ShapeBuilder

Size = tuple[float, float, float]

GLASS: Colour = (38, 46, 56)
DARK: Colour = (40, 40, 44)
LAMP: Colour = (255, 246, 214)
TAIL: Colour = (196, 22, 22)
_CAR_PAINTS: tuple[Colour, ...] = (
    (222, 224, 226),
    (168, 172, 178),
    (44, 46, 52),
    (90, 94, 102),
    (150, 28, 30),
    (30, 62, 122),
    (36, 92, 74),
    (196, 160, 60),
    (118, 86, 62),
    (70, 118, 168),
)
_TRUCK_PAINTS: tuple[Colour, ...] = (
    (214, 216, 220),
    (178, 44, 38),
    (38, 86, 152),
    (224, 176, 42),
    (58, 116, 70),
)
_BUS_PAINTS: tuple[Colour, ...] = (
    (196, 40, 44),
    (38, 122, 84),
    (232, 168, 36),
    (52, 92, 168),
    (226, 226, 220),
)


def pick(rng: np.random.Generator, paints: tuple[Colour, ...], spread: Number = 10.0) -> Colour:
    """One of some paints, slightly changed."""
    r, g, b = np.clip(np.array(paints[int(rng.integers(len(paints)))]) + rng.normal(0, spread, 3), 8, 250)
    return (float(r), float(g), float(b))


def shade(colour: Colour, factor: float) -> Colour:
    """A darker or lighter version of a paint."""
    r, g, b = np.clip(np.array(colour) * factor, 0, 255)
    return (float(r), float(g), float(b))


def _lights(
    b: ShapeBuilder, part: int, head: bool = True, tail: bool = True, low: float = 0.5, high: float = 0.78
) -> None:
    for left in (0.04, 0.78):
        if head:
            b.patch(part, "front", (left, low, left + 0.18, high), LAMP, glow=0.9)
        if tail:
            b.patch(part, "back", (left, low, left + 0.18, high), TAIL, glow=0.7)


def _wheels(
    b: ShapeBuilder,
    size: Size,
    radius: float,
    xs: tuple[float, ...],
    width: float = 0.22,
    bottom: float = 0.0,
) -> None:
    for x in xs:
        for side in (1, -1):
            low, high = sorted((side * size[0] / 2, side * (size[0] / 2 - width)))
            b.wheel(x, (low, high), radius, tyre_bottom=bottom)


def car(size: Size, rng: np.random.Generator, livery: str = "private") -> Shape:
    """A saloon, an estate or a van; `livery` "police" adds stripes and a light bar."""
    w, length, h = size
    paint = pick(rng, _CAR_PAINTS) if livery == "private" else (232.0, 234.0, 238.0)
    style = rng.choice(["saloon", "hatchback", "van"], p=[0.5, 0.35, 0.15])
    b = ShapeBuilder()
    waist = h * (0.54 if style != "van" else 0.5)
    radius = 0.19 * h + 0.01
    bottom = 0.13 * h
    half, side = length / 2, w / 2 - 0.03
    bonnet = {"saloon": 0.27, "hatchback": 0.25, "van": 0.14}[style] * length
    boot = {"saloon": 0.17, "hatchback": 0.03, "van": 0.01}[style] * length
    roof = h if livery == "private" else h - 0.12
    body = b.box(
        (-half, -side, bottom), (half, side, waist), paint, top_x=(0.03 * length, 0.05 * length), top_y=0.03 * w
    )
    cabin = b.box(
        (-half + boot, -side + 0.05, waist),
        (half - bonnet, side - 0.05, roof),
        paint,
        top_x=(
            0.05 * length if style == "hatchback" else (0.10 * length if style == "saloon" else 0.02 * length),
            0.12 * length,
        ),
        top_y=0.09 * w,
        reflectivity=0.22,
    )
    b.patch(cabin, "front", (0.05, 0.06, 0.95, 0.92), GLASS)
    b.patch(cabin, "back", (0.08, 0.12, 0.92, 0.88), GLASS)
    for face in ("left", "right"):
        for begin, end in ((0.07, 0.47), (0.52, 0.93)):
            b.patch(cabin, face, (begin, 0.1, end, 0.88), GLASS)
        b.patch(body, face, (0.02, 0.02, 0.98, 0.2), shade(paint, 0.45))
        b.patch(body, face, (0.485, 0.22, 0.495, 0.98), shade(paint, 0.55))
    b.patch(body, "front", (0.25, 0.25, 0.75, 0.6), DARK)
    b.patch(body, "front", (0.0, 0.0, 1.0, 0.2), DARK)
    b.patch(body, "back", (0.36, 0.38, 0.64, 0.55), (230, 228, 200))
    b.patch(body, "back", (0.0, 0.0, 1.0, 0.22), DARK)
    _lights(b, body)
    if livery == "police":
        for face in ("left", "right"):
            b.patch(body, face, (0.05, 0.35, 0.95, 0.6), (26, 60, 170))
        bar = b.box((-0.15, -w * 0.3, roof), (0.15, w * 0.3, h), (40, 40, 46))
        b.patch(bar, "front", (0.0, 0.0, 0.5, 1.0), (40, 70, 250), glow=1.0)
        b.patch(bar, "back", (0.5, 0.0, 1.0, 1.0), (250, 40, 40), glow=1.0)
    _wheels(b, size, radius, (0.31 * length, -0.30 * length), bottom=bottom)
    return b.build()


def _cab(b: ShapeBuilder, x0: float, x1: float, w: float, z0: float, z1: float, paint: Colour) -> None:
    cab = b.box((x0, -w / 2, z0), (x1, w / 2, z1), paint, top_x=(0.0, 0.12 * (x1 - x0)), top_y=0.03)
    b.patch(cab, "front", (0.06, 0.5, 0.94, 0.9), GLASS)
    b.patch(cab, "front", (0.2, 0.14, 0.8, 0.4), DARK)
    _lights(b, cab, tail=False, low=0.08, high=0.2)
    for face, begin, end in (("left", 0.12, 0.62), ("right", 0.38, 0.88)):
        b.patch(cab, face, (begin, 0.5, end, 0.88), GLASS)


def truck(size: Size, rng: np.random.Generator, style: str | None = None) -> Shape:
    """A box lorry, a tipper, a pickup, a tractor unit or an ambulance."""
    w, length, h = size
    b = ShapeBuilder()
    style = style or str(rng.choice(["box", "tipper", "pickup"], p=[0.55, 0.3, 0.15]))
    paint = pick(rng, _TRUCK_PAINTS) if style != "ambulance" else (240.0, 240.0, 236.0)
    radius = min(0.5, 0.18 * h)
    deck = 2 * radius
    cab_length = 0.28 * length if style != "tractor" else 0.5 * length
    half = length / 2
    frame = b.box((-half, -0.32 * w, 0.45 * deck), (half - 0.1, 0.32 * w, deck), DARK, reflectivity=0.12)
    _lights(b, frame, head=False, low=0.3, high=0.9)
    _cab(b, half - cab_length, half, w, deck, h * (0.78 if style in ("box", "ambulance") else 1.0), paint)
    bed_end = half - cab_length - 0.12
    if style in ("box", "ambulance"):
        cargo = (238.0, 238.0, 234.0) if style == "ambulance" or rng.random() < 0.5 else pick(rng, _TRUCK_PAINTS)
        box = b.box((-half, -w / 2, deck), (bed_end, w / 2, h), cargo, reflectivity=0.45)
        stripe = (200.0, 30.0, 30.0) if style == "ambulance" else shade(paint, 0.9)
        for face in ("left", "right"):
            b.patch(box, face, (0.06, 0.32, 0.94, 0.5), stripe)
        b.patch(box, "back", (0.04, 0.05, 0.49, 0.95), shade(cargo, 0.85))
        b.patch(box, "back", (0.51, 0.05, 0.96, 0.95), shade(cargo, 0.85))
    elif style == "tipper":
        bed = b.box((-half, -w / 2, deck), (bed_end, w / 2, 0.72 * h), shade(paint, 0.75), top_x=(-0.0, 0.0))
        for face in ("left", "right"):
            for k in range(4):
                b.patch(bed, face, (0.1 + 0.23 * k, 0.05, 0.14 + 0.23 * k, 0.95), shade(paint, 0.45))
        b.patch(bed, "top", (0.05, 0.05, 0.95, 0.95), (112, 92, 70))
    elif style == "pickup":
        bed = b.box((-half, -w / 2, deck), (bed_end, w / 2, 0.55 * h), paint)
        b.patch(bed, "top", (0.06, 0.08, 0.96, 0.92), DARK)
        _lights(b, bed, head=False)
    wheels = (0.34 * length, -0.3 * length) if style != "tractor" else (0.33 * length, -0.22 * length, -0.38 * length)
    _wheels(b, size, radius, wheels, 0.3)
    return b.build()


def bus(size: Size, rng: np.random.Generator, section: str = "whole") -> Shape:
    """A bus, or the front or rear section of an articulated one: one tall body with a band of windows and doors."""
    w, length, h = size
    paint = pick(rng, _BUS_PAINTS, 6)
    b = ShapeBuilder()
    half = length / 2
    side = w / 2 - 0.03
    body = b.box((-half, -side, 0.1 * h), (half, side, 0.95 * h), paint, top_y=0.05, reflectivity=0.35)
    roof = b.box((-half + 0.5, -w / 2 + 0.25, 0.95 * h), (half - 0.9, w / 2 - 0.25, h), (224, 224, 222))
    b.patch(roof, "top", (0.2, 0.2, 0.4, 0.8), (170, 170, 172))
    windows = max(4, round(length / 1.5))
    for face in ("left", "right"):
        b.patch(body, face, (0.0, 0.0, 1.0, 0.12), DARK)
        b.patch(body, face, (0.0, 0.36, 1.0, 0.42), (236, 236, 230))
        for k in range(windows):
            b.patch(body, face, ((k + 0.1) / windows, 0.48, (k + 0.92) / windows, 0.86), GLASS)
    for begin, end in ((0.86, 0.94), (0.46, 0.55)):
        b.patch(body, "right", (begin, 0.06, end, 0.86), (58, 66, 74))
    if section != "rear":
        b.patch(body, "front", (0.04, 0.38, 0.96, 0.84), GLASS)
        b.patch(body, "front", (0.2, 0.87, 0.8, 0.97), (255, 176, 40), glow=1.0)
        _lights(b, body, tail=False, low=0.08, high=0.18)
    if section != "front":
        b.patch(body, "back", (0.14, 0.52, 0.86, 0.82), GLASS)
        b.patch(body, "back", (0.1, 0.14, 0.9, 0.4), shade(paint, 0.6))
        _lights(b, body, head=False, low=0.08, high=0.22)
    _wheels(b, size, 0.14 * h, (0.32 * length, -0.28 * length), 0.3, bottom=0.1 * h)
    return b.build()


def trailer(size: Size, rng: np.random.Generator) -> Shape:
    """A box trailer, a tanker or a flatbed with a container; no cab, wheels at the rear and a kingpin at the front."""
    w, length, h = size
    b = ShapeBuilder()
    half, deck = length / 2, 0.3 * h
    frame = b.box((-half, -0.3 * w, 0.22 * h), (half, 0.3 * w, deck), DARK, reflectivity=0.12)
    _lights(b, frame, head=False, low=0.1, high=0.9)
    style = rng.choice(["box", "container", "tank"])
    if style == "tank":
        steel: Colour = (186, 190, 196)
        lower = b.box((-half, -w / 2, 0.58 * h), (half, w / 2, h), steel, top_y=0.24 * w, reflectivity=0.6)
        b.box((-half, -w / 2 + 0.15, deck), (half, w / 2 - 0.15, 0.58 * h), shade(steel, 0.8), top_y=-0.15)
        for face in ("left", "right"):
            b.patch(lower, face, (0.05, 0.1, 0.95, 0.35), pick(rng, _TRUCK_PAINTS))
    else:
        paints = ((206.0, 208.0, 210.0), (150.0, 62.0, 44.0), (46.0, 88.0, 132.0), (62.0, 104.0, 66.0))
        paint = pick(rng, paints)
        box = b.box((-half, -w / 2, deck), (half, w / 2, h), paint, reflectivity=0.4)
        ribs = 14 if style == "container" else 5
        for face in ("left", "right"):
            for k in range(ribs):
                b.patch(box, face, ((k + 0.25) / ribs, 0.04, (k + 0.5) / ribs, 0.96), shade(paint, 0.8))
            b.patch(box, face, (0.0, 0.0, 1.0, 0.05), (220, 190, 60))
        for begin in (0.05, 0.52):
            b.patch(box, "back", (begin, 0.05, begin + 0.43, 0.95), shade(paint, 0.86))
        for begin in (0.2, 0.36, 0.62, 0.78):
            b.patch(box, "back", (begin, 0.05, begin + 0.03, 0.95), (210, 210, 210))
    _wheels(b, size, 0.12 * h, (-0.24 * length, -0.33 * length, -0.42 * length), 0.35)
    b.box((0.3 * length, -0.2 * w, 0.0), (0.33 * length, 0.2 * w, 0.22 * h), DARK)
    return b.build()


def construction_vehicle(size: Size, rng: np.random.Generator) -> Shape:
    """An excavator on tracks or a wheel loader, in yellow or orange."""
    w, length, h = size
    b = ShapeBuilder()
    half = length / 2
    paint = pick(rng, ((238.0, 178.0, 24.0), (232.0, 120.0, 26.0), (222.0, 190.0, 48.0)), 6)
    if rng.random() < 0.55:
        for side in (1, -1):
            inner, outer = sorted((side * 0.28 * w, side * w / 2))
            track = b.box((-half, inner, 0.0), (0.2 * length, outer, 0.26 * h), (46, 44, 42), top_x=(0.3, 0.3))
            for face in ("left", "right"):
                b.patch(track, face, (0.1, 0.25, 0.9, 0.75), (92, 88, 82))
        house = b.box((-half, -0.46 * w, 0.3 * h), (0.12 * length, 0.46 * w, 0.62 * h), paint)
        b.patch(house, "back", (0.15, 0.2, 0.85, 0.8), DARK)
        for face in ("left", "right"):
            b.patch(house, face, (0.3, 0.3, 0.9, 0.6), shade(paint, 0.7))
        cab = b.box((-0.16 * length, 0.0, 0.62 * h), (0.12 * length, 0.46 * w, 0.98 * h), paint, top_x=(0.1, 0.15))
        for face in ("front", "left", "back", "right"):
            b.patch(cab, face, (0.12, 0.15, 0.88, 0.88), GLASS)
        b.box((0.12 * length, -0.2 * w, 0.45 * h), (0.36 * length, -0.02 * w, h), paint, top_x=(0.1 * length, -0.0))
        b.box((0.36 * length, -0.18 * w, 0.32 * h), (0.44 * length, -0.04 * w, 0.96 * h), shade(paint, 0.9))
        b.box((0.37 * length, -0.36 * w, 0.03 * h), (half, 0.14 * w, 0.32 * h), (84, 80, 76), top_x=(0.0, 0.2))
    else:
        body = b.box((-half, -0.36 * w, 0.22 * h), (0.05 * length, 0.36 * w, 0.58 * h), paint, top_x=(0.2, 0.0))
        b.patch(body, "back", (0.15, 0.2, 0.85, 0.8), DARK)
        cab = b.box((-0.2 * length, -0.3 * w, 0.58 * h), (0.08 * length, 0.3 * w, h), paint, top_x=(0.08, 0.08))
        for face in ("front", "left", "back", "right"):
            b.patch(cab, face, (0.1, 0.12, 0.9, 0.86), GLASS)
        b.box((0.05 * length, -0.24 * w, 0.25 * h), (0.32 * length, 0.24 * w, 0.46 * h), shade(paint, 0.85))
        b.box((0.32 * length, -w / 2, 0.06 * h), (half, w / 2, 0.42 * h), (96, 92, 86), top_x=(0.15, 0.1))
        _wheels(b, size, 0.22 * h, (0.16 * length, -0.3 * length), 0.42)
    return b.build()


def forklift(size: Size, rng: np.random.Generator) -> Shape:
    """A counterbalanced truck: body, guard over the driver, mast and fork at the front."""
    w, length, h = size
    b = ShapeBuilder()
    half = length / 2
    paint = pick(rng, ((236.0, 120.0, 24.0), (206.0, 40.0, 36.0), (240.0, 196.0, 40.0)), 6)
    body = b.box((-half, -w / 2, 0.12 * h), (0.12 * length, w / 2, 0.5 * h), paint, top_x=(0.15, 0.0))
    b.patch(body, "back", (0.1, 0.2, 0.9, 0.7), DARK)
    guard = b.box((-0.3 * length, -0.42 * w, 0.5 * h), (0.08 * length, 0.42 * w, 0.94 * h), DARK, reflectivity=0.2)
    for face in ("front", "left", "back", "right"):
        b.patch(guard, face, (0.1, 0.08, 0.9, 0.9), GLASS)
    b.box((0.13 * length, -0.36 * w, 0.06 * h), (0.2 * length, 0.36 * w, h), (72, 72, 76), reflectivity=0.25)
    for side in (1, -1):
        low, high = sorted((side * 0.14 * w, side * 0.26 * w))
        b.box((0.2 * length, low, 0.04 * h), (half, high, 0.08 * h), (96, 96, 98), reflectivity=0.3)
    if rng.random() < 0.5:
        load = pick(rng, ((168.0, 132.0, 84.0), (196.0, 196.0, 200.0)), 8)
        b.box((0.22 * length, -0.46 * w, 0.09 * h), (half, 0.46 * w, 0.55 * h), load)
    return b.build()
