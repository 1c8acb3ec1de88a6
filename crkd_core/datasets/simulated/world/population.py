"""Fills a scene with annotated objects; whatever would ever touch something placed before it is left out."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar, runtime_checkable

import numpy as np

from crkd_core.datasets.simulated.arrays import Array
from crkd_core.datasets.simulated.sensors.rig_description import RigDescription
from crkd_core.datasets.simulated.world.catalog import KINDS
from crkd_core.datasets.simulated.world.ego import trailer_motion
from crkd_core.datasets.simulated.world.motion import Motion, Path, SpeedProfile
from crkd_core.datasets.simulated.world.script import Thing, rectangles_meet


@runtime_checkable
class Drive(Protocol):
    """What every script says of the ego vehicle."""

    @property
    def ego(self) -> Motion:
        """How it moves."""

    @property
    def duration_s(self) -> float:
        """How long the scene lasts."""


DriveT = TypeVar("DriveT", bound=Drive)


@dataclass
class Population(Generic[DriveT]):
    """The objects placed so far, and the check that keeps them and the ego vehicle apart."""

    scenario: DriveT
    rig: RigDescription
    rng: np.random.Generator
    density: float
    things: list[Thing] = field(default_factory=list)
    _tracks: list[Array] = field(default_factory=list)  # x, y, yaw over time
    _sizes: list[Array] = field(default_factory=list)  # length, width

    def __post_init__(self) -> None:
        self.times = np.arange(-0.5, self.scenario.duration_s + 0.5, 0.2)
        vehicle, trailer = self.rig.vehicle, self.rig.trailer
        ego = self.scenario.ego.at(self.times)
        x, y = ego.x + vehicle.centre_ahead_m * np.cos(ego.yaw), ego.y + vehicle.centre_ahead_m * np.sin(ego.yaw)
        self._tracks.append(np.stack([x, y, ego.yaw]))
        self._sizes.append(np.array([vehicle.length_m, vehicle.width_m]))
        if trailer is not None:
            towed = trailer_motion(trailer, self.scenario.ego).at(self.times)
            self._tracks.append(np.stack(towed[:3]))
            self._sizes.append(np.array([trailer.length_m, trailer.width_m]))

    def place(self, name: str, motion: Motion, parked: bool = False) -> bool:
        """Add an object if it never comes too close to what is already there."""
        kind = KINDS[name]
        size = np.array(kind.size_wlh_m) * (1 + np.clip(self.rng.normal(0, kind.size_spread, 3), -0.15, 0.15))
        w, length, h = (float(v) for v in size)
        track = np.stack(motion.at(self.times)[:3])
        footprint = np.array([length, w])
        if self._touches(track, footprint, 0.35 if max(w, length) > 1.2 else 0.12):
            return False
        shape, echo = kind.make((w, length, h), self.rng), kind.echo.of_one(self.rng)
        self.things.append(Thing(shape, motion, echo, kind, parked))
        self._tracks.append(track)
        self._sizes.append(footprint)
        return True

    def _touches(self, track: Array, footprint: Array, margin: float) -> bool:
        tracks, sizes = np.stack(self._tracks), np.stack(self._sizes)
        reach = (np.hypot(sizes[:, 0], sizes[:, 1]) + np.hypot(*footprint)) / 2 + margin
        near = np.hypot(tracks[:, 0] - track[0], tracks[:, 1] - track[1]) < reach[:, None]
        for k in np.flatnonzero(near.any(axis=1)):
            when = near[k]
            if rectangles_meet(track[:, when], footprint, tracks[k][:, when], sizes[k], margin):
                return True
        return False

    def deck(self, names: tuple[str, ...]) -> Iterator[str]:
        """Endless draws in which every name comes up as often as it stands in `names`."""
        while True:
            for k in self.rng.permutation(len(names)):
                yield names[int(k)]

    def convoy(self, name: str, path: Path, profile: SpeedProfile, s: float | int, parked: bool = False) -> float:
        """Place a vehicle, or a truck with what it tows, with its front at arc length `s`; returns the rear's."""
        parts = {"lorry": ("tractor", "trailer"), "bendy": ("bendy_front", "bendy_rear")}.get(name, (name,))
        for part in parts:
            length = KINDS[part].size_wlh_m[1] * 1.08
            self.place(part, Motion(path, profile, s - length / 2), parked)
            s -= length + 0.6
        return s
