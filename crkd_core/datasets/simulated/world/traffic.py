"""Fills a street scenario with annotated objects."""

import math

import numpy as np

from crkd_core.datasets.simulated.sensors.rig_description import RigDescription
from crkd_core.datasets.simulated.world.motion import (
    Motion,
    Path,
    SpeedProfile,
    braking_profile,
    cruising,
    standing,
    starting_profile,
)
from crkd_core.datasets.simulated.world.population import Population
from crkd_core.datasets.simulated.world.scenario import Scenario
from crkd_core.datasets.simulated.world.script import (
    BIKE_LANE,
    CROSS_KERB,
    CROSS_LANE,
    CROSS_PARKING,
    CROSSWALK,
    INNER_LANE,
    KERB,
    OUTER_LANE,
    PARKING,
    ROAD_EDGE,
    STOP_LINE,
    Thing,
)

_LANE_DECK = (
    "car",
    "truck",
    "car",
    "motorcycle",
    "car",
    "bus",
    "car",
    "lorry",
    "car",
    "motorcycle",
    "car",
    "truck",
    "car",
    "ambulance",
    "car",
    "motorcycle",
    "bendy",
)
_PARKING_DECK = (
    "car",
    "motorcycle_left",
    "car",
    "truck",
    "lorry",
    "car",
    "motorcycle_left",
    "bus",
    "car",
    "police_car",
    "construction",
)
_WALK_DECK = (
    "adult",
    "adult",
    "bicycle_left",
    "standing_adult",
    "adult",
    "child",
    "sitting_adult",
    "bicycle_left",
    "adult",
    "officer",
)
_SPREAD = 2.9
"""Factor on all gaps that makes density 1 the default number of boxes."""
_EXTRAS = ("stroller", "wheelchair", "personal_mobility", "animal", "pushable", "debris", "bicycle_rack")


Crowd = Population[Scenario]
"""The objects of a street scene."""


def populate(scenario: Scenario, rig: RigDescription, density: float, rng: np.random.Generator) -> tuple[Thing, ...]:
    """All annotated objects of a scene, the ones that must not be missing first."""
    crowd = Population(scenario, rig, rng, density)
    _ego_lane_company(crowd)
    _road_works(crowd)
    _main_road_traffic(crowd)
    _cross_road_traffic(crowd)
    _parked(crowd)
    _cyclists(crowd)
    _walkers(crowd)
    _crossing_walkers(crowd)
    _extras(crowd)
    return tuple(crowd.things)


def _gap(crowd: Crowd, low: float | int, high: float | int) -> float:
    return _SPREAD * float(crowd.rng.uniform(low, high)) / crowd.density


def _ego_lane_company(crowd: Crowd) -> None:
    """A vehicle ahead of the ego vehicle that does the same a little further on, and one behind."""
    scenario, rng = crowd.scenario, crowd.rng
    ego = scenario.ego
    deck = crowd.deck(("car", "truck", "motorcycle", "car", "car", "bus"))
    if scenario.manoeuvre != "stop at red light" and rng.random() < 0.7:
        crowd.convoy(next(deck), ego.path, ego.profile, float(rng.uniform(19, 27)))
    crowd.convoy(next(deck), ego.path, ego.profile, -float(rng.uniform(8, 14)))


def _main_road_traffic(crowd: Crowd) -> None:
    """Vehicles in the four lanes of the main road, obeying the light at the crossing."""
    scenario, rng = crowd.scenario, crowd.rng
    plan = scenario.plan
    deck = crowd.deck(_LANE_DECK)
    for direction in (1.0, -1.0):
        for lane in (INNER_LANE, OUTER_LANE):
            y = -direction * lane
            speed = float(rng.uniform(6.0, 11.0))
            begin = plan.x_range[0] + 5 if direction > 0 else -(plan.x_range[1] - 5)
            path = Path(0.0, y, 0.0) if direction > 0 else Path(0.0, y, math.pi)
            line = direction * plan.crossing_x + STOP_LINE
            oncoming_waits = scenario.manoeuvre == "turn left" and direction < 0
            reach = max(speed, float(scenario.ego.profile.speed(np.array([0.0]))[0])) * scenario.duration_s
            s = begin - (min(reach, 60.0) if scenario.main_green_from_s == -math.inf else 0.0)
            end = (plan.x_range[1] if direction > 0 else -plan.x_range[0]) - 4
            fronts = []
            while s < end:
                s += _gap(crowd, 14, 34)
                fronts.append(s)
            free_line = line
            for front in reversed(fronts):
                if oncoming_waits:
                    green: float = math.inf
                else:
                    green = scenario.main_green_from_s
                profile, free_line = _light_profile(front, free_line, line, speed, green, rng)
                crowd.convoy(next(deck), path, profile, front)


def _light_profile(
    front: float, free_line: float, line: float, speed: float, green_s: float, rng: np.random.Generator
) -> tuple[SpeedProfile, float]:
    """Speed of a vehicle before a light, and where the one behind it has to stop."""
    own_speed = speed * float(rng.uniform(0.97, 1.03))
    if green_s == -math.inf or front > line + 1.0:
        return SpeedProfile((0.0,), (own_speed,)), free_line
    if front > free_line:
        return SpeedProfile(), free_line
    if green_s <= 2.0:
        return starting_profile(green_s + 0.05 * max(0.0, line - front), own_speed), free_line
    braking = braking_profile(own_speed, free_line - front)
    if math.isfinite(green_s):
        start = max(green_s + 0.05 * max(0.0, line - free_line), braking.times[-1] + 0.5)
        braking = SpeedProfile((*braking.times, start, start + 4.0), (*braking.speeds, 0.0, own_speed))
    return braking, free_line - 16.0


def _cross_road_traffic(crowd: Crowd) -> None:
    """Vehicles on the crossing road: they wait where the main road has green and drive where it has not."""
    scenario, rng = crowd.scenario, crowd.rng
    plan = scenario.plan
    deck = crowd.deck(_LANE_DECK)
    waits = scenario.main_green_from_s <= 2.0
    for direction in (1.0, -1.0):
        x = plan.crossing_x + direction * CROSS_LANE
        path = Path(x, 0.0, direction * math.pi / 2)
        speed = float(rng.uniform(5.0, 8.0))
        if waits:
            s = -(KERB + 5.5)
            while s > -75:
                s = crowd.convoy(next(deck), path, SpeedProfile(), s) - _gap(crowd, 2.0, 9.0)
            s = KERB + 12.0 + _gap(crowd, 4, 20)
            while s < 75:
                crowd.convoy(next(deck), path, SpeedProfile((0.0,), (speed,)), s)
                s += _gap(crowd, 18, 40)
        else:
            s = -75 - speed * min(scenario.duration_s, scenario.main_green_from_s)
            while s < 75:
                s += _gap(crowd, 18, 36)
                will_pass = s + speed * (scenario.main_green_from_s - 3.0) > KERB
                profile = SpeedProfile((0.0,), (speed,)) if will_pass else braking_profile(speed, -(KERB + 5.5) - s)
                crowd.convoy(next(deck), path, profile, s)


def _road_works(crowd: Crowd) -> None:
    """Closed stretches of the parking lane: cones, barriers, a machine and workers, on alternating sides."""
    scenario, rng = crowd.scenario, crowd.rng
    plan = scenario.plan
    side = 1.0 if rng.random() < 0.5 else -1.0
    begin = float(rng.uniform(-6, 2))
    while begin < plan.x_range[1] - 60:
        length = float(rng.uniform(20, 26))
        if abs(begin + length / 2 - plan.crossing_x) < length / 2 + 18:
            begin = plan.crossing_x + 19.0 if begin > plan.crossing_x - 10 else plan.crossing_x - 19.5 - length
            if abs(begin + length / 2 - plan.crossing_x) < length / 2 + 18:
                begin = plan.crossing_x + 19.0
        _one_work_site(crowd, begin, length, side)
        begin += max(length + 30.0, 105.0 / crowd.density)
        side = -side
    if scenario.manoeuvre in ("turn left", "turn right"):
        sign = 1.0 if scenario.manoeuvre == "turn left" else -1.0
        for k in range(4):
            crowd.place(
                "cone",
                standing(plan.crossing_x + sign * 4.4, sign * (18.0 + 2.5 * k), float(rng.uniform(0, 6))),
            )


def _one_work_site(crowd: Crowd, begin: float, length: float, side: float) -> None:
    rng = crowd.rng
    style = "concrete_barrier" if rng.random() < 0.5 else "plastic_barrier"
    edge = ROAD_EDGE + 0.75
    for k in range(4):
        t = k / 3
        x, y = begin - 7.5 * (1 - t), KERB - 1.2 + (edge - KERB + 1.2) * t
        crowd.place("cone", standing(x, side * y, float(rng.uniform(0, 6))))
    x = begin + 2.0
    while x < begin + length - 5.0:
        yaw = math.pi / 2 * side + float(rng.normal(0, 0.03))
        crowd.place(style, standing(x, side * edge, yaw))
        x += 2.85
    for k in range(2):
        crowd.place(
            "cone",
            standing(begin + length - 3.0 + 1.6 * k, side * (edge + 1.1 * k), float(rng.uniform(0, 6))),
        )
    heading = float(rng.choice([0.0, math.pi])) + float(rng.normal(0, 0.06))
    crowd.place(
        "construction",
        standing(begin + length * 0.42, side * (KERB - 1.95), heading),
        parked=bool(rng.random() < 0.5),
    )
    for along in (0.12, 0.8):
        crowd.place("worker", standing(begin + length * along, side * (KERB - 1.6), float(rng.uniform(-3, 3))))


def _parked(crowd: Crowd) -> None:
    """Vehicles in the parking lanes of both roads."""
    scenario, rng = crowd.scenario, crowd.rng
    plan = scenario.plan
    deck = crowd.deck(_PARKING_DECK)
    for side in (1.0, -1.0):
        path = Path(0.0, side * PARKING, 0.0 if side < 0 else math.pi)
        flip = 1.0 if side < 0 else -1.0
        x = plan.x_range[0] + float(rng.uniform(2, 10))
        while x < plan.x_range[1] - 8:
            if abs(x - plan.crossing_x) > 17 and abs(x - 18 - plan.crossing_x) > 17:
                name = next(deck)
                front = flip * x + (0.0 if flip > 0 else 18.0)
                s = crowd.convoy(name, path, SpeedProfile(), front, parked=True)
                x += max(front - s, 3.0) + _gap(crowd, 4.0, 15.0)
            else:
                x += 4.0
    for sign in (1.0, -1.0):
        for side in (1.0, -1.0):
            y = 24.0
            while y < 70.0:
                name = str(rng.choice(["car", "car", "motorcycle_left", "car"]))
                motion = standing(plan.crossing_x + side * CROSS_PARKING, sign * y, side * math.pi / 2)
                crowd.place(name, motion, parked=True)
                y += _gap(crowd, 7.0, 22.0)


def _cyclists(crowd: Crowd) -> None:
    """Riders in the bicycle lanes of the main road and at the edge of the crossing road."""
    scenario, rng = crowd.scenario, crowd.rng
    plan = scenario.plan
    for direction in (1.0, -1.0):
        span = plan.x_range if direction > 0 else (-plan.x_range[1], -plan.x_range[0])
        s = span[0] + _gap(crowd, 5, 25)
        while s < span[1]:
            speed = float(rng.uniform(2.6, 5.0))
            y = -direction * (BIKE_LANE + float(rng.normal(0, 0.12)))
            path = Path(0.0, y, 0.0 if direction > 0 else math.pi)
            line = direction * plan.crossing_x + STOP_LINE
            waits = s < line and (scenario.main_green_from_s > 2.0 or scenario.manoeuvre == "turn right")
            profile = braking_profile(speed, line - s) if waits else SpeedProfile((0.0,), (speed,))
            crowd.place("bicycle", Motion(path, profile, s))
            s += _gap(crowd, 14, 38)


def _walkers(crowd: Crowd) -> None:
    """People and left bicycles on the pavements."""
    scenario, rng = crowd.scenario, crowd.rng
    plan = scenario.plan
    deck = crowd.deck(_WALK_DECK)
    for side in (1.0, -1.0):
        x = plan.x_range[0] + _gap(crowd, 2, 10)
        while x < plan.x_range[1]:
            y = side * float(rng.uniform(KERB + 1.7, KERB + 3.6))
            _walker(crowd, next(deck), x, y, 0.0)
            x += _gap(crowd, 6, 20)
    for sign in (1.0, -1.0):
        for side in (1.0, -1.0):
            y = 22.0
            limit = abs(plan.y_range[1] if sign > 0 else plan.y_range[0]) - 8
            while y < limit:
                x = plan.crossing_x + side * float(rng.uniform(CROSS_KERB + 1.6, CROSS_KERB + 3.4))
                _walker(crowd, next(deck), x, sign * y, math.pi / 2)
                y += _gap(crowd, 10, 30)


def _walker(crowd: Crowd, name: str, x: float, y: float, along: float) -> None:
    rng = crowd.rng
    yaw = along + (math.pi if rng.random() < 0.5 else 0.0) + float(rng.normal(0, 0.04))
    if name in ("adult", "child"):
        crowd.place(name, cruising(x, y, yaw, float(rng.uniform(0.8, 1.6))))
        if name == "adult" and rng.random() < 0.3:
            crowd.place(name, cruising(x + 0.3, y + 0.95, yaw, 1.2))
    else:
        crowd.place(name, standing(x, y, float(rng.uniform(-3.1, 3.1)) if name != "bicycle_left" else yaw))


def _crossing_walkers(crowd: Crowd) -> None:
    """People on the crosswalks whose light is green, or waiting at them."""
    scenario, rng = crowd.scenario, crowd.rng
    plan = scenario.plan
    main_red = scenario.main_green_from_s > 2.0
    for end in (1.0, -1.0):
        for _ in range(max(1, round(2 * crowd.density))):
            x = plan.crossing_x + end * float(rng.uniform(*CROSSWALK))
            if main_red:
                heading = float(rng.choice([1.0, -1.0])) * math.pi / 2
                crowd.place("adult", cruising(x, float(rng.uniform(-10, 10)), heading, float(rng.uniform(0.9, 1.5))))
            else:
                y = float(rng.choice([1.0, -1.0])) * (KERB + float(rng.uniform(0.7, 1.4)))
                crowd.place("standing_adult", standing(x, y, -math.copysign(math.pi / 2, y)))


def _extras(crowd: Crowd) -> None:
    """Two of the rarer categories, which detection ignores."""
    rng = crowd.rng
    for k in rng.choice(len(_EXTRAS), size=2, replace=False):
        name = _EXTRAS[int(k)]
        for _ in range(4):
            x = float(rng.uniform(-20, 40))
            y = float(rng.choice([1.0, -1.0])) * (KERB + float(rng.uniform(1.8, 3.2)))
            if abs(x - crowd.scenario.plan.crossing_x) < 12:
                continue
            moves = name in ("stroller", "wheelchair", "personal_mobility", "animal")
            motion = (
                cruising(x, y, 0.0, float(rng.uniform(0.7, 1.6)))
                if moves and rng.random() < 0.6
                else standing(x, y, math.pi / 2)
            )
            if crowd.place(name, motion):
                break
    if rng.random() < 0.5:
        crowd.place("debris", standing(float(rng.uniform(5, 40)), math.copysign(BIKE_LANE, rng.normal()), 0.4))
