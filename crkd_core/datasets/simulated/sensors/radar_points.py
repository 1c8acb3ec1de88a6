"""What a radar writes of the echoes it notices, with the noise of its measurement.

A detection's velocity has only one measured part, along the line of sight. nuScenes' 18 fields are in
:mod:`~crkd_core.datasets.nuscenes.radar`: vx, vy are relative to the moving and turning sensor and not radial,
vx_comp, vy_comp are radial, with the sensor's own motion taken out. The short records have one of the two, radial, with
a vertical part.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crkd_core.datasets.nuscenes.pcd import encode_points
from crkd_core.datasets.nuscenes.radar import RADAR_RECORD, encode_radar
from crkd_core.datasets.simulated.arrays import Array
from crkd_core.datasets.simulated.sensors.rig_description import RadarDescription

MOVING_MPS = 0.45
_SHORT_FIELDS = {
    "relative": ("x", "y", "z", "vrel_x", "vrel_y", "vrel_z", "rcs"),
    "compensated": ("x", "y", "z", "vx_comp", "vy_comp", "vz_comp", "rcs"),
}


@dataclass(frozen=True)
class SensorMotion:
    """Pose and motion of one radar in the world frame; it is mounted level."""

    x: float
    y: float
    yaw: float
    vx: float
    vy: float
    yaw_rate: float = 0.0
    z: float = 0.0


@dataclass(frozen=True)
class Echoes:
    """Detections before they are written down: true direction and motion, signal, and flags."""

    distance: Array  # along the ground
    azimuth: Array
    rcs: Array
    radial: Array  # over ground, along the line of sight's ground track
    ghost: NDArray[np.bool_]
    height: Array  # above the sensor; 0 where elevation is not measured


def encode_sweep(points: NDArray) -> bytes:
    """The file of one sweep."""
    return encode_radar(points) if points.dtype == RADAR_RECORD else encode_points(points)


def measured_points(
    radar: RadarDescription, echoes: Echoes, sensor: SensorMotion, rng: np.random.Generator
) -> NDArray[Any]:
    """Points as the radar's files hold them: add measurement noise and fill the fields."""
    weak = np.clip((8.0 - echoes.rcs) / 20.0, 0, 1)
    range_noise = 0.1 + 0.3 * np.clip(0.5 * weak + 0.5 * echoes.distance / radar.widest.range_m, 0, 1)
    edge = np.clip(np.abs(echoes.azimuth) / np.radians(radar.widest.half_angle_deg), 0, 1)
    angle_noise = np.radians(0.3 + 1.2 * np.clip(0.6 * edge + 0.4 * weak, 0, 1))
    n = len(echoes.distance)
    distance = np.maximum(echoes.distance + rng.normal(0, 1, n) * range_noise, 0.3)
    azimuth = echoes.azimuth + rng.normal(0, 1, n) * angle_noise
    if radar.points == "nuscenes":
        return _nuscenes_points(radar, echoes, distance, azimuth, sensor, rng)
    return _short_points(radar, echoes, distance, azimuth, sensor, rng)


def _short_points(
    radar: RadarDescription,
    echoes: Echoes,
    distance: Array,
    azimuth: Array,
    sensor: SensorMotion,
    rng: np.random.Generator,
) -> NDArray[Any]:
    """x, y, z, a radial velocity vector and rcs, all float32."""
    names = _SHORT_FIELDS[radar.points]
    points = np.zeros(len(distance), dtype=[(name, "<f4") for name in names])
    z = _heights(radar, echoes, distance, rng)
    position = np.stack([distance * np.cos(azimuth), distance * np.sin(azimuth), z], axis=1)
    sight = position / np.linalg.norm(position, axis=1, keepdims=True)
    speed = echoes.radial * np.hypot(sight[:, 0], sight[:, 1]) + 0.03 * rng.standard_normal(len(distance))
    if radar.points == "relative":
        speed = speed - sight[:, :2] @ np.array(_own_velocity(sensor))
    for name, values in zip(names, (*position.T, *(sight * speed[:, None]).T, echoes.rcs), strict=True):
        points[name] = values
    return points


def _heights(radar: RadarDescription, echoes: Echoes, distance: Array, rng: np.random.Generator) -> Array:
    """Measured heights above the sensor: elevation is the coarsest of all that a radar measures."""
    if radar.elevation_half_angle_deg is None:
        return np.zeros(len(distance))
    elevation = np.arctan2(echoes.height, echoes.distance) + np.radians(0.8) * rng.standard_normal(len(distance))
    return distance * np.tan(elevation)


def _own_velocity(sensor: SensorMotion) -> tuple[float, float]:
    c, s = np.cos(sensor.yaw), np.sin(sensor.yaw)
    return c * sensor.vx + s * sensor.vy, c * sensor.vy - s * sensor.vx


def _nuscenes_points(
    radar: RadarDescription,
    echoes: Echoes,
    distance: Array,
    azimuth: Array,
    sensor: SensorMotion,
    rng: np.random.Generator,
) -> NDArray[Any]:
    """The 18 fields, on the number grid of the real sensor."""
    n = len(distance)
    weak = np.clip((8.0 - echoes.rcs) / 20.0, 0, 1)
    edge = np.clip(np.abs(echoes.azimuth) / np.radians(radar.widest.half_angle_deg), 0, 1)
    x, y = np.round(distance * np.cos(azimuth) / 0.2) * 0.2, np.round(distance * np.sin(azimuth) / 0.2) * 0.2
    reach = np.maximum(np.hypot(x, y), 1e-3)
    ux, uy = x / reach, y / reach
    points = np.zeros(n, dtype=RADAR_RECORD)
    points["x"], points["y"] = x, y
    points["z"] = _heights(radar, echoes, distance, rng)
    points["rcs"] = np.clip(np.round(echoes.rcs * 2) / 2, -64, 63)
    for name, relative in zip(("vx", "vy"), _relative_velocity(echoes, sensor, x, y), strict=True):
        points[name] = np.round(relative / 0.25) * 0.25
    points["vx_comp"], points["vy_comp"] = echoes.radial * ux, echoes.radial * uy
    points["id"] = np.cumsum(rng.integers(1, 3, n)) - 1
    points["is_quality_valid"] = 1
    points["dyn_prop"] = _dynamic_property(echoes.radial, rng.random(n))
    doubt = rng.random((3, n))
    points["ambig_state"] = np.where(doubt[0] < 0.03, rng.choice([1, 2, 4], n), 3)
    suspicious = np.where(echoes.ghost, doubt[1] < 0.35, doubt[1] < 0.02)
    points["invalid_state"] = np.where(suspicious, rng.choice([1, 6, 7, 14], n), np.where(doubt[1] > 0.97, 4, 0))
    points["pdh0"] = np.where(echoes.ghost, rng.choice([1, 2, 3, 4, 5], n), np.where(doubt[2] < 0.06, 2, 1))
    points["x_rms"] = 18 + np.round(3 * weak + 1.5 * edge).astype(int)
    points["y_rms"] = 18 + np.round(3 * weak + 2.5 * edge).astype(int)
    points["vx_rms"] = 16 + np.round(3 * edge).astype(int)
    points["vy_rms"] = 3 + np.round(6 * edge).astype(int)
    return points


def _relative_velocity(echoes: Echoes, sensor: SensorMotion, x: Array, y: Array) -> tuple[Array, Array]:
    """Velocity against the moving sensor, in its axes, of points at (x, y).

    Along the line of sight it is what was measured. The rest is filled in as on real frames: what stands has the
    motion of the ground as the turning sensor sees it, what moves has no lateral velocity.
    """
    own_x, own_y = _own_velocity(sensor)
    reach = np.maximum(np.hypot(x, y), 1e-3)
    ux, uy = x / reach, y / reach
    along = (echoes.radial - own_x * ux - own_y * uy) / np.maximum(ux, 0.2)
    moving = np.abs(echoes.radial) >= MOVING_MPS
    return (
        np.where(moving, along, echoes.radial * ux - own_x + sensor.yaw_rate * y),
        np.where(moving, 0.0, echoes.radial * uy - own_y - sensor.yaw_rate * x),
    )


def _dynamic_property(radial: Array, doubt: Array) -> NDArray[np.int64]:
    """nuScenes' dyn_prop: 0 moving, 1 stationary, 2 oncoming, 3 stationary candidate, 6 crossing moving, 7 stopped."""
    still = np.where(doubt < 0.12, 3, np.where(doubt > 0.99, 7, 1))
    going = np.where(radial < 0, 2, 0)
    return np.where(np.abs(radial) < MOVING_MPS, still, np.where(doubt < 0.05, 6, going))
