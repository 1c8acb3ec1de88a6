"""The script of one scene: the ego vehicle's drive, everything else that stands or moves, and the weather."""

from dataclasses import dataclass

import numpy as np

from crkd_core.datasets.simulated.arrays import Array
from crkd_core.datasets.simulated.shapes.solids import Shape
from crkd_core.datasets.simulated.world.catalog import Kind, RadarEcho
from crkd_core.datasets.simulated.world.motion import Kinematics, Motion


@dataclass(frozen=True)
class Conditions:
    """Light and weather, and how they act on the sensors."""

    night: bool
    rain: bool
    overcast: bool

    @property
    def label(self) -> str:
        """How nuScenes scene descriptions begin under these conditions."""
        return "".join(("Night, " if self.night else "", "rain, " if self.rain else ""))


@dataclass(frozen=True)
class Thing:
    """An object or a piece of surroundings; `kind` is None for what is never annotated."""

    shape: Shape
    motion: Motion
    echo: RadarEcho
    kind: Kind | None = None
    parked: bool = False

    @property
    def size_wlh_m(self) -> tuple[float, float, float]:
        """Extent of the annotated box, millimetre resolution as in nuScenes."""
        low, high = self.shape.low, self.shape.high
        length, width, height = high - low
        if self.kind is not None:
            half = np.maximum(np.abs(low), np.abs(high))
            length, width = 2 * half[0], 2 * half[1]
        return (round(float(width), 3), round(float(length), 3), round(float(height), 3))

    @property
    def bottom_m(self) -> float:
        """Height of the annotated box's bottom above the ground."""
        return float(self.shape.low[2]) if self.kind is not None and self.kind.hangs else 0.0


@dataclass(frozen=True)
class RoadPlan:
    """Where the roads run: the main road along x, a crossing road along y at `crossing_x`."""

    crossing_x: float
    x_range: tuple[float, float]
    y_range: tuple[float, float]


@dataclass(frozen=True)
class StraightDrive:
    """A drive along x from the origin, and how much of the world before its beginning and after its end is furnished.

    Attributes:
        margin_m: beyond both ends.
    """

    ego: Motion
    duration_s: float
    margin_m: float

    @property
    def reach_m(self) -> float:
        """The distance driven."""
        return float(self.ego.profile.distance(np.array([self.duration_s]))[0])

    @property
    def x_range(self) -> tuple[float, float]:
        """First and last x of the furnished world (m)."""
        return (-self.margin_m, self.reach_m + self.margin_m)


LANE_WIDTH = 3.5
INNER_LANE, OUTER_LANE = 1.75, 5.25
ROAD_EDGE = 7.0
BIKE_LANE = 7.9
PARKING_LINE, PARKING, KERB = 8.8, 10.4, 12.1
SIDEWALK_EDGE = 16.2
CROSS_LANE, CROSS_PARKING, CROSS_KERB = 1.75, 5.6, 7.2
CROSSWALK = (-13.6, -10.4)
STOP_LINE = -14.6


def states(things: tuple[Thing, ...], times: Array) -> Kinematics:
    """States of all things, each field of shape (things, times)."""
    out = np.empty((6, len(things), len(times)))
    for k, thing in enumerate(things):
        when = times if any(thing.motion.profile.speeds) else times[:1]
        out[:, k] = np.stack(thing.motion.at(when))
    return Kinematics(*out)


def rectangles_meet(first: Array, first_size: Array, second: Array, second_size: Array, margin: float) -> bool:
    """Whether two oriented rectangles come closer than about `margin` (m) at any time.

    Args:
        first, second: (3, T) x, y, yaw over time.
        first_size, second_size: Length and width in metres.
    """
    dx, dy = second[0] - first[0], second[1] - first[1]
    turn = second[2] - first[2]
    c, s = np.abs(np.cos(turn)), np.abs(np.sin(turn))
    apart = np.zeros(len(dx), dtype=bool)
    for yaw, size, other_size in ((first[2], first_size, second_size), (second[2], second_size, first_size)):
        for k in range(2):
            between = np.abs(dx * np.cos(yaw + k * np.pi / 2) + dy * np.sin(yaw + k * np.pi / 2))
            extent = other_size[0] * (c if k == 0 else s) + other_size[1] * (s if k == 0 else c)
            apart |= between > size[k] / 2 + extent / 2 + margin
    return bool((~apart).any())
