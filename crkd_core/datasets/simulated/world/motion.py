"""How things move: a path made of straight pieces and arcs, and a speed that changes piecewise linearly in time."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from crkd_core.datasets.simulated.arrays import Array


class Kinematics(NamedTuple):
    """State at some times, world frame: metres, radians, metres per second, radians per second."""

    x: Array
    y: Array
    yaw: Array
    vx: Array
    vy: Array
    yaw_rate: Array


@dataclass(frozen=True)
class Path:
    """A curve on the ground: start pose, then pieces of (length in m, curvature in 1/m); straight before and after."""

    x: float
    y: float
    yaw: float
    pieces: tuple[tuple[float, float], ...] = ()

    def at(self, s: Array) -> tuple[Array, Array, Array, Array]:
        """Position, yaw and curvature at arc lengths `s` from the start (may be negative)."""
        x, y, yaw, begin = self.x, self.y, self.yaw, 0.0
        out_x, out_y, out_yaw, out_k = _advance(x, y, yaw, 0.0, s)
        for length, curvature in (*self.pieces, (np.inf, 0.0)):
            inside = s >= begin
            px, py, pyaw, pk = _advance(x, y, yaw, curvature, s - begin)
            out_x, out_y = np.where(inside, px, out_x), np.where(inside, py, out_y)
            out_yaw, out_k = np.where(inside, pyaw, out_yaw), np.where(inside, pk, out_k)
            if np.isfinite(length):
                ends = _advance(x, y, yaw, curvature, np.array([length]))
                x, y, yaw = (float(v[0]) for v in ends[:3])
                begin += length
        return out_x, out_y, out_yaw, out_k


def _advance(x: float, y: float, yaw: float, curvature: float, s: Array) -> tuple[Array, Array, Array, Array]:
    if curvature == 0.0:
        return x + s * np.cos(yaw), y + s * np.sin(yaw), np.full_like(s, yaw), np.zeros_like(s)
    end = yaw + curvature * s
    radius = 1.0 / curvature
    return (
        x + radius * (np.sin(end) - np.sin(yaw)),
        y - radius * (np.cos(end) - np.cos(yaw)),
        end,
        np.full_like(s, curvature),
    )


@dataclass(frozen=True)
class SpeedProfile:
    """Speed in m/s at knots in s; linear between them, constant outside."""

    times: tuple[float, ...] = (0.0,)
    speeds: tuple[float, ...] = (0.0,)

    def speed(self, t: Array) -> Array:
        """Speed at times `t`."""
        return np.interp(t, self.times, self.speeds)

    def distance(self, t: Array) -> Array:
        """Distance travelled since t = 0 (negative before)."""
        return self._from_first_knot(t) - self._from_first_knot(np.zeros(1))

    def _from_first_knot(self, t: Array) -> Array:
        times, speeds = np.array(self.times), np.array(self.speeds)
        covered = np.concatenate([[0.0], np.cumsum(np.diff(times) * (speeds[1:] + speeds[:-1]) / 2)])
        k = np.clip(np.searchsorted(times, t, side="right") - 1, 0, len(times) - 1)
        before = t < times[0]
        mean = np.where(before, speeds[0], (speeds[k] + self.speed(t)) / 2)
        return covered[k] + np.where(before, t - times[0], t - times[k]) * mean


@dataclass(frozen=True)
class Motion:
    """A path driven with a speed profile, starting at arc length `s0` at t = 0."""

    path: Path
    profile: SpeedProfile = SpeedProfile()
    s0: float = 0.0

    def at(self, t: Array) -> Kinematics:
        """State at times `t` in seconds from the first key frame."""
        x, y, yaw, curvature = self.path.at(self.s0 + self.profile.distance(t))
        speed = self.profile.speed(t)
        return Kinematics(x, y, yaw, speed * np.cos(yaw), speed * np.sin(yaw), speed * curvature)


def standing(x: float, y: float, yaw: float) -> Motion:
    """A thing that never moves."""
    return Motion(Path(x, y, yaw))


def cruising(x: float, y: float, yaw: float, speed_mps: float) -> Motion:
    """A thing that goes straight on at constant speed."""
    return Motion(Path(x, y, yaw), SpeedProfile((0.0,), (speed_mps,)))


def braking_profile(speed_mps: float, distance_m: float, deceleration: float = 2.2) -> SpeedProfile:
    """Speed of a vehicle that stops `distance_m` ahead, braking late and gently if it can and harder if it must."""
    if distance_m < 0.5:
        return SpeedProfile()
    speed = min(speed_mps, float(np.sqrt(2 * 4.0 * distance_m)))
    needed = speed**2 / (2 * deceleration)
    if needed >= distance_m:
        return SpeedProfile((0.0, 2 * distance_m / speed), (speed, 0.0))
    start = (distance_m - needed) / speed
    return SpeedProfile((start, start + speed / deceleration), (speed, 0.0))


def starting_profile(start_s: float, speed_mps: float, acceleration: float = 1.8) -> SpeedProfile:
    """Speed of a vehicle that stands until `start_s` and then drives off."""
    return SpeedProfile((start_s, start_s + speed_mps / acceleration), (0.0, speed_mps))
