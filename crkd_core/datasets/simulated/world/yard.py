"""The terminal: a yard of docks, containers and parked trailers that a truck crosses slowly among people."""

import math

import numpy as np

from crkd_core.datasets.simulated.sensors.rig_description import RigDescription
from crkd_core.datasets.simulated.shapes.signs import post
from crkd_core.datasets.simulated.shapes.solids import Colour, Shape, ShapeBuilder
from crkd_core.datasets.simulated.shapes.vehicles import DARK, pick, shade
from crkd_core.datasets.simulated.world.catalog import CLUTTER_ECHOES
from crkd_core.datasets.simulated.world.ground import ASPHALT, MARKING, PAVEMENT, Ground, meadow
from crkd_core.datasets.simulated.world.motion import Motion, Path, SpeedProfile, cruising, standing
from crkd_core.datasets.simulated.world.population import Population
from crkd_core.datasets.simulated.world.script import Conditions, StraightDrive, Thing
from crkd_core.datasets.simulated.world.setting import Setting
from crkd_core.datasets.simulated.world.streams import Streams
from crkd_core.datasets.simulated.world.surroundings import lamp_post, tree, wall

_LANE = 4.0
"""Middle of either lane of the yard's road, from its own middle."""
_ROAD = 8.0
_BAYS = 11.5
_HALL = 32.0
_MARGIN_M = 130.0
_BAY_DECK = ("trailer", "trailer", "truck", "lorry", "trailer", "tractor", "trailer", "truck")
_LANE_DECK = ("lorry", "truck", "car", "tractor", "bus", "lorry", "forklift")
_WALK_DECK = ("adult", "worker", "bicycle", "standing_adult", "worker", "adult", "bicycle_left")
_CONTAINERS: tuple[Colour, ...] = ((150, 62, 44), (46, 88, 132), (62, 104, 66), (196, 150, 50), (178, 180, 182))


def yard(conditions: Conditions, duration_s: float, rig: RigDescription, density: float, streams: Streams) -> Setting:
    """A scene in a terminal: the truck rolls, or stops for somebody and starts again."""
    rng = streams.scenario
    speed = float(rng.uniform(2.5, 5.5))
    stop = float(rng.uniform(0.5, 3.0))
    profile = SpeedProfile((0.0, stop, stop + 2.0, stop + 5.0), (speed, 0.4 * speed, 0.0, speed))
    ego = Motion(Path(0.0, -_LANE, 0.0), profile if rng.random() < 0.4 else SpeedProfile((0.0,), (speed,)))
    script = StraightDrive(ego, duration_s, _MARGIN_M)
    crowd = Population(script, rig, streams.agents, density)
    has_works = bool(rng.random() < 0.4)
    _close_by(crowd, has_works)
    posts = _signs(crowd)
    _bays(crowd)
    _lanes(crowd)
    _people(crowd)
    return Setting(
        description="in a terminal",
        area="terminal",
        has_road_works=has_works,
        conditions=conditions,
        ego=ego,
        agents=tuple(crowd.things),
        clutter=(*posts, *_clutter(script.x_range, conditions, streams.clutter)),
        paint=lambda cell_m: _paint(script.x_range, cell_m),
        x_range=script.x_range,
        y_range=(-75.0, 75.0),
        sight_m=200.0,
        annotated_m=165.0,
    )


def _close_by(crowd: Population[StraightDrive], has_works: bool) -> None:
    """What must not be missing near the truck: forklifts, cones, barriers, two-wheelers, an animal, a bus."""
    rng = crowd.rng
    crowd.place("forklift", cruising(float(rng.uniform(10, 22)), _LANE + float(rng.uniform(4.5, 6)), math.pi, 1.8))
    crowd.place("forklift", standing(float(rng.uniform(-6, 6)), -_ROAD - 2.2, float(rng.uniform(-3, 3))))
    begin = float(rng.uniform(14, 30))
    for k in range(5):
        crowd.place("cone", standing(begin + 2.5 * k, -_ROAD + 0.6, float(rng.uniform(0, 6))))
    style = "concrete_barrier" if rng.random() < 0.5 else "plastic_barrier"
    for k in range(4):
        crowd.place(style, standing(begin + 13.0 + 2.85 * k, -_ROAD + 0.4, math.pi / 2 + float(rng.normal(0, 0.03))))
    crowd.place("temporary_sign", standing(begin - 4.0, -_ROAD + 0.3, math.pi))
    if has_works:
        any(crowd.place("construction", standing(begin + 8.0 + k, -_ROAD - 3.2, 0.4 * k)) for k in range(4))
        crowd.place("worker", standing(begin + 4.0, -_ROAD - 1.6, float(rng.uniform(-3, 3))))
    crowd.place("bicycle", cruising(float(rng.uniform(-20, 25)), _ROAD - 1.2, math.pi, float(rng.uniform(2, 4))))
    for side in (1.0, -1.0, 1.0):
        crowd.place("animal", cruising(float(rng.uniform(2, 34)), side * (_ROAD + 1.5), float(rng.uniform(-3, 3)), 0.5))
    crowd.place("motorcycle_left", standing(float(rng.uniform(6, 28)), -_ROAD - 1.1, 1.2), parked=True)
    crowd.place("motorcycle", cruising(float(rng.uniform(-40, 40)), _LANE + 1.4, math.pi, float(rng.uniform(3, 6))))
    crowd.convoy("bus", Path(0.0, _LANE, math.pi), SpeedProfile((0.0,), (4.0,)), -float(rng.uniform(25, 70)))


def _bays(crowd: Population[StraightDrive]) -> None:
    """Trailers and trucks parked side by side along both sides of the road, noses to it."""
    rng = crowd.rng
    begin, end = crowd.scenario.x_range
    for side in (1.0, -1.0):
        deck = crowd.deck(_BAY_DECK if side > 0 else (*_BAY_DECK, "car", "car", "car", "bus"))
        x = begin + float(rng.uniform(0, 6))
        while x < end:
            if rng.random() < 0.7 * min(crowd.density, 1.3):
                path = Path(x, side * _BAYS, -side * math.pi / 2)
                crowd.convoy(next(deck), path, SpeedProfile(), 0.0, parked=True)
            x += 4.4


def _lanes(crowd: Population[StraightDrive]) -> None:
    """Slow vehicles in both lanes."""
    rng, script = crowd.rng, crowd.scenario
    deck = crowd.deck(_LANE_DECK)
    for side in (-1.0, 1.0):
        path = Path(0.0, side * _LANE, 0.0 if side < 0 else math.pi)
        begin, end = script.x_range if side < 0 else (-script.x_range[1], -script.x_range[0])
        speed = float(rng.uniform(2.5, 5.0))
        s = begin
        while s < end:
            s += float(rng.uniform(30, 70)) / crowd.density
            profile = SpeedProfile() if rng.random() < 0.25 else SpeedProfile((0.0,), (speed,))
            crowd.convoy(next(deck), path, profile, s)


def _people(crowd: Population[StraightDrive]) -> None:
    """People on foot and on bicycles along the edges of the road and between the bays."""
    rng, script = crowd.rng, crowd.scenario
    deck = crowd.deck(_WALK_DECK)
    for side in (1.0, -1.0):
        x = -70.0 + float(rng.uniform(0, 8))
        while x < script.reach_m + 75.0:
            y = side * float(rng.uniform(_ROAD - 0.6, _BAYS - 1.2))
            name = next(deck)
            if name in ("standing_adult", "bicycle_left") or rng.random() < 0.2:
                crowd.place(name, standing(x, y, float(rng.uniform(-3, 3))))
            else:
                heading = float(rng.choice([0.0, math.pi])) + float(rng.normal(0, 0.08))
                crowd.place(name, cruising(x, y, heading, float(rng.uniform(0.8, 1.6))))
            x += float(rng.uniform(6, 16)) / crowd.density


def _signs(crowd: Population[StraightDrive]) -> list[Thing]:
    """Plates on posts beside the road, and one above each gate; returns the posts."""
    rng, things = crowd.rng, []
    begin, end = crowd.scenario.x_range
    for side in (1.0, -1.0):
        x = begin + float(rng.uniform(10, 40))
        facing = math.pi if side < 0 else 0.0
        while x < end:
            if crowd.place("pole_sign", standing(x, side * (_ROAD + 0.3), facing)):
                things.append(_thing(post(3.1), x - 0.12 * math.cos(facing), side * (_ROAD + 0.3), 0.0, "pole"))
            x += float(rng.uniform(25, 60))
    return things


def _clutter(x_range: tuple[float, float], conditions: Conditions, rng: np.random.Generator) -> list[Thing]:
    """A hall with gates behind the bays on the left, stacked containers behind those on the right, light masts."""
    things = []
    x = x_range[0]
    while x < x_range[1]:
        length = float(rng.uniform(35, 60))
        if rng.random() < 0.75:
            things.append(
                _thing(
                    _hall(length, 24.0, float(rng.uniform(9, 13)), rng),
                    x + length / 2,
                    _HALL + 12.0,
                    -math.pi / 2,
                    "building",
                )
            )
        else:
            things.append(_thing(wall(length, 2.4, rng), x + length / 2, _HALL + 2.0, -math.pi / 2, "wall"))
        x += length + float(rng.uniform(1, 10))
    x = x_range[0]
    while x < x_range[1]:
        for row in range(2):
            tiers = int(rng.integers(0, 4))
            if tiers:
                y = -_HALL - 2.0 - 2.6 * row
                things.append(_thing(_stack(tiers, rng), x + 6.1, y, 0.0, "steel"))
        x += 13.0
    for x in np.arange(x_range[0], x_range[1], 38.0):
        for side in (1.0, -1.0):
            things.append(
                _thing(lamp_post(conditions.night), float(x), side * (_ROAD + 1.0), -side * math.pi / 2, "pole")
            )
            grown = tree(float(rng.uniform(6, 10)), float(rng.uniform(3, 5)), rng)
            things.append(_thing(grown, float(x) + 9.0, side * 66.0, 0.0, "tree"))
    return things


def _thing(shape: Shape, x: float, y: float, yaw: float, echo: str) -> Thing:
    return Thing(shape, standing(x, y, yaw), CLUTTER_ECHOES[echo])


def _hall(length: float, depth: float, height: float, rng: np.random.Generator) -> Shape:
    """A logistics hall whose front (+x) has gates at dock height; `length` is along y."""
    b = ShapeBuilder()
    paint = pick(rng, ((168, 174, 180), (204, 204, 198), (120, 136, 150)), 8)
    hall = b.box(
        (-depth / 2, -length / 2, 0.0), (depth / 2, length / 2, height), paint, reflectivity=0.4, skip=("top", "back")
    )
    gates = int(length / 5.0)
    for k in range(gates):
        b.patch(hall, "front", ((k + 0.2) / gates, 0.1, (k + 0.8) / gates, 0.42), shade(paint, 0.55))
        b.patch(hall, "front", ((k + 0.15) / gates, 0.06, (k + 0.85) / gates, 0.1), DARK)
    b.patch(hall, "front", (0.0, 0.86, 1.0, 0.94), pick(rng, _CONTAINERS, 10))
    return b.build()


def _stack(tiers: int, rng: np.random.Generator) -> Shape:
    """Containers of 12.2 m on top of each other."""
    b = ShapeBuilder()
    for tier in range(tiers):
        paint = pick(rng, _CONTAINERS, 10)
        low, high = (-6.1, -1.22, 2.6 * tier), (6.1, 1.22, 2.6 * (tier + 1))
        part = b.box(low, high, paint, reflectivity=0.35)
        for face in ("left", "right"):
            for k in range(10):
                b.patch(part, face, ((k + 0.3) / 10, 0.04, (k + 0.55) / 10, 0.96), shade(paint, 0.8))
    return b.build()


def _paint(x_range: tuple[float, float], cell_m: float) -> Ground:
    ground = meadow(x_range, (-75.0, 75.0), cell_m)
    x0, x1 = x_range[0] - 30.0, x_range[1] + 30.0
    ground.fill(PAVEMENT, x0, -60.0, x1, 60.0)
    ground.fill(ASPHALT, x0, -_ROAD, x1, _ROAD)
    for x in np.arange(x0, x1, 12.0):
        ground.fill(MARKING, float(x), -0.08, float(x) + 4.0, 0.08)
    for side in (-1.0, 1.0):
        ground.fill(MARKING, x0, side * _ROAD - 0.08, x1, side * _ROAD + 0.08)
        for x in np.arange(x0, x1, 4.4):
            low, high = sorted((side * _BAYS, side * (_BAYS + 17.0)))
            ground.fill(MARKING, float(x), low, float(x) + 0.12, high)
    return ground
