"""The five radars: few, noisy detections with radial velocities, clutter, ghosts and misses.

A detection's velocity has only one measured part, along the line of sight. The fields are those of the real sensor (see
:mod:`~crkd_core.datasets.nuscenes.radar`): vx, vy are relative to the moving and turning sensor and not radial,
vx_comp, vy_comp are radial, with the sensor's own motion taken out.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crkd_core.datasets.nuscenes.radar import RADAR_RECORD
from crkd_core.datasets.simulated.arrays import Array
from crkd_core.datasets.simulated.sensors.assembly import Assembly, Placement
from crkd_core.datasets.simulated.world.script import Thing

MOST_POINTS = 125
FAR_RANGE_M, FAR_HALF_ANGLE = 250.0, np.radians(9.0)
NEAR_RANGE_M, NEAR_HALF_ANGLE = 70.0, np.radians(60.0)
MOVING_MPS = 0.45


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
    blocks: Array  # how much of the power something behind loses, 0 to 1
    stands_out: NDArray[np.bool_]


@dataclass(frozen=True)
class SensorMotion:
    """Pose and motion of one radar in the world frame."""

    x: float
    y: float
    yaw: float
    vx: float
    vy: float
    yaw_rate: float = 0.0


@dataclass(frozen=True)
class _Echoes:
    """Detections before they are written down: true direction and motion, signal, and flags."""

    distance: Array
    azimuth: Array
    rcs: Array
    radial: Array  # over ground, along the line of sight
    ghost: NDArray[np.bool_]


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
        blocks=np.where(solid, 0.995, blocks),
        stands_out=~clutter,
    )


def detect(
    reflectors: Reflectors, placement: Placement, sensor: SensorMotion, rng: np.random.Generator
) -> NDArray[Any]:
    """One sweep: a structured array of at most 125 points in the sensor frame, nearest first."""
    echoes = _object_echoes(reflectors, placement, sensor, rng)
    echoes = _join(echoes, _ghosts(echoes, rng), _false_alarms(rng))
    field_of_view = _in_view(echoes.distance, echoes.azimuth)
    echoes = _select(echoes, np.flatnonzero(field_of_view))
    if len(echoes.distance) > MOST_POINTS:
        strongest = np.argsort(-(echoes.rcs - 25 * np.log10(echoes.distance)), kind="stable")[:MOST_POINTS]
        echoes = _select(echoes, strongest)
    return _points(_select(echoes, np.argsort(echoes.distance, kind="stable")), sensor, rng)


def _in_view(distance: Array, azimuth: Array) -> NDArray[np.bool_]:
    near = (distance < NEAR_RANGE_M) & (np.abs(azimuth) < NEAR_HALF_ANGLE)
    far = (distance < FAR_RANGE_M) & (np.abs(azimuth) < FAR_HALF_ANGLE)
    return (near | far) & (distance > 0.3)


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
    reflectors: Reflectors, placement: Placement, sensor: SensorMotion, rng: np.random.Generator
) -> _Echoes:
    """Detections on the sides of things that face the radar, as far as they are strong enough to be noticed."""
    bearing = _bearings(reflectors, placement, sensor)
    gap = np.maximum(np.hypot(bearing.outside_x, bearing.outside_y), 1.0)
    # surroundings are long, so the number of their echoes grows with length
    extent = np.maximum(reflectors.half_length, reflectors.half_width)
    stretch = np.where(reflectors.stands_out, 1.0, np.clip(extent / 4.0, 0.5, 3.0))
    mean = reflectors.detections * stretch * np.clip(20.0 / gap, 0.35, 1.6) ** 0.5
    number = np.where(gap < FAR_RANGE_M, rng.poisson(mean), 0)
    thing = np.repeat(np.arange(len(gap)), number)
    u = rng.random((4, len(thing)))
    # The power of many scattering centres is exponentially distributed (Swerling's first case).
    fading, swing = rng.exponential(1.0, len(thing)), rng.normal(0, 1, len(thing))
    on_x_face = _picks_x_face(bearing, reflectors, thing, u[0])
    arm_x, arm_y = _points_on_faces(bearing, reflectors, thing, on_x_face, u)
    at_x, at_y = bearing.dx[thing] + arm_x, bearing.dy[thing] + arm_y
    in_view = np.flatnonzero(_in_view(np.hypot(at_x, at_y), _wrap(np.arctan2(at_y, at_x) - sensor.yaw)))
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
    gain = -12 * np.minimum(np.abs(relative) / NEAR_HALF_ANGLE, 1) ** 2
    margin = rcs + gain - 40 * np.log10(distance / 45.0) + 9.0
    chance = 0.93 / (1 + np.exp(-margin / 2.5)) * np.clip(power_left * 1.3, 0, 1)
    keep = np.flatnonzero(u[3][in_view] < chance)
    return _Echoes(distance[keep], relative[keep], rcs[keep], radial[keep], np.zeros(len(keep), dtype=bool))


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


def _ghosts(echoes: _Echoes, rng: np.random.Generator) -> _Echoes:
    """Multipath: echoes behind strong reflectors, a little off in angle, with about the same velocity."""
    chance = np.where(echoes.rcs > 14, 0.07, np.where(echoes.rcs > 7, 0.03, 0.0))
    source = np.flatnonzero(rng.random(len(echoes.rcs)) < chance)
    n = len(source)
    return _Echoes(
        echoes.distance[source] + rng.uniform(2.0, 14.0, n),
        echoes.azimuth[source] + rng.normal(0, np.radians(1.5), n),
        echoes.rcs[source] - rng.uniform(6, 14, n),
        echoes.radial[source] * rng.choice([1.0, 1.0, 2.0], n),
        np.ones(n, dtype=bool),
    )


def _false_alarms(rng: np.random.Generator) -> _Echoes:
    """Ground clutter and noise, anywhere in the view."""
    n = int(rng.poisson(5.0))
    ghost = rng.random(n) < 0.3
    return _Echoes(
        rng.uniform(3.0, NEAR_RANGE_M, n),
        rng.uniform(-NEAR_HALF_ANGLE, NEAR_HALF_ANGLE, n),
        rng.normal(-4.0, 4.0, n),
        np.where(ghost, rng.normal(0, 2.0, n), rng.normal(0, 0.1, n)),
        ghost,
    )


def _points(echoes: _Echoes, sensor: SensorMotion, rng: np.random.Generator) -> NDArray[Any]:
    """Add measurement noise and fill the 18 fields, on the number grid of the real sensor."""
    n = len(echoes.distance)
    weak = np.clip((8.0 - echoes.rcs) / 20.0, 0, 1)
    range_noise = 0.1 + 0.3 * np.clip(0.5 * weak + 0.5 * echoes.distance / NEAR_RANGE_M, 0, 1)
    edge = np.clip(np.abs(echoes.azimuth) / NEAR_HALF_ANGLE, 0, 1)
    angle_noise = np.radians(0.3 + 1.2 * np.clip(0.6 * edge + 0.4 * weak, 0, 1))
    distance = np.maximum(echoes.distance + rng.normal(0, 1, n) * range_noise, 0.3)
    azimuth = echoes.azimuth + rng.normal(0, 1, n) * angle_noise
    x, y = np.round(distance * np.cos(azimuth) / 0.2) * 0.2, np.round(distance * np.sin(azimuth) / 0.2) * 0.2
    reach = np.maximum(np.hypot(x, y), 1e-3)
    ux, uy = x / reach, y / reach
    points = np.zeros(n, dtype=RADAR_RECORD)
    points["x"], points["y"] = x, y
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


def _relative_velocity(echoes: _Echoes, sensor: SensorMotion, x: Array, y: Array) -> tuple[Array, Array]:
    """Velocity against the moving sensor, in its axes, of points at (x, y).

    Along the line of sight it is what was measured. The rest is filled in as on real frames: what stands has the
    motion of the ground as the turning sensor sees it, what moves has no lateral velocity.
    """
    c, s = np.cos(sensor.yaw), np.sin(sensor.yaw)
    own_x, own_y = c * sensor.vx + s * sensor.vy, c * sensor.vy - s * sensor.vx
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


def _wrap(angle: Array) -> Array:
    return (angle + np.pi) % (2 * np.pi) - np.pi


def _select(echoes: _Echoes, which: NDArray[np.int64]) -> _Echoes:
    return _Echoes(
        echoes.distance[which],
        echoes.azimuth[which],
        echoes.rcs[which],
        echoes.radial[which],
        echoes.ghost[which],
    )


def _join(*groups: _Echoes) -> _Echoes:
    return _Echoes(
        *(
            np.concatenate([getattr(g, name) for g in groups])
            for name in ("distance", "azimuth", "rcs", "radial", "ghost")
        )
    )
