"""The ground: one raster of materials per scene, from which the LiDAR's reflectivity, the map and the picture come."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from crkd_core.datasets.simulated.arrays import Array
from crkd_core.datasets.simulated.world.script import (
    CROSS_KERB,
    CROSSWALK,
    KERB,
    LANE_WIDTH,
    PARKING_LINE,
    ROAD_EDGE,
    SIDEWALK_EDGE,
    STOP_LINE,
    RoadPlan,
)

GRASS, PAVEMENT, ASPHALT, MARKING, BIKE_PATH, PARKING_BAY = range(6)
_MARGIN_M = 30.0
_REFLECTIVITY = np.array([0.22, 0.18, 0.07, 0.55, 0.10, 0.08], dtype=np.float32)


@dataclass(frozen=True)
class Ground:
    """Materials on a grid; row 0 is the lowest y.

    origin: world x, y of the corner of cell (0, 0); cell_m: edge of a cell.
    """

    material: NDArray[np.uint8]
    origin: tuple[float, float]
    cell_m: float

    def fill(self, material: int, left: float, bottom: float, right: float, top: float) -> None:
        """Paint a rectangle, at least one cell wide, into the materials, which the caller owns."""
        (x0, y0), cell_m = self.origin, self.cell_m
        r0, r1 = round((bottom - y0) / cell_m), round((top - y0) / cell_m)
        c0, c1 = round((left - x0) / cell_m), round((right - x0) / cell_m)
        self.material[max(r0, 0) : max(r1, r0 + 1, 0), max(c0, 0) : max(c1, c0 + 1, 0)] = material

    def reflectivity_at(self, x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.float32]:
        """LiDAR reflectivity, 0 to 1, at world positions (grass outside the raster)."""
        column = np.floor((x - self.origin[0]) / self.cell_m).astype(np.int64)
        row = np.floor((y - self.origin[1]) / self.cell_m).astype(np.int64)
        height, width = self.material.shape
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        material = np.full(len(x), GRASS)
        material[inside] = self.material[row[inside], column[inside]]
        return _REFLECTIVITY[material]


def meadow(x_range: tuple[float, float], y_range: tuple[float, float], cell_m: float) -> Ground:
    """Grass everywhere in an extent and a margin around it."""
    x0, x1 = x_range[0] - _MARGIN_M, x_range[1] + _MARGIN_M
    y0, y1 = y_range[0] - _MARGIN_M, y_range[1] + _MARGIN_M
    shape = (int((y1 - y0) / cell_m), int((x1 - x0) / cell_m))
    return Ground(np.full(shape, GRASS, dtype=np.uint8), (x0, y0), cell_m)


def build_ground(plan: RoadPlan, cell_m: float) -> Ground:
    """Paint roads, markings, bays and pavements of a road plan."""
    ground = meadow(plan.x_range, plan.y_range, cell_m)
    (x0, y0), fill = ground.origin, ground.fill
    x1, y1 = plan.x_range[1] + _MARGIN_M, plan.y_range[1] + _MARGIN_M
    xc = plan.crossing_x
    fill(PAVEMENT, x0, -SIDEWALK_EDGE, x1, SIDEWALK_EDGE)
    fill(PAVEMENT, xc - CROSS_KERB - 4.2, y0, xc + CROSS_KERB + 4.2, y1)
    fill(ASPHALT, x0, -KERB, x1, KERB)
    for side in (1, -1):
        low, high = sorted((side * PARKING_LINE, side * KERB))
        fill(PARKING_BAY, x0, low, x1, high)
        low, high = sorted((side * (ROAD_EDGE + 0.1), side * PARKING_LINE))
        fill(BIKE_PATH, x0, low, x1, high)
        for k in np.arange(x0, x1, 6.0):
            low, high = sorted((side * PARKING_LINE, side * (KERB - 0.3)))
            fill(MARKING, float(k), low, float(k) + 0.1, high)
        for line in (ROAD_EDGE, PARKING_LINE):
            fill(MARKING, x0, side * line - 0.07, x1, side * line + 0.07)
        fill(MARKING, x0, side * 0.15 - 0.06, x1, side * 0.15 + 0.06)
        for k in np.arange(x0, x1, 9.0):
            fill(MARKING, float(k), side * LANE_WIDTH - 0.07, float(k) + 3.0, side * LANE_WIDTH + 0.07)
    fill(ASPHALT, xc - CROSS_KERB, y0, xc + CROSS_KERB, y1)
    fill(ASPHALT, xc - CROSS_KERB - 8, -KERB, xc + CROSS_KERB + 8, KERB)
    _crossing_marks(fill, xc, (y0, y1))
    return ground


def _crossing_marks(fill, xc: float, y_range: tuple[float, float]) -> None:
    for end in (1.0, -1.0):
        low, high = sorted((xc + end * CROSSWALK[0], xc + end * CROSSWALK[1]))
        for y in np.arange(-KERB + 0.4, KERB - 0.4, 1.0):
            fill(MARKING, low, float(y), high, float(y) + 0.5)
        low, high = sorted((0.2 * end, ROAD_EDGE * end))
        fill(MARKING, xc + end * -STOP_LINE - 0.2, low, xc + end * -STOP_LINE + 0.2, high)
        for k in np.arange(-CROSS_KERB + 0.4, CROSS_KERB - 0.4, 1.0):
            low, high = sorted((end * (KERB + 1.4), end * (KERB + 4.0)))
            fill(MARKING, xc + float(k), low, xc + float(k) + 0.5, high)
        far = y_range[1] if end > 0 else y_range[0]
        for y in np.arange(KERB + 6.0, abs(far), 6.0):
            low, high = sorted((end * float(y), end * (float(y) + 2.5)))
            fill(MARKING, xc - 0.07, low, xc + 0.07, high)
        low, high = sorted((end * (KERB + 4.9), end * (KERB + 5.3)))
        left, right = sorted((xc - end * 0.2, xc - end * 3.5))
        fill(MARKING, left, low, right, high)


def map_size_m(x_range: tuple[float, float], y_range: tuple[float, float]) -> float:
    """Edge of a square map that holds a scene whatever its heading."""
    return float(np.ceil(np.hypot(x_range[1] - x_range[0], y_range[1] - y_range[0]) + 40.0))


def map_image(ground: Ground, global_from_world: Array, size_m: float, cell_m: float = 0.1) -> NDArray[Any]:
    """Semantic prior as nuScenes stores it: 255 on roads and pavements, row 0 at the highest global y."""
    pixels = int(size_m / cell_m)
    walkable = np.where(ground.material == GRASS, 0, 255).astype(np.uint8)
    world_from_cell = np.array(
        [[ground.cell_m, 0, ground.origin[0]], [0, ground.cell_m, ground.origin[1]], [0, 0, 1.0]]
    )
    planar = global_from_world[np.ix_([0, 1, 3], [0, 1, 3])]
    image_from_global = np.array([[1 / cell_m, 0, 0], [0, -1 / cell_m, pixels], [0, 0, 1.0]])
    warp = image_from_global @ planar @ world_from_cell
    return cv2.warpAffine(walkable, warp[:2], (pixels, pixels), flags=cv2.INTER_NEAREST)
