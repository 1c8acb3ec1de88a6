"""What radars notice: few, noisy echoes with radial velocities, clutter, ghosts and misses.

What is written of them is in :mod:`~crkd_core.datasets.simulated.sensors.radar_points`. A radar without elevation
lives in the plane; one with it also measures how high the echoes are, and resolves more of them.
"""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crkd_core.datasets.simulated.arrays import Array
from crkd_core.datasets.simulated.sensors.assembly import Assembly, Placement
from crkd_core.datasets.simulated.sensors.radar_points import Echoes, SensorMotion, measured_points
from crkd_core.datasets.simulated.sensors.rig_description import RadarDescription
from crkd_core.datasets.simulated.world.script import Thing


@dataclass(frozen=True)
class Reflectors:
    """How all things look to a radar; each field of shape (things,)."""

    half_length: Array
    half_width: Array
    centre_x: Array
    rcs: Array
    facing: Array
    detections: Array
    jitter: Array
    bottom: Array  # lowest and highest point above the ground
    top: Array
    blocks: Array  # how much of the power something behind loses, 0 to 1
    stands_out: NDArray[np.bool_]


def build_reflectors(things: tuple[Thing, ...], assembly: Assembly) -> Reflectors:
    """Radar view of all things."""
    low, high = assembly.low, assembly.high
    width = np.minimum(high[:, 0] - low[:, 0], high[:, 1] - low[:, 1])
    tall = high[:, 2]
    clutter = np.array([thing.kind is None for thing in things])
    blocks = np.where(tall < 1.2, 0.05, np.where(tall < 2.2, 0.45, 0.7)) * np.clip(width / 1.5, 0.1, 1)
    solid = clutter & (tall > 1.2) & ((high - low)[:, :2].max(axis=1) > 3)
    return Reflectors(
        half_length=(high[:, 0] - low[:, 0]) / 2,
        half_width=(high[:, 1] - low[:, 1]) / 2,
        centre_x=(high[:, 0] + low[:, 0]) / 2,
        rcs=np.array([thing.echo.rcs_dbsm for thing in things]),
        facing=np.array([thing.echo.facing_db for thing in things]),
        detections=np.array([thing.echo.detections for thing in things]),
        jitter=np.array([thing.echo.jitter_mps for thing in things]),
        bottom=low[:, 2],
        top=high[:, 2],
        blocks=np.where(solid, 0.995, blocks),
        stands_out=~clutter,
    )


def detect(
    radar: RadarDescription,
    reflectors: Reflectors,
    placement: Placement,
    sensor: SensorMotion,
    rng: np.random.Generator,
) -> NDArray[Any]:
    """One sweep: a structured array of the points that the radar's files hold, sensor frame, nearest first."""
    echoes = _object_echoes(radar, reflectors, placement, sensor, rng)
    echoes = _join(echoes, _ghosts(echoes, rng), _false_alarms(radar, sensor, rng))
    field_of_view = _in_view(radar, echoes.distance, echoes.azimuth)
    if radar.elevation_half_angle_deg is not None:
        elevation = np.arctan2(echoes.height, echoes.distance)
        field_of_view &= np.abs(elevation) < np.radians(radar.elevation_half_angle_deg)
    echoes = _select(echoes, np.flatnonzero(field_of_view))
    if len(echoes.distance) > radar.most_points:
        strongest = np.argsort(-(echoes.rcs - 25 * np.log10(echoes.distance)), kind="stable")[: radar.most_points]
        echoes = _select(echoes, strongest)
    return measured_points(radar, _select(echoes, np.argsort(echoes.distance, kind="stable")), sensor, rng)


def _in_view(radar: RadarDescription, distance: Array, azimuth: Array) -> NDArray[np.bool_]:
    seen = np.zeros(len(distance), dtype=bool)
    for view in radar.views:
        seen |= (distance < view.range_m) & (np.abs(azimuth) < np.radians(view.half_angle_deg))
    return seen & (distance > 0.3)


@dataclass(frozen=True)
class _Bearing:
    """All things as seen from one radar: offset of their middles, the sensor in their frames, gap to their sides."""

    cos: Array
    sin: Array
    dx: Array
    dy: Array
    px: Array
    py: Array
    outside_x: Array
    outside_y: Array


def _bearings(reflectors: Reflectors, placement: Placement, sensor: SensorMotion) -> _Bearing:
    c, s = np.cos(placement.yaw), np.sin(placement.yaw)
    dx = placement.x + c * reflectors.centre_x - sensor.x
    dy = placement.y + s * reflectors.centre_x - sensor.y
    px, py = -(c * dx + s * dy), s * dx - c * dy
    outside_x = np.maximum(np.abs(px) - reflectors.half_length, 0)
    outside_y = np.maximum(np.abs(py) - reflectors.half_width, 0)
    return _Bearing(c, s, dx, dy, px, py, outside_x, outside_y)


def _object_echoes(
    radar: RadarDescription,
    reflectors: Reflectors,
    placement: Placement,
    sensor: SensorMotion,
    rng: np.random.Generator,
) -> Echoes:
    """Detections on the sides of things that face the radar, as far as they are strong enough to be noticed."""
    bearing = _bearings(reflectors, placement, sensor)
    gap = np.maximum(np.hypot(bearing.outside_x, bearing.outside_y), 1.0)
    # surroundings are long, so the number of their echoes grows with length
    extent = np.maximum(reflectors.half_length, reflectors.half_width)
    stretch = np.where(reflectors.stands_out, 1.0, np.clip(extent / 4.0, 0.5, 3.0))
    mean = radar.resolution * reflectors.detections * stretch * np.clip(20.0 / gap, 0.35, 1.6) ** 0.5
    number = np.where(gap < radar.range_m, rng.poisson(mean), 0)
    thing = np.repeat(np.arange(len(gap)), number)
    u = rng.random((4, len(thing)))
    # The power of many scattering centres is exponentially distributed (Swerling's first case).
    fading, swing = rng.exponential(1.0, len(thing)), rng.normal(0, 1, len(thing))
    on_x_face = _picks_x_face(bearing, reflectors, thing, u[0])
    arm_x, arm_y = _points_on_faces(bearing, reflectors, thing, on_x_face, u)
    at_x, at_y = bearing.dx[thing] + arm_x, bearing.dy[thing] + arm_y
    in_view = np.flatnonzero(_in_view(radar, np.hypot(at_x, at_y), _wrap(np.arctan2(at_y, at_x) - sensor.yaw)))
    thing = thing[in_view]
    arm_x, arm_y, at_x, at_y = (v[in_view] for v in (arm_x, arm_y, at_x, at_y))
    distance, azimuth = np.hypot(at_x, at_y), np.arctan2(at_y, at_x)
    lever_x = arm_x + (bearing.cos * reflectors.centre_x)[thing]
    lever_y = arm_y + (bearing.sin * reflectors.centre_x)[thing]
    vx = placement.vx[thing] - placement.yaw_rate[thing] * lever_y
    vy = placement.vy[thing] + placement.yaw_rate[thing] * lever_x
    moving = np.hypot(placement.vx, placement.vy)[thing] > 0.1
    radial = vx * np.cos(azimuth) + vy * np.sin(azimuth)
    radial = radial + swing[in_view] * np.where(moving, reflectors.jitter[thing], 0.05)
    straight = np.where(on_x_face[in_view], np.abs(bearing.px[thing]), np.abs(bearing.py[thing]))
    faces = straight / np.hypot(bearing.px, bearing.py)[thing]
    power_left = 1 - _blocked(reflectors, bearing, at_x, at_y, thing)
    rcs = reflectors.rcs[thing] + reflectors.facing[thing] * (faces**4 - 0.3)
    rcs = rcs + 10 * np.log10(np.maximum(fading[in_view], 0.02)) + 8 * np.log10(power_left + 1e-6)
    relative = _wrap(azimuth - sensor.yaw)
    gain = radar.sensitivity_db - 12 * np.minimum(np.abs(relative) / np.radians(radar.widest.half_angle_deg), 1) ** 2
    margin = rcs + gain - 40 * np.log10(distance / 45.0) + 9.0
    chance = 0.93 / (1 + np.exp(-margin / 2.5)) * np.clip(power_left * 1.3, 0, 1)
    keep = np.flatnonzero(u[3][in_view] < chance)
    height = _heights(radar, reflectors, thing[keep], sensor, rng)
    return Echoes(distance[keep], relative[keep], rcs[keep], radial[keep], np.zeros(len(keep), dtype=bool), height)


def _heights(
    radar: RadarDescription,
    reflectors: Reflectors,
    thing: NDArray[np.int64],
    sensor: SensorMotion,
    rng: np.random.Generator,
) -> Array:
    """How far above the radar things reflect: anywhere on them, lower parts most often."""
    if radar.elevation_half_angle_deg is None:
        return np.zeros(len(thing))
    low, high = reflectors.bottom[thing], reflectors.top[thing]
    return low + (high - low) * (0.1 + 0.8 * rng.random(len(thing)) ** 1.3) - sensor.z


def _points_on_faces(
    bearing: _Bearing, reflectors: Reflectors, thing: NDArray[np.int64], on_x_face: NDArray[np.bool_], u: Array
) -> tuple[Array, Array]:
    """Where things reflect, relative to their middles in world directions: corners and wheel houses most often."""
    across = np.sign(u[1] - 0.5) * np.abs(2 * u[1] - 1) ** 0.6
    depth = 0.25 * u[2] * np.minimum(1.0, np.minimum(reflectors.half_length, reflectors.half_width)[thing])
    hx, hy = reflectors.half_length[thing], reflectors.half_width[thing]
    x = np.where(on_x_face, np.sign(bearing.px[thing]) * (hx - depth), across * hx * 0.95)
    y = np.where(on_x_face, across * hy * 0.95, np.sign(bearing.py[thing]) * (hy - depth))
    c, s = bearing.cos[thing], bearing.sin[thing]
    return c * x - s * y, s * x + c * y


def _picks_x_face(bearing: _Bearing, reflectors: Reflectors, thing: NDArray[np.int64], u: Array) -> NDArray[np.bool_]:
    """Whether a detection lies on the front or back face: by how large each visible face looks from the sensor."""
    outside_x, outside_y = bearing.outside_x[thing], bearing.outside_y[thing]
    reach = np.hypot(outside_x, outside_y) + 1e-6
    end_on = reflectors.half_width[thing] * outside_x / reach + 1e-6
    side_on = reflectors.half_length[thing] * outside_y / reach
    return u < end_on / (end_on + side_on)


def _blocked(reflectors: Reflectors, bearing: _Bearing, at_x: Array, at_y: Array, thing: NDArray[np.int64]) -> Array:
    """Share of the power that things in between take away from each line of sight, 0 to 1."""
    near = np.hypot(bearing.outside_x, bearing.outside_y) < 80.0
    matter = np.flatnonzero((reflectors.blocks > 0.04) & near)
    c, s = bearing.cos[matter], bearing.sin[matter]
    start_x, start_y = bearing.px[matter], bearing.py[matter]
    dir_x = at_x[:, None] * c + at_y[:, None] * s
    dir_y = at_y[:, None] * c - at_x[:, None] * s
    inverse_x = 1 / np.where(np.abs(dir_x) < 1e-9, 1e-9, dir_x)
    inverse_y = 1 / np.where(np.abs(dir_y) < 1e-9, 1e-9, dir_y)
    middle_x, half_x = -start_x * inverse_x, reflectors.half_length[matter] * np.abs(inverse_x)
    middle_y, half_y = -start_y * inverse_y, reflectors.half_width[matter] * np.abs(inverse_y)
    entry = np.maximum(middle_x - half_x, middle_y - half_y)
    leave = np.minimum(middle_x + half_x, middle_y + half_y)
    between = (entry < leave) & (leave > 0) & (entry < 0.999) & (matter[None] != thing[:, None])
    return 1 - np.where(between, 1 - reflectors.blocks[matter], 1.0).prod(axis=1)


def _ghosts(echoes: Echoes, rng: np.random.Generator) -> Echoes:
    """Multipath: echoes behind strong reflectors, a little off in angle, with about the same velocity."""
    chance = np.where(echoes.rcs > 14, 0.07, np.where(echoes.rcs > 7, 0.03, 0.0))
    source = np.flatnonzero(rng.random(len(echoes.rcs)) < chance)
    n = len(source)
    return Echoes(
        echoes.distance[source] + rng.uniform(2.0, 14.0, n),
        echoes.azimuth[source] + rng.normal(0, np.radians(1.5), n),
        echoes.rcs[source] - rng.uniform(6, 14, n),
        echoes.radial[source] * rng.choice([1.0, 1.0, 2.0], n),
        np.ones(n, dtype=bool),
        echoes.height[source],
    )


def _false_alarms(radar: RadarDescription, sensor: SensorMotion, rng: np.random.Generator) -> Echoes:
    """Ground clutter and noise, anywhere in the view."""
    widest, half_angle = radar.widest, np.radians(radar.widest.half_angle_deg)
    n = int(rng.poisson(5.0 * radar.resolution))
    ghost = rng.random(n) < 0.3
    return Echoes(
        rng.uniform(3.0, widest.range_m, n),
        rng.uniform(-half_angle, half_angle, n),
        rng.normal(-4.0, 4.0, n),
        np.where(ghost, rng.normal(0, 2.0, n), rng.normal(0, 0.1, n)),
        ghost,
        np.full(n, -sensor.z),
    )


def _wrap(angle: Array) -> Array:
    return (angle + np.pi) % (2 * np.pi) - np.pi


def _select(echoes: Echoes, which: NDArray[np.int64]) -> Echoes:
    return Echoes(*(getattr(echoes, field.name)[which] for field in fields(Echoes)))


def _join(*groups: Echoes) -> Echoes:
    return Echoes(*(np.concatenate([getattr(group, field.name) for group in groups]) for field in fields(Echoes)))
