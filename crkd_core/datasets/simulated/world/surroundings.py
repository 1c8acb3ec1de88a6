"""Unlabelled clutter along the roads: buildings, walls, trees, lamp posts, traffic lights, signs and kerbs."""

import numpy as np

from crkd_core.datasets.simulated.shapes.solids import Colour, Shape, ShapeBuilder
from crkd_core.datasets.simulated.shapes.vehicles import pick, shade
from crkd_core.datasets.simulated.world.catalog import CLUTTER_ECHOES
from crkd_core.datasets.simulated.world.motion import standing
from crkd_core.datasets.simulated.world.script import CROSS_KERB, KERB, SIDEWALK_EDGE, Conditions, RoadPlan, Thing

_FACADES: tuple[Colour, ...] = (
    (172, 150, 128),
    (150, 84, 66),
    (196, 192, 184),
    (128, 134, 142),
    (204, 182, 146),
    (110, 118, 112),
    (160, 120, 104),
)
_LEAVES: tuple[Colour, ...] = ((62, 104, 48), (84, 122, 54), (48, 88, 56), (120, 128, 52))
_STEEL: Colour = (120, 124, 128)


def place_surroundings(plan: RoadPlan, conditions: Conditions, rng: np.random.Generator) -> list[Thing]:
    """All clutter of a scene, along the stretch of road that the plan covers."""
    things: list[Thing] = []
    for side in (1, -1):
        things += _frontage(plan, side, conditions, rng)
        things += _street_furniture(plan, side, conditions, rng)
        things += _kerbs(plan, side)
    things += _cross_road_frontage(plan, conditions, rng)
    things += _traffic_lights(plan)
    return things


def _thing(shape: Shape, x: float, y: float, yaw: float, echo: str) -> Thing:
    return Thing(shape, standing(x, y, yaw), CLUTTER_ECHOES[echo])


def building(length: float, depth: float, height: float, night: bool, rng: np.random.Generator) -> Shape:
    """A house whose front (+x) and sides have rows of windows, some lit at night; `length` is along y."""
    b = ShapeBuilder()
    paint = pick(rng, _FACADES, 8)
    house = b.box(
        (-depth / 2, -length / 2, 0.0),
        (depth / 2, length / 2, height),
        paint,
        reflectivity=0.35,
        skip=("top", "back"),
    )
    glass: Colour = (64, 76, 90) if not night else (22, 24, 30)
    floors = max(2, int(height / 3.4))
    shop = rng.random() < 0.5
    for face, wall in (("front", length), ("left", depth), ("right", depth)):
        columns = max(2, int(wall / 3.0))
        for floor in range(floors):
            base = (floor + 0.28) / floors
            if floor == 0 and shop and face == "front":
                b.patch(house, face, (0.06, 0.02, 0.94, 0.62 / floors), glass, glow=0.4 if night else 0.0)
                b.patch(house, face, (0.04, 0.66 / floors, 0.96, 0.9 / floors), pick(rng, _FACADES, 40))
                continue
            for column in range(columns):
                lit = night and rng.random() < 0.35
                colour: Colour = (240, 206, 130) if lit else glass
                rectangle = ((column + 0.25) / columns, base, (column + 0.75) / columns, base + 0.5 / floors)
                b.patch(house, face, rectangle, colour, glow=0.5 if lit else 0.0)
    b.patch(house, "front", (0.0, 1 - 0.25 / floors, 1.0, 1.0), shade(paint, 0.7))
    return b.build()


def wall(length: float, height: float, rng: np.random.Generator) -> Shape:
    """A garden wall or hoarding, `length` along y."""
    b = ShapeBuilder()
    paint = pick(rng, _FACADES, 10)
    part = b.box((-0.15, -length / 2, 0.0), (0.15, length / 2, height), paint, reflectivity=0.4)
    panels = max(2, int(length / 2.5))
    for face in ("front", "back"):
        for k in range(panels):
            b.patch(part, face, ((k + 0.94) / panels, 0.0, (k + 1.0) / panels, 1.0), shade(paint, 0.7))
    return b.build()


def tree(height: float, crown: float, rng: np.random.Generator) -> Shape:
    """A trunk and a crown of three tapered blocks."""
    b = ShapeBuilder()
    b.box((-0.14, -0.14, 0.0), (0.14, 0.14, 0.42 * height), (86, 66, 48), reflectivity=0.15)
    leaves = pick(rng, _LEAVES, 8)
    r = crown / 2
    b.box(
        (-0.8 * r, -0.8 * r, 0.36 * height),
        (0.8 * r, 0.8 * r, 0.54 * height),
        shade(leaves, 0.75),
        top_x=(-0.2 * r, -0.2 * r),
        top_y=-0.2 * r,
    )
    b.box((-r, -r, 0.54 * height), (r, r, 0.78 * height), leaves, top_x=(0.2 * r, 0.2 * r), top_y=0.2 * r)
    b.box(
        (-0.8 * r, -0.8 * r, 0.78 * height),
        (0.8 * r, 0.8 * r, height),
        shade(leaves, 1.12),
        top_x=(0.5 * r, 0.5 * r),
        top_y=0.5 * r,
    )
    return b.build()


def lamp_post(night: bool) -> Shape:
    """A steel post with an arm over the road (+x) and a lamp."""
    b = ShapeBuilder()
    b.box((-0.09, -0.09, 0.0), (0.09, 0.09, 6.8), _STEEL, reflectivity=0.4)
    b.box((-0.06, -0.06, 6.8), (1.1, 0.06, 6.95), _STEEL)
    lamp = b.box((0.5, -0.14, 6.62), (1.1, 0.14, 6.8), (226, 222, 206))
    for face in ("front", "left", "right", "back"):
        b.patch(lamp, face, (0.0, 0.0, 1.0, 1.0), (255, 232, 180), glow=1.0 if night else 0.0)
    return b.build()


def sign(rng: np.random.Generator) -> Shape:
    """A thin post with a plate facing +x."""
    b = ShapeBuilder()
    b.box((-0.04, -0.04, 0.0), (0.04, 0.04, 2.0), _STEEL, reflectivity=0.5)
    plate = b.box((-0.03, -0.35, 2.0), (0.03, 0.35, 2.7), (150, 152, 156), reflectivity=0.9)
    b.patch(plate, "front", (0.04, 0.04, 0.96, 0.96), pick(rng, ((30, 80, 170), (200, 40, 40), (240, 210, 60)), 5))
    b.patch(plate, "front", (0.3, 0.3, 0.7, 0.7), (240, 240, 240))
    return b.build()


def traffic_light() -> Shape:
    """A post with a signal head facing +x."""
    b = ShapeBuilder()
    b.box((-0.08, -0.08, 0.0), (0.08, 0.08, 2.8), (60, 62, 64), reflectivity=0.4)
    head = b.box((-0.14, -0.18, 2.8), (0.14, 0.18, 3.8), (34, 36, 36))
    b.patch(head, "front", (0.25, 0.7, 0.75, 0.95), (220, 40, 30), glow=1.0)
    b.patch(head, "front", (0.25, 0.38, 0.75, 0.62), (70, 60, 20))
    b.patch(head, "front", (0.25, 0.05, 0.75, 0.3), (20, 70, 40))
    return b.build()


def _kerb(length: float) -> Shape:
    b = ShapeBuilder()
    b.box(
        (-length / 2, -0.12, 0.0),
        (length / 2, 0.12, 0.14),
        (150, 150, 146),
        reflectivity=0.3,
        skip=("front", "back"),
    )
    return b.build()


def _frontage(plan: RoadPlan, side: int, conditions: Conditions, rng: np.random.Generator) -> list[Thing]:
    things = []
    yaw = -side * np.pi / 2
    x = plan.x_range[0]
    while x < plan.x_range[1]:
        length = float(rng.uniform(10, 18))
        middle = x + length / 2
        if abs(middle - plan.crossing_x) < SIDEWALK_EDGE + length / 2 - 4:
            x += 2.0
            continue
        kind = rng.choice(["building", "wall", "gap"], p=[0.68, 0.17, 0.15])
        if kind == "building":
            depth, height = (
                float(rng.uniform(8, 13)),
                float(rng.choice([6.8, 10.2, 13.6, 20.4]) + rng.uniform(0, 1.5)),
            )
            y = side * (SIDEWALK_EDGE + rng.uniform(0.6, 3.0) + depth / 2)
            things.append(_thing(building(length, depth, height, conditions.night, rng), middle, y, yaw, "building"))
        elif kind == "wall":
            y = side * (SIDEWALK_EDGE + rng.uniform(0.5, 1.5))
            things.append(_thing(wall(length, float(rng.uniform(1.6, 2.6)), rng), middle, y, yaw, "wall"))
            for _ in range(2):
                grown = tree(float(rng.uniform(5, 8)), float(rng.uniform(3, 5)), rng)
                things.append(
                    _thing(
                        grown,
                        middle + float(rng.uniform(-5, 5)),
                        y + side * float(rng.uniform(3, 8)),
                        0.0,
                        "tree",
                    )
                )
        else:
            for _ in range(3):
                grown = tree(float(rng.uniform(5, 9)), float(rng.uniform(3, 5)), rng)
                y = side * (SIDEWALK_EDGE + float(rng.uniform(2, 12)))
                things.append(
                    _thing(
                        grown,
                        middle + float(rng.uniform(-0.4, 0.4)) * length,
                        y,
                        float(rng.uniform(0, 3)),
                        "tree",
                    )
                )
        x += length + float(rng.uniform(0.2, 3.0))
    return things


def _street_furniture(plan: RoadPlan, side: int, conditions: Conditions, rng: np.random.Generator) -> list[Thing]:
    things = []
    x = plan.x_range[0] + float(rng.uniform(0, 12))
    count = 0
    while x < plan.x_range[1]:
        if abs(x - plan.crossing_x) > 14.5:
            y = side * (KERB + 0.75)
            if count % 2 == 0:
                things.append(_thing(lamp_post(conditions.night), x, y, -side * np.pi / 2, "pole"))
            elif rng.random() < 0.7:
                shape = tree(float(rng.uniform(4.5, 6.5)), float(rng.uniform(1.8, 2.6)), rng)
                things.append(_thing(shape, x, y + side * 0.2, float(rng.uniform(0, 3)), "tree"))
            else:
                facing = np.pi if side < 0 else 0.0
                things.append(_thing(sign(rng), x, y, facing, "pole"))
        count += 1
        x += float(rng.uniform(9, 14))
    return things


def _kerbs(plan: RoadPlan, side: int) -> list[Thing]:
    things = []
    for begin, end in (
        (plan.x_range[0], plan.crossing_x - CROSS_KERB),
        (plan.crossing_x + CROSS_KERB, plan.x_range[1]),
    ):
        pieces = max(1, int((end - begin) / 24))
        length = (end - begin) / pieces
        for k in range(pieces if length > 1 else 0):
            things.append(_thing(_kerb(length), begin + (k + 0.5) * length, side * KERB, 0.0, "kerb"))
    begin, end = (KERB, plan.y_range[1]) if side > 0 else (plan.y_range[0], -KERB)
    for edge in (-CROSS_KERB, CROSS_KERB):
        pieces = max(1, int((end - begin) / 24))
        length = (end - begin) / pieces
        for k in range(pieces):
            things.append(_thing(_kerb(length), plan.crossing_x + edge, begin + (k + 0.5) * length, np.pi / 2, "kerb"))
    return things


def _cross_road_frontage(plan: RoadPlan, conditions: Conditions, rng: np.random.Generator) -> list[Thing]:
    things = []
    for side in (1, -1):
        for end in (1, -1):
            y = 34.0
            limit = abs(plan.y_range[0] if end < 0 else plan.y_range[1])
            while y < limit:
                length, depth = float(rng.uniform(10, 16)), float(rng.uniform(8, 12))
                x = plan.crossing_x + side * (CROSS_KERB + 4.5 + depth / 2)
                height = float(rng.choice([6.8, 10.2, 13.6]) + rng.uniform(0, 1.5))
                yaw = np.pi if side > 0 else 0.0
                if rng.random() < 0.75:
                    shape = building(length, depth, height, conditions.night, rng)
                    things.append(_thing(shape, x, end * (y + length / 2), yaw, "building"))
                y += length + float(rng.uniform(1, 4))
            for k in range(3):
                y = 20.0 + 22 * k + float(rng.uniform(0, 6))
                x = plan.crossing_x + side * (CROSS_KERB + 0.8)
                shape = lamp_post(conditions.night) if k % 2 == 0 else tree(5.5, 2.2, rng)
                things.append(_thing(shape, x, end * y, np.pi if side > 0 else 0.0, "pole" if k % 2 == 0 else "tree"))
    return things


def _traffic_lights(plan: RoadPlan) -> list[Thing]:
    x = plan.crossing_x
    places = (
        (x + 8.0, -KERB - 0.8, np.pi),
        (x - 8.0, KERB + 0.8, 0.0),
        (x + 8.0, KERB + 0.8, -np.pi / 2),
        (x - 8.0, -KERB - 0.8, np.pi / 2),
    )
    return [_thing(traffic_light(), px, py, yaw, "pole") for px, py, yaw in places]
