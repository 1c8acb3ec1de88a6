"""Shapes of traffic signs: plates on posts and gantries, and signs that are put up for a while."""

import numpy as np

from crkd_core.datasets.simulated.shapes.solids import Colour, Number, Shape, ShapeBuilder
from crkd_core.datasets.simulated.shapes.vehicles import DARK, Size, pick

STEEL: Colour = (120, 124, 128)
_WHITE: Colour = (240, 240, 240)
_FACES: tuple[Colour, ...] = ((30, 80, 170), (200, 40, 40), (240, 210, 60))
_RETROREFLECTIVE = 0.95


def plate(size: Size, rng: np.random.Generator, bottom_m: Number) -> Shape:
    """A plate (width, thickness, height) that faces +x and hangs `bottom_m` above the ground."""
    w, thickness, h = size
    b = ShapeBuilder()
    colour = pick(rng, _FACES, 5) if w < 2 else (24.0, 74.0, 168.0)
    low, high = (-thickness / 2, -w / 2, bottom_m), (thickness / 2, w / 2, bottom_m + h)
    part = b.box(low, high, (150, 152, 156), reflectivity=_RETROREFLECTIVE)
    b.patch(part, "front", (0.03, 0.03, 0.97, 0.97), colour, glow=0.15)
    if w < 2:
        b.patch(part, "front", (0.3, 0.3, 0.7, 0.7), _WHITE, glow=0.15)
    else:
        for row in (0.24, 0.5, 0.74):
            b.patch(part, "front", (0.1, row, float(rng.uniform(0.5, 0.9)), row + 0.1), _WHITE, glow=0.15)
    return b.build()


def temporary(size: Size, rng: np.random.Generator) -> Shape:
    """A sign of road works on a stand, facing +x."""
    w, length, h = size
    b = ShapeBuilder()
    b.box((-length / 2, -0.35 * w, 0.0), (length / 2, 0.35 * w, 0.12), DARK, reflectivity=0.1)
    b.box((-0.03, -0.04, 0.12), (0.03, 0.04, 0.4 * h), STEEL, reflectivity=0.4)
    part = b.box((-0.03, -w / 2, 0.4 * h), (0.03, w / 2, h), (150, 152, 156), reflectivity=_RETROREFLECTIVE)
    b.patch(part, "front", (0.04, 0.04, 0.96, 0.96), (238.0, 196.0, 30.0), glow=0.15)
    b.patch(part, "front", (0.2, 0.2, 0.8, 0.7), pick(rng, ((200.0, 40.0, 40.0), (30.0, 30.0, 34.0)), 5), glow=0.15)
    return b.build()


def post(height: float) -> Shape:
    """The post of a plate."""
    b = ShapeBuilder()
    b.box((-0.04, -0.04, 0.0), (0.04, 0.04, height), STEEL, reflectivity=0.5)
    return b.build()


def gantry(span: float, height: float) -> Shape:
    """Two posts and a beam across a carriageway, `span` along y."""
    b = ShapeBuilder()
    for side in (1, -1):
        y = sorted((side * span / 2, side * (span / 2 - 0.35)))
        b.box((-0.2, y[0], 0.0), (0.2, y[1], height - 0.5), STEEL, reflectivity=0.4)
    b.box((-0.2, -span / 2, height - 0.5), (0.2, span / 2, height), STEEL, reflectivity=0.4)
    return b.build()
