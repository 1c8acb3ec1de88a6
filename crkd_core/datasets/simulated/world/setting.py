"""Where a scene plays and what is in it, and the world that it becomes."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from crkd_core.datasets.simulated.arrays import Array
from crkd_core.datasets.simulated.world.ground import Ground
from crkd_core.datasets.simulated.world.motion import Motion
from crkd_core.datasets.simulated.world.script import Conditions, Thing


@dataclass(frozen=True)
class Setting:
    """The stage of one scene, in a frame of its own.

    Attributes:
        description: what happens, in a few words.
        area: kind of place: city, highway or terminal.
        has_road_works: whether cones, barriers or machines stand there.
        paint: ground materials at a cell size in m.
        x_range, y_range: extent in m.
        sight_m: how far cameras see things.
        annotated_m: how far from the ego vehicle things are annotated.
    """

    description: str
    area: str
    has_road_works: bool
    conditions: Conditions
    ego: Motion
    agents: tuple[Thing, ...]
    clutter: tuple[Thing, ...]
    paint: Callable[[float], Ground]
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    sight_m: float = 130.0
    annotated_m: float = 60.0

    @property
    def middle(self) -> Array:
        """(3,) middle of the ground."""
        return np.array([np.mean(self.x_range), np.mean(self.y_range), 0.0])


@dataclass(frozen=True)
class World:
    """Everything about one scene; `things` has the annotated objects first."""

    name: str
    setting: Setting
    things: tuple[Thing, ...]
    global_from_world: Array
    start_us: int

    @property
    def ego(self) -> Motion:
        """How the ego vehicle moves."""
        return self.setting.ego

    @property
    def conditions(self) -> Conditions:
        """Light and weather."""
        return self.setting.conditions

    @property
    def agents(self) -> tuple[Thing, ...]:
        """The annotated objects."""
        return tuple(thing for thing in self.things if thing.kind is not None)
