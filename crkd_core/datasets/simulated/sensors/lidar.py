"""Spinning LiDARs: beams cast against the convex parts of all things and the ground."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crkd_core.datasets.simulated.arrays import Array
from crkd_core.datasets.simulated.sensors.assembly import Assembly, Indices, Placement, turn
from crkd_core.datasets.simulated.sensors.rig_description import LidarDescription, package_rig
from crkd_core.datasets.simulated.world.ground import Ground
from crkd_core.datasets.simulated.world.script import Conditions
from crkd_core.geometry.transforms import inverse_rigid, rotate_vectors, transform_points

RANGE_NOISE_M = 0.02
_PAIRS_AT_ONCE = 400_000


@dataclass(frozen=True)
class Beams:
    """Ray directions in the sensor frame, firing by firing, in each the beams from the lowest (ring 0) up."""

    directions: NDArray[np.float32]  # (steps * beams, 3)
    elevations: Array  # (beams,)
    steps: int
    nearest_m: float
    range_m: float

    @property
    def count(self) -> int:
        """Number of beams."""
        return len(self.elevations)


def build_beams(azimuth_steps: int, lidar: LidarDescription | None = None) -> Beams:
    """All rays of one revolution, which starts behind the sensor (its -y) and turns clockwise.

    Args:
        azimuth_steps: Firings of the revolution.
        lidar: The sensor; none: nuScenes'.
    """
    lidar = lidar or package_rig("nuscenes").reference
    elevations = np.radians(np.linspace(*lidar.elevation_deg, lidar.beams))
    azimuths = -np.pi / 2 - 2 * np.pi * np.arange(azimuth_steps) / azimuth_steps
    az, el = np.meshgrid(azimuths, elevations, indexing="ij")
    directions = np.stack([np.cos(el) * np.cos(az), np.cos(el) * np.sin(az), np.sin(el)], axis=-1)
    rays = directions.reshape(-1, 3).astype(np.float32)
    return Beams(rays, elevations, azimuth_steps, lidar.nearest_m, lidar.range_m)


def scan(
    beams: Beams,
    assembly: Assembly,
    placement: Placement,
    world_from_sensor: Array,
    ground: Ground,
    conditions: Conditions,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """One sweep.

    Returns:
        (N, 6) points in the sensor frame: x, y, z in m, intensity 0 to 255, ring index, and at which part of the
        revolution (0 to 1) the beam passed. All points are as at the time of the sweep: motion is taken out of them.
    """
    rays = len(beams.directions)
    distance, cosine, reflectivity = _ground_hits(beams, world_from_sensor, ground)
    _part_hits(beams, assembly, placement, world_from_sensor, distance, cosine, reflectivity)
    noise = rng.standard_normal(rays, dtype=np.float32)
    chance = rng.random(rays, dtype=np.float32)
    haze = np.exp(-distance / (120.0 if conditions.rain else 600.0))
    signal = reflectivity * (0.25 + 0.75 * cosine) * haze
    keep_probability = np.clip(
        1.02 - 0.12 / (1 + 40 * signal) - 0.35 * (distance / beams.range_m) ** 2 * (1 - cosine), 0, 1
    )
    if conditions.rain:
        keep_probability *= 0.86 * np.exp(-distance / 160.0)
    seen = (distance < beams.range_m) & (distance > beams.nearest_m) & (chance < keep_probability)
    ray = np.flatnonzero(seen)
    points = np.empty((len(ray), 6), dtype=np.float32)
    measured = distance[seen] + RANGE_NOISE_M * noise[seen]
    points[:, :3] = beams.directions[seen] * measured[:, None]
    speckle = 1 + 0.15 * np.roll(noise, 1)[seen]
    points[:, 3] = np.clip(np.floor(110 * signal[seen] * speckle + 1), 0, 255)
    points[:, 4] = ray % beams.count
    points[:, 5] = ray // beams.count / beams.steps
    return points


def _ground_hits(
    beams: Beams, world_from_sensor: Array, ground: Ground
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Distance, cosine of incidence and reflectivity where each ray meets the ground plane (inf where it does not)."""
    directions = rotate_vectors(world_from_sensor[:3, :3], beams.directions)
    falling = directions[:, 2] < -1e-3
    height = np.float32(world_from_sensor[2, 3])
    distance = np.full(len(directions), np.inf, dtype=np.float32)
    distance[falling] = height / -directions[falling, 2]
    near = distance < beams.range_m + 1
    reflectivity = np.zeros(len(directions), dtype=np.float32)
    hits = directions[near, :2] * distance[near, None] + world_from_sensor[:2, 3].astype(np.float32)
    reflectivity[near] = ground.reflectivity_at(hits[:, 0], hits[:, 1])
    return distance, np.abs(directions[:, 2]), reflectivity


def _part_hits(
    beams: Beams,
    assembly: Assembly,
    placement: Placement,
    world_from_sensor: Array,
    distance: NDArray[np.float32],
    cosine: NDArray[np.float32],
    reflectivity: NDArray[np.float32],
) -> None:
    """Lower the three per-ray arrays, which the caller owns, to the nearest part that each ray meets."""
    parts = assembly.parts
    sensor_from_world = inverse_rigid(world_from_sensor)
    offset = np.hypot(placement.x - world_from_sensor[0, 3], placement.y - world_from_sensor[1, 3])
    radius = np.hypot(np.abs(assembly.high[:, :2]).max(axis=1), np.abs(assembly.low[:, :2]).max(axis=1))
    close = np.flatnonzero((offset < beams.range_m + radius)[parts.thing])
    thing = parts.thing[close]
    yaw = placement.yaw[thing]
    shift = np.stack([placement.x[thing], placement.y[thing], np.zeros(len(thing))], axis=1)
    corners = transform_points(sensor_from_world, (turn(parts.corners[close], yaw) + shift[:, None]).astype(np.float32))
    world_normals = turn(parts.normals[close], yaw).astype(np.float32)
    normals = rotate_vectors(sensor_from_world[:3, :3], world_normals)
    reach = (shift - world_from_sensor[:3, 3]).astype(np.float32)
    offsets = parts.offsets[close] + (world_normals * reach[:, None]).sum(axis=-1)
    first_step, steps, first_beam, count = _windows(beams, corners)
    pairs = steps * count
    cuts = np.searchsorted(np.cumsum(pairs), np.arange(_PAIRS_AT_ONCE, pairs.sum() + _PAIRS_AT_ONCE, _PAIRS_AT_ONCE))
    begin = 0
    for end in np.minimum(cuts + 1, len(close)):
        if end <= begin:
            continue
        chunk = slice(begin, int(end))
        part = np.repeat(np.arange(begin, int(end)), pairs[chunk])
        local = np.arange(len(part)) - np.repeat(np.cumsum(pairs[chunk]) - pairs[chunk], pairs[chunk])
        column = (first_step[part] + local // count[part]) % beams.steps
        ray = column * beams.count + first_beam[part] + local % count[part]
        depth, slant = _enter(beams.directions[ray], part, normals, offsets)
        hit = np.flatnonzero(depth < distance[ray])
        ray, part, depth, slant = ray[hit], part[hit], depth[hit], slant[hit]
        np.minimum.at(distance, ray, depth)
        winner = depth == distance[ray]
        cosine[ray[winner]] = slant[winner]
        reflectivity[ray[winner]] = parts.reflectivity[close][part[winner]]
        begin = int(end)


def _windows(beams: Beams, corners: NDArray[np.float32]) -> tuple[Indices, Indices, Indices, Indices]:
    """Firings and beams that may meet each part: first firing, number of firings, first beam, number of beams."""
    flat = np.hypot(corners[..., 0], corners[..., 1])
    azimuth = np.arctan2(corners[..., 1], corners[..., 0])
    middle = np.arctan2(corners[..., 1].mean(axis=1), corners[..., 0].mean(axis=1))
    spread = (azimuth - middle[:, None] + np.pi) % (2 * np.pi) - np.pi
    low, high = spread.min(axis=1), spread.max(axis=1)
    around = high - low > np.pi
    per_rad = beams.steps / (2 * np.pi)
    # the revolution turns clockwise from -pi/2, so the largest azimuth comes first
    first = np.floor((-np.pi / 2 - (middle + high)) * per_rad).astype(np.int64)
    steps = np.ceil((high - low) * per_rad).astype(np.int64) + 2
    first, steps = np.where(around, 0, first), np.where(around, beams.steps, np.minimum(steps, beams.steps))
    centre = corners[..., :2].mean(axis=1)
    reach = np.hypot(*(corners[..., :2] - centre[:, None]).transpose(2, 0, 1)).max(axis=1)
    nearest = np.maximum(np.hypot(centre[:, 0], centre[:, 1]) - reach, 0.05)
    furthest = flat.max(axis=1)
    bottom, top = corners[..., 2].min(axis=1), corners[..., 2].max(axis=1)
    lowest = np.arctan2(bottom, np.where(bottom < 0, nearest, furthest))
    highest = np.arctan2(top, np.where(top > 0, nearest, furthest))
    pitch = beams.elevations[1] - beams.elevations[0]
    begin = np.clip(np.floor((lowest - beams.elevations[0]) / pitch), 0, beams.count).astype(np.int64)
    end = np.clip(np.ceil((highest - beams.elevations[0]) / pitch) + 1, 0, beams.count).astype(np.int64)
    return first, steps, begin, np.maximum(end - begin, 0)


def _enter(
    directions: NDArray[np.float32], part: Indices, normals: NDArray[np.float32], offsets: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Where rays from the origin enter their parts: distance (inf: not at all) and cosine of incidence."""
    entry = np.zeros(len(part), dtype=np.float32)
    leave = np.full(len(part), np.inf, dtype=np.float32)
    slant = np.zeros(len(part), dtype=np.float32)
    for face in range(6):
        n = normals[:, face][part]
        d = offsets[:, face][part]
        along = directions[:, 0] * n[:, 0] + directions[:, 1] * n[:, 1] + directions[:, 2] * n[:, 2]
        along = np.where(np.abs(along) < 1e-7, np.float32(1e-7), along)
        t = d / along
        inward = along < 0
        later = inward & (t > entry)
        slant = np.where(later, -along, slant)
        entry = np.where(later, t, entry)
        leave = np.where(inward, leave, np.minimum(leave, t))
    return np.where((entry <= leave) & (entry > 0), entry, np.float32(np.inf)), slant
