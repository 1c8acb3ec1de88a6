"""What happens in a scene: where the crossing is, what the lights show and how the ego vehicle drives."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from crkd_core.datasets.simulated.world.motion import Motion, Path, SpeedProfile, braking_profile, starting_profile
from crkd_core.datasets.simulated.world.script import (
    CROSS_LANE,
    INNER_LANE,
    OUTER_LANE,
    STOP_LINE,
    Conditions,
    RoadPlan,
)

Manoeuvre = Literal["straight", "turn left", "turn right", "stop at red light", "wait and start"]

_MANOEUVRES: tuple[Manoeuvre, ...] = (
    "straight",
    "turn right",
    "stop at red light",
    "turn left",
    "straight",
    "wait and start",
)
_WEATHER = (
    Conditions(night=False, rain=False, overcast=False),
    Conditions(night=False, rain=False, overcast=True),
    Conditions(night=False, rain=True, overcast=True),
    Conditions(night=False, rain=False, overcast=False),
    Conditions(night=True, rain=False, overcast=False),
    Conditions(night=False, rain=False, overcast=False),
    Conditions(night=False, rain=False, overcast=True),
    Conditions(night=True, rain=True, overcast=True),
)


@dataclass(frozen=True)
class Scenario:
    """The script: `main_green_from_s` is when the main road's light turns green (-inf: always, inf: never)."""

    manoeuvre: Manoeuvre
    conditions: Conditions
    plan: RoadPlan
    ego: Motion
    main_green_from_s: float
    duration_s: float


def write_scenario(index: int, duration_s: float, rng: np.random.Generator) -> Scenario:
    """Script of the `index`-th scene of a split: manoeuvres and weather take turns, numbers are drawn."""
    manoeuvre = _MANOEUVRES[index % len(_MANOEUVRES)]
    conditions = _WEATHER[index % len(_WEATHER)]
    lane = (
        -INNER_LANE if manoeuvre == "turn left" or (manoeuvre != "turn right" and rng.random() < 0.5) else -OUTER_LANE
    )
    speed = float(rng.uniform(6.0, 10.0))
    green = -math.inf
    if manoeuvre == "straight":
        crossing = float(rng.uniform(35, 75))
        ego = Motion(Path(0.0, lane, 0.0), SpeedProfile((0.0, 3.0, 6.0), (speed, speed * 0.9, speed)))
    elif manoeuvre in ("turn left", "turn right"):
        crossing, ego = _turning(manoeuvre, lane, rng)
    elif manoeuvre == "stop at red light":
        crossing = float(rng.uniform(30, 38))
        green = 12.0
        stop = crossing + STOP_LINE - 4.5
        braking = braking_profile(speed, stop)
        times, speeds = (*braking.times, 12.5, 17.0), (*braking.speeds, 0.0, speed)
        ego = Motion(Path(0.0, lane, 0.0), SpeedProfile(times, speeds))
    else:
        crossing = float(rng.uniform(20, 24))
        green = 1.0
        ego = Motion(Path(0.0, lane, 0.0), starting_profile(1.6, speed))
    reach = float(ego.profile.distance(np.array([duration_s]))[0])
    if manoeuvre in ("turn left", "turn right"):
        x_range = (-75.0, crossing + 85.0)
        far = max(0.0, reach - crossing) + 85.0
        y_range = (-80.0, far) if manoeuvre == "turn left" else (-far, 80.0)
    else:
        x_range, y_range = (-75.0, max(reach, crossing) + 85.0), (-80.0, 80.0)
    plan = RoadPlan(crossing, x_range, y_range)
    return Scenario(manoeuvre, conditions, plan, ego, green, duration_s)


def _turning(manoeuvre: Manoeuvre, lane: float, rng: np.random.Generator) -> tuple[float, Motion]:
    crossing = float(rng.uniform(20, 27))
    left = manoeuvre == "turn left"
    radius = 11.0 if left else 8.0
    straight = crossing + (CROSS_LANE if left else -CROSS_LANE) - radius
    sign = 1.0 if left else -1.0
    path = Path(0.0, lane, 0.0, ((straight, 0.0), (radius * math.pi / 2, sign / radius)))
    slow, fast = float(rng.uniform(4.0, 5.0)), float(rng.uniform(6.5, 8.0))
    brake_s = max(0.6, (straight - 2.0) / ((fast + slow) / 2))
    out_s = brake_s + (radius * math.pi / 2 + 3.0) / slow
    return crossing, Motion(path, SpeedProfile((0.0, brake_s, out_s, out_s + 2.5), (fast, slow, slow, fast + 1.0)))
