"""The motorway: two carriageways of three lanes at speed, seen from a truck in the right or middle lane."""

import math

import numpy as np

from crkd_core.datasets.simulated.sensors.rig_description import RigDescription
from crkd_core.datasets.simulated.shapes.signs import gantry, post
from crkd_core.datasets.simulated.shapes.solids import Shape, ShapeBuilder
from crkd_core.datasets.simulated.world.catalog import CLUTTER_ECHOES
from crkd_core.datasets.simulated.world.ground import ASPHALT, MARKING, Ground, meadow
from crkd_core.datasets.simulated.world.motion import Motion, Path, SpeedProfile, cruising, standing
from crkd_core.datasets.simulated.world.population import Population
from crkd_core.datasets.simulated.world.script import Conditions, StraightDrive, Thing
from crkd_core.datasets.simulated.world.setting import Setting
from crkd_core.datasets.simulated.world.streams import Streams
from crkd_core.datasets.simulated.world.surroundings import tree, wall

LANES = (3.9, 7.65, 11.4)
"""Middles of the lanes of a carriageway, left to right, from the middle of the road."""
_EDGES = (2.0, 5.75, 9.55, 13.3)
SHOULDER, PAVED, RAIL, VERGE = 14.9, 16.4, 17.0, 17.8
_MEDIAN_RAIL = 0.8
_SPEEDS = ((31.0, 37.0), (25.0, 30.0), (21.5, 24.0))
_GAPS = ((55, 130), (45, 100), (30, 70))
_MARGIN_M = 190.0
_DECKS = (
    ("car", "car", "motorcycle", "car", "car", "police_car"),
    ("car", "truck", "car", "bus", "car", "motorcycle", "car"),
    ("lorry", "truck", "lorry", "car", "bus", "lorry", "bendy", "truck"),
)


def motorway(
    conditions: Conditions, duration_s: float, rig: RigDescription, density: float, streams: Streams
) -> Setting:
    """A scene on a motorway, with works on the hard shoulder in one of two."""
    rng = streams.scenario
    lane = int(rng.integers(1, 3))
    low, high = _SPEEDS[2]
    speed = float(rng.uniform(low, high))
    path = Path(0.0, -LANES[lane], 0.0, _lane_change(lane, rng) if rng.random() < 0.35 else ())
    ego = Motion(path, SpeedProfile((0.0, 6.0), (speed, speed * float(rng.uniform(0.93, 1.0)))))
    has_works = bool(rng.random() < 0.5)
    script = StraightDrive(ego, duration_s, _MARGIN_M)
    crowd = Population(script, rig, streams.agents, density)
    if has_works:
        _road_works(crowd)
    _beside_the_road(crowd, has_works)
    posts = _signs(crowd)
    for side in (-1.0, 1.0):
        _traffic(crowd, side)
    return Setting(
        description="on the motorway",
        area="highway",
        has_road_works=has_works,
        conditions=conditions,
        ego=ego,
        agents=tuple(crowd.things),
        clutter=(*posts, *_clutter(script.x_range, streams.clutter)),
        paint=lambda cell_m: _paint(script.x_range, cell_m),
        x_range=script.x_range,
        y_range=(-60.0, 60.0),
        sight_m=240.0,
        annotated_m=165.0,
    )


def _lane_change(lane: int, rng: np.random.Generator) -> tuple[tuple[float, float], ...]:
    """Two arcs that end one lane further; the truck leaves the right lane, or comes back to it."""
    length, width = 70.0, LANES[2] - LANES[1]
    curvature = (1.0 if lane == 2 else -1.0) * 4 * width / length**2
    return ((float(rng.uniform(5, 20)), 0.0), (length / 2, curvature), (length / 2, -curvature))


def _traffic(crowd: Population[StraightDrive], side: float) -> None:
    """Vehicles of one carriageway, each lane at its own speed."""
    script, rng = crowd.scenario, crowd.rng
    for lane, (middle, speeds, gaps) in enumerate(zip(LANES, _SPEEDS, _GAPS, strict=True)):
        deck = crowd.deck(_DECKS[lane])
        speed = float(rng.uniform(*speeds))
        path = Path(0.0, side * middle, 0.0 if side < 0 else math.pi)
        travelled = speed * script.duration_s
        begin, end = script.x_range if side < 0 else (-script.x_range[1], -script.x_range[0])
        s = begin - travelled
        fronts = []
        while s < end:
            s += float(rng.uniform(*gaps)) / crowd.density
            fronts.append(s)
        for front in fronts:
            profile = SpeedProfile((0.0,), (speed * float(rng.uniform(0.99, 1.01)),))
            crowd.convoy(next(deck), path, profile, front)


def _road_works(crowd: Population[StraightDrive]) -> None:
    """A closed stretch of the hard shoulder: signs, cones, barriers, a machine and workers."""
    rng = crowd.rng
    begin = float(rng.uniform(8, 40))
    edge = -(_EDGES[3] + 0.25)
    for x, lateral in ((begin - 60.0, -PAVED + 0.4), (begin - 30.0, -PAVED + 0.4)):
        crowd.place("temporary_sign", standing(x, lateral, math.pi))
    for k in range(6):
        t = k / 5
        crowd.place("cone", standing(begin - 10 * (1 - t), edge - 2.2 * (1 - t), float(rng.uniform(0, 6))))
    style = "concrete_barrier" if rng.random() < 0.5 else "plastic_barrier"
    for k in range(6):
        crowd.place(style, standing(begin + 3.0 + 2.85 * k, edge, math.pi / 2 + float(rng.normal(0, 0.03))))
    any(crowd.place("construction", standing(begin + 12.0 + k, -SHOULDER - 0.75, 0.0)) for k in range(4))
    crowd.place("truck", standing(begin + 26.0, -SHOULDER - 0.4, 0.0), parked=True)
    for along in (5.0, 18.5, 20.0):
        crowd.place("worker", standing(begin + along, -SHOULDER - 0.4, float(rng.uniform(-3, 3))))
    for k in range(4):
        crowd.place("cone", standing(begin + 22.0 + 5 * k, edge, float(rng.uniform(0, 6))))


def _beside_the_road(crowd: Population[StraightDrive], has_works: bool) -> None:
    """A stranded vehicle with its driver, an animal behind the rail, somebody on the farm track with a bicycle."""
    rng, script = crowd.rng, crowd.scenario
    x = float(rng.uniform(70, 110)) if has_works else float(rng.uniform(15, 60))
    crowd.convoy(str(rng.choice(["car", "truck", "lorry"])), Path(0.0, -SHOULDER, 0.0), SpeedProfile(), x, True)
    crowd.place("standing_adult", standing(x + 3.0, -PAVED - 0.1, float(rng.uniform(-3, 3))))
    crowd.place("pole_sign", standing(x - 24.0, -VERGE, math.pi))
    far = script.reach_m + 60
    for name, speed in (("animal", 0.8), ("animal", 0.0), ("bicycle", 4.0), ("adult", 1.3)):
        heading = float(rng.choice([0.0, math.pi]))
        lateral = float(rng.choice([-1.0, 1.0])) * float(rng.uniform(20, 26))
        crowd.place(name, cruising(float(rng.uniform(-20, min(far, 60))), lateral, heading, speed))


def _signs(crowd: Population[StraightDrive]) -> list[Thing]:
    """Plates beside and above both carriageways; returns what carries them."""
    rng, things = crowd.rng, []
    begin, end = crowd.scenario.x_range
    for side in (-1.0, 1.0):
        facing = math.pi if side < 0 else 0.0
        x = begin + float(rng.uniform(5, 60))
        while x < end:
            behind = math.cos(facing) * -0.12
            if crowd.place("pole_sign", standing(x, side * VERGE, facing)):
                things.append(_thing(post(3.1), x + behind, side * VERGE, 0.0, "pole"))
            x += float(rng.uniform(50, 110))
        x = begin + float(rng.uniform(60, 160))
        while x < end:
            middle = side * (_EDGES[0] + PAVED) / 2
            for lane in LANES[:: int(rng.integers(1, 3))]:
                crowd.place("gantry_sign", standing(x + 0.4 * math.cos(facing), side * lane, facing))
            things.append(_thing(gantry(PAVED - _EDGES[0] + 1.6, 7.9), x, middle, 0.0, "steel"))
            x += float(rng.uniform(170, 300))
    return things


def _clutter(x_range: tuple[float, float], rng: np.random.Generator) -> list[Thing]:
    """Guard rails, delineator posts, trees and noise barriers."""
    things = []
    for k in range(int((x_range[1] - x_range[0]) / 24.0)):
        x = x_range[0] + 24.0 * k + 12.0
        for y in (-RAIL, -_MEDIAN_RAIL, _MEDIAN_RAIL, RAIL):
            things.append(_thing(_rail(24.0), x, y, 0.0, "rail"))
        for side in (-1.0, 1.0):
            if k % 2 == 0:
                things.append(_thing(_delineator(), x + 6.0, side * (RAIL + 0.4), 0.0, "pole"))
            choice = rng.random()
            if choice < 0.3:
                things.append(_thing(wall(22.0, 3.6, rng), x, side * 30.0, -side * math.pi / 2, "wall"))
            elif choice < 0.75:
                for _ in range(2):
                    grown = tree(float(rng.uniform(5, 11)), float(rng.uniform(3, 6)), rng)
                    where = (x + float(rng.uniform(-11, 11)), side * float(rng.uniform(28, 50)))
                    things.append(_thing(grown, *where, float(rng.uniform(0, 3)), "tree"))
    return things


def _thing(shape: Shape, x: float, y: float, yaw: float, echo: str) -> Thing:
    return Thing(shape, standing(x, y, yaw), CLUTTER_ECHOES[echo])


def _rail(length: float) -> Shape:
    b = ShapeBuilder()
    b.box((-length / 2, -0.06, 0.45), (length / 2, 0.06, 0.78), (158, 162, 166), reflectivity=0.5)
    for k in range(4):
        x = (k - 1.5) * length / 4
        b.box((x - 0.05, -0.05, 0.0), (x + 0.05, 0.05, 0.45), (120, 124, 128), reflectivity=0.4)
    return b.build()


def _delineator() -> Shape:
    b = ShapeBuilder()
    part = b.box((-0.06, -0.06, 0.0), (0.06, 0.06, 1.0), (236, 236, 232), reflectivity=0.5)
    for face in ("front", "left", "back", "right"):
        b.patch(part, face, (0.0, 0.72, 1.0, 0.9), (30, 30, 32))
    return b.build()


def _paint(x_range: tuple[float, float], cell_m: float) -> Ground:
    ground = meadow(x_range, (-60.0, 60.0), cell_m)
    x0, x1 = x_range[0] - 30.0, x_range[1] + 30.0
    ground.fill(ASPHALT, x0, -PAVED, x1, PAVED)
    ground.fill(0, x0, -1.4, x1, 1.4)
    for side in (-1.0, 1.0):
        for edge in (_EDGES[0] - 0.1, _EDGES[3]):
            ground.fill(MARKING, x0, side * edge - 0.12, x1, side * edge + 0.12)
        for edge in _EDGES[1:3]:
            for x in np.arange(x0, x1, 18.0):
                ground.fill(MARKING, float(x), side * edge - 0.08, float(x) + 6.0, side * edge + 0.08)
    return ground
