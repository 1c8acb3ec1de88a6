"""What lies behind the things in an image: textured ground, shadows on it, and a sky with clouds and a skyline."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from crkd_core.datasets.simulated.arrays import Array
from crkd_core.datasets.simulated.sensors.rig import Sensor
from crkd_core.datasets.simulated.world.ground import Ground
from crkd_core.datasets.simulated.world.script import Conditions

Image = NDArray[Any]
"""Pixels, uint8, (rows, columns, 3) RGB or one channel."""

_MATERIAL_COLOURS = np.array(
    [(104, 122, 74), (150, 146, 138), (92, 93, 96), (214, 212, 204), (112, 88, 84), (84, 85, 90)],
    dtype=np.float32,
)
_SKY_ROWS, _SKY_TOP_RAD, _SKY_BOTTOM_RAD = 192, 0.75, -0.06


@dataclass(frozen=True)
class Light:
    """Sun or moon and what falls from everywhere; all factors are relative to full daylight."""

    to_sun: Array  # (3,) unit, world frame
    sun: float
    ambient: float
    haze_colour: NDArray[np.float32]
    haze_m: float


@dataclass(frozen=True)
class Backdrop:
    """Textures of one scene: the ground at three sharpnesses, and the sky as a panorama seen from anywhere."""

    ground: tuple[Image, ...]
    cells_m: tuple[float, ...]
    origin: tuple[float, float]
    sky: Image
    light: Light
    conditions: Conditions


@dataclass(frozen=True)
class View:
    """One camera at the size it is rendered in, with what does not change from frame to frame.

    Things further away than `sight_m` are not drawn.
    """

    sensor: Sensor
    sight_m: float
    width: int
    height: int
    focal: float
    centre: tuple[float, float]
    ego_from_camera: Array
    horizon: int
    sky_azimuth: NDArray[np.float32]
    sky_row: NDArray[np.float32]
    row_depth: NDArray[np.float32]
    headlight: NDArray[np.float32]


def build_light(conditions: Conditions, rng: np.random.Generator) -> Light:
    """Light of a scene."""
    azimuth, elevation = rng.uniform(0, 2 * np.pi), rng.uniform(0.6, 1.1)
    to_sun = np.array([np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)])
    if conditions.night:
        return Light(to_sun, 0.03, 0.2, np.array([26, 28, 36], dtype=np.float32), 160.0)
    if conditions.rain:
        return Light(to_sun, 0.06, 0.86, np.array([168, 172, 176], dtype=np.float32), 110.0)
    if conditions.overcast:
        return Light(to_sun, 0.22, 0.68, np.array([198, 202, 206], dtype=np.float32), 320.0)
    return Light(to_sun, 0.62, 0.5, np.array([190, 206, 222], dtype=np.float32), 420.0)


def build_backdrop(ground: Ground, conditions: Conditions, lamps: Array, rng: np.random.Generator) -> Backdrop:
    """Textures of a scene; `lamps` are (N, 2) positions of street lamps."""
    light = build_light(conditions, rng)
    colours = _MATERIAL_COLOURS * (0.72 if conditions.rain else 1.0) + rng.normal(0, 3, (6, 3)).astype(np.float32)
    image: Image = np.clip(colours, 0, 255).astype(np.uint8)[ground.material]
    tile = _noise_tile(rng)
    rows, columns = ground.material.shape
    repeats = (rows // tile.shape[0] + 1, columns // tile.shape[1] + 1)
    noise = np.tile(tile, repeats)[:rows, :columns]
    image = cv2.add(image, cv2.merge([noise] * 3), dtype=cv2.CV_8U)
    image = _stains(image, ground, rng)
    level = light.ambient + light.sun * light.to_sun[2]
    lit = np.full((rows // 8 + 1, columns // 8 + 1), level, dtype=np.float32)
    if conditions.night:
        lit = np.maximum(lit, _lamp_light(lit, lamps, ground))
    factor = cv2.resize(lit, (columns, rows), interpolation=cv2.INTER_LINEAR)
    tint = np.array([1.0, 0.93, 0.8] if conditions.night else [1.0, 1.0, 1.0], dtype=np.float32)
    channels = [cv2.multiply(image[..., k], factor * tint[k], dtype=cv2.CV_8U) for k in range(3)]
    fine = cv2.merge(channels)
    levels, cells = [fine], [ground.cell_m]
    for _ in range(2):
        fine = cv2.resize(fine, (fine.shape[1] // 4, fine.shape[0] // 4), interpolation=cv2.INTER_AREA)
        levels.append(fine)
        cells.append(cells[-1] * 4)
    return Backdrop(tuple(levels), tuple(cells), ground.origin, _sky(light, conditions, rng), light, conditions)


def _noise_tile(rng: np.random.Generator, size: int = 512) -> NDArray[np.int16]:
    noise = 5.0 * rng.standard_normal((size, size), dtype=np.float32)
    for cells, strength in ((64, 5.0), (16, 6.0), (8, 4.0)):
        coarse = rng.standard_normal((cells, cells), dtype=np.float32)
        noise += strength * cv2.resize(np.pad(coarse, 1, mode="wrap"), (size, size), interpolation=cv2.INTER_CUBIC)
    return np.round(noise).astype(np.int16)


def _stains(image: Image, ground: Ground, rng: np.random.Generator) -> Image:
    """Repair patches, cracks and manholes on the asphalt."""
    rows, columns = ground.material.shape
    count = int(rows * columns * ground.cell_m**2 / 900)
    for _ in range(count):
        x, y = int(rng.integers(columns)), int(rng.integers(rows))
        if ground.material[y, x] not in (2, 5):
            continue
        kind = rng.random()
        tone = float(rng.uniform(58, 78))
        if kind < 0.5:
            w, h = int(rng.uniform(0.8, 5) / ground.cell_m), int(rng.uniform(0.6, 2.2) / ground.cell_m)
            patch = image[y : y + h, x : x + w]
            patch[:] = (patch * 0.45 + tone * 0.55).astype(np.uint8)
        elif kind < 0.8:
            walk = np.cumsum(rng.normal(0, 0.5 / ground.cell_m, (12, 2)), axis=0) + np.array([x, y])
            cv2.polylines(image, [walk.astype(np.int32)], False, (tone - 10,) * 3, 1)
        else:
            cv2.circle(image, (x, y), max(1, int(0.35 / ground.cell_m)), (tone - 16,) * 3, -1)
    return image


def _lamp_light(lit: NDArray[np.float32], lamps: Array, ground: Ground) -> NDArray[np.float32]:
    cell = ground.cell_m * 8
    pools = np.zeros_like(lit)
    for x, y in lamps:
        column, row = int((x - ground.origin[0]) / cell), int((y - ground.origin[1]) / cell)
        if 0 <= row < lit.shape[0] and 0 <= column < lit.shape[1]:
            pools[row, column] += 1.0
    sigma = 5.0 / cell
    return cv2.GaussianBlur(pools, (0, 0), sigma) * np.float32(2 * np.pi * sigma**2 * 0.55)


def _sky(light: Light, conditions: Conditions, rng: np.random.Generator) -> Image:
    """Panorama over all azimuths (columns, one extra turn) and the elevations between the two limits (rows)."""
    width = 2048
    elevation = np.linspace(_SKY_TOP_RAD, _SKY_BOTTOM_RAD, _SKY_ROWS, dtype=np.float32)[:, None, None]
    zenith = np.array(
        [16, 18, 30] if conditions.night else ([150, 156, 164] if conditions.overcast else [92, 142, 206]),
        dtype=np.float32,
    )
    blend = np.clip(elevation / 0.6, 0, 1) ** 0.6
    sky = np.broadcast_to(light.haze_colour * (1 - blend) + zenith * blend, (_SKY_ROWS, width, 3)).copy()
    clouds = np.zeros((_SKY_ROWS, width), dtype=np.float32)
    for cells, strength in ((8, 1.0), (16, 0.6), (64, 0.35)):
        coarse = rng.standard_normal((cells // 2, cells), dtype=np.float32)
        coarse = np.pad(coarse, ((0, 0), (2, 2)), mode="wrap")
        margin = 2 * width // cells
        field = cv2.resize(coarse, (width // cells * cells + 2 * margin, _SKY_ROWS), interpolation=cv2.INTER_CUBIC)
        field = field[:, margin : margin + width]
        clouds += strength * field[:, :width]
    cover = np.clip((clouds - (0.4 if not conditions.overcast else -0.6)) * 0.8, 0, 1)[..., None]
    white = light.haze_colour * 0.6 + (np.float32(100) if not conditions.night else np.float32(18))
    sky = sky * (1 - 0.8 * cover) + np.clip(white, 0, 255) * 0.8 * cover
    _skyline(sky, light, conditions, rng)
    image = np.clip(sky, 0, 255).astype(np.uint8)
    return np.concatenate([image, image], axis=1)


def _skyline(sky: NDArray[np.float32], light: Light, conditions: Conditions, rng: np.random.Generator) -> None:
    """Hazy trees and towers at the horizon, painted into the panorama, which the caller owns."""
    rows, width = sky.shape[:2]
    per_rad = rows / (_SKY_TOP_RAD - _SKY_BOTTOM_RAD)
    base = int(_SKY_TOP_RAD * per_rad)
    for depth, (low, high) in enumerate(((0.02, 0.075), (0.008, 0.035))):
        tone = light.haze_colour * (0.8 - 0.16 * depth) + (np.array([0, 4, 0]) if depth else 0)
        x = 0
        while x < width:
            step = int(rng.integers(8, 40))
            top = base - int(rng.uniform(low, high) * per_rad)
            sky[top:, x : x + step] = tone + rng.normal(0, 3)
            if conditions.night and depth == 0:
                for _ in range(4):
                    sky[
                        int(rng.integers(top, base + 1)),
                        x + int(rng.integers(step)) if x + step < width else x,
                    ] = (210, 180, 110)
            x += step


def build_view(sensor: Sensor, oversample: int, sight_m: float) -> View:
    """Everything about a camera that stays the same on flat ground: horizon, sky directions, depth of each row."""
    width, height = sensor.width_px * oversample, sensor.height_px * oversample
    focal = sensor.intrinsic[0][0] * oversample
    centre = (
        (sensor.intrinsic[0][2] + 0.5) * oversample - 0.5,
        (sensor.intrinsic[1][2] + 0.5) * oversample - 0.5,
    )
    mount = sensor.ego_from_sensor
    forward, down = mount[:3, 2], mount[:3, 1]
    rows = np.arange(height)
    slope = (rows - centre[1]) / focal * down[2] + forward[2]  # z of the ray per unit depth; no camera rolls
    horizon = int(np.clip(np.searchsorted(-slope, 1e-3), 0, height))
    row_depth = (mount[2, 3] / np.maximum(-slope[horizon:], 1e-3)).astype(np.float32)
    u, v = np.meshgrid((np.arange(width) - centre[0]) / focal, (np.arange(horizon + 1) - centre[1]) / focal)
    rays = u[..., None] * mount[:3, 0] + v[..., None] * down + forward
    azimuth = np.arctan2(rays[..., 1], rays[..., 0])
    elevation = np.arctan2(rays[..., 2], np.hypot(rays[..., 0], rays[..., 1]))
    sky_row = (_SKY_TOP_RAD - elevation) / (_SKY_TOP_RAD - _SKY_BOTTOM_RAD) * _SKY_ROWS
    ahead = u[-1][None] * row_depth[:, None] * mount[0, 0] + row_depth[:, None] * forward[0] + mount[0, 3]
    aside = u[-1][None] * row_depth[:, None] * mount[1, 0] + row_depth[:, None] * forward[1] + mount[1, 3]
    return View(
        sensor,
        sight_m,
        width,
        height,
        focal,
        centre,
        mount,
        horizon,
        np.mod(azimuth, 2 * np.pi).astype(np.float32),
        np.clip(sky_row, 0, _SKY_ROWS - 1).astype(np.float32),
        row_depth,
        headlight(ahead.astype(np.float32), aside.astype(np.float32)),
    )


def headlight(ahead: NDArray[np.float32], aside: NDArray[np.float32]) -> NDArray[np.float32]:
    """Light of the ego vehicle's own headlights at positions in the ego frame, relative to daylight."""
    distance = np.maximum(ahead - 3.5, 0.1)
    beam = np.exp(-((aside / (1.2 + 0.28 * distance)) ** 2)) * (distance / (distance + 3.0))
    return (0.75 * beam * np.exp(-distance / 24.0) * (ahead > 3.5)).astype(np.float32)


def paint_backdrop(view: View, backdrop: Backdrop, world_from_camera: Array, ego_yaw: float) -> Image:
    """Sky above the horizon and ground below it."""
    image = np.empty((view.height, view.width, 3), dtype=np.uint8)
    turn = np.float32(2048 / (2 * np.pi))
    columns = (view.sky_azimuth + np.float32(ego_yaw % (2 * np.pi))) * turn
    columns = np.where(columns >= 2048, columns - 2048, columns)
    sky = cv2.remap(backdrop.sky, columns, view.sky_row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    image[: view.horizon] = sky[: view.horizon]
    if view.horizon == view.height:
        return image
    row = view.horizon
    limits = _level_rows(view, backdrop)
    for texture, cell, end in zip(backdrop.ground[::-1], backdrop.cells_m[::-1], limits, strict=True):
        if end > row:
            _warp(image[row:end], row, view, texture, cell, backdrop.origin, world_from_camera)
            row = end
    haze = 1 - np.exp(-view.row_depth / backdrop.light.haze_m)
    count = int((haze > 0.03).sum())
    part = image[view.horizon : view.horizon + count].astype(np.float32)
    weight = haze[:count, None, None]
    if backdrop.conditions.night:
        below = image[view.horizon :].astype(np.float32)
        below *= 1 + view.headlight[..., None] * 4.0
        image[view.horizon :] = np.minimum(below, 255)
        part = below[:count]
    image[view.horizon : view.horizon + count] = np.minimum(
        part * (1 - weight) + backdrop.light.haze_colour * weight, 255
    )
    return image


def _level_rows(view: View, backdrop: Backdrop) -> list[int]:
    """Rows where each texture ends, coarsest first: it serves while its cells are smaller than a pixel's footprint."""
    height = view.ego_from_camera[2, 3]
    footprint = view.row_depth**2 / (view.focal * height)
    limits = [view.horizon + int((footprint > cell * 1.6).sum()) for cell in backdrop.cells_m[:0:-1]]
    return [*limits, view.height]


def _warp(
    out: Image,
    first_row: int,
    view: View,
    texture: Image,
    cell: float,
    origin: tuple[float, float],
    world_from_camera: Array,
) -> None:
    r, t = world_from_camera[:3, :3].T, world_from_camera[:3, 3]
    ground_to_camera = np.stack([r[:, 0], r[:, 1], -(r * t).sum(axis=1)], axis=1)
    cells = np.array([[cell, 0, origin[0] + cell / 2], [0, cell, origin[1] + cell / 2], [0, 0, 1.0]])
    intrinsic = np.array([[view.focal, 0, view.centre[0]], [0, view.focal, view.centre[1] - first_row], [0, 0, 1.0]])
    mapping = np.einsum("ij,jk,kl->il", intrinsic, ground_to_camera, cells)
    cv2.warpPerspective(
        texture,
        mapping,
        (out.shape[1], out.shape[0]),
        dst=out,
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
