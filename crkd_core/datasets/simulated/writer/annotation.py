"""Annotations of one key frame: what some sensor saw, how many points it got, how much of it shows."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crkd_core.datasets.simulated.arrays import Array
from crkd_core.datasets.simulated.sensors.assembly import Placement
from crkd_core.datasets.simulated.sensors.backdrop import View
from crkd_core.datasets.simulated.sensors.camera import Drawing, label_pixels, silhouette_pixels
from crkd_core.datasets.simulated.world.script import Thing
from crkd_core.datasets.simulated.world.setting import World
from crkd_core.datasets.simulated.writer.table_files import Record, attribute_token
from crkd_core.geometry.transforms import quaternions_from_yaws, transform_points

LEAST_PIXELS = 14
"""Visible pixels, on rasters `LABEL_WIDTH` wide, from which an object without any point is annotated too."""
LABEL_WIDTH = 400
_MOVING_MPS = 0.25


@dataclass(frozen=True)
class BoxInGlobal:
    """An annotated box as it is written: rounded, global frame."""

    translation: tuple[float, float, float]
    size_wlh_m: tuple[float, float, float]
    yaw: float

    def contains(self, points: Array) -> NDArray[np.bool_]:
        """Which (N, 3) global points lie in the box, its faces included."""
        c, s = np.cos(self.yaw), np.sin(self.yaw)
        dx, dy, dz = (points[:, k] - self.translation[k] for k in range(3))
        w, length, h = self.size_wlh_m
        along, across = c * dx + s * dy, -s * dx + c * dy
        return (np.abs(along) <= length / 2) & (np.abs(across) <= w / 2) & (np.abs(dz) <= h / 2)


@dataclass
class PixelCounts:
    """Per thing: pixels that show it, and pixels of its silhouette, over all cameras of a key frame."""

    visible: NDArray[np.int64]
    silhouette: NDArray[np.int64]

    @classmethod
    def empty(cls, things: int) -> "PixelCounts":
        """Nothing seen yet."""
        return cls(np.zeros(things, dtype=np.int64), np.zeros(things, dtype=np.int64))

    def add(self, view: View, drawing: Drawing, agents: int) -> None:
        """Count one camera's frame."""
        width = min(LABEL_WIDTH, view.width)
        labels, scale = label_pixels(view, drawing, width)
        shown = np.bincount(labels[labels >= 0], minlength=len(self.visible))
        self.visible = self.visible + shown
        for thing, size in silhouette_pixels(drawing, labels.shape, scale, agents).items():
            self.silhouette[thing] += size


def box_of(thing: Thing, x: float, y: float, yaw: float, global_from_world: Array) -> BoxInGlobal:
    """Annotated box of a thing, from its pose in the world."""
    w, length, h = thing.size_wlh_m
    centre = transform_points(global_from_world, np.array([[x, y, thing.bottom_m + h / 2]]))[0]
    turned = yaw + float(np.arctan2(global_from_world[1, 0], global_from_world[0, 0]))
    return BoxInGlobal(
        (round(float(centre[0]), 3), round(float(centre[1]), 3), round(float(centre[2]), 3)),
        (w, length, h),
        turned,
    )


def attribute_of(thing: Thing, speed_mps: float) -> list[str]:
    """Attribute tokens that fit the state of a thing."""
    kind = thing.kind
    if kind is None:
        return []
    if kind.category in ("vehicle.motorcycle", "vehicle.bicycle"):
        return [attribute_token("cycle.with_rider" if kind.with_rider else "cycle.without_rider")]
    moving = speed_mps > _MOVING_MPS
    if kind.category.startswith("vehicle."):
        return [
            attribute_token("vehicle.moving" if moving else ("vehicle.parked" if thing.parked else "vehicle.stopped"))
        ]
    if kind.category.startswith("human.") and kind.category != "human.pedestrian.stroller":
        if kind.posture == "sitting" and not moving:
            return [attribute_token("pedestrian.sitting_lying_down")]
        return [attribute_token("pedestrian.moving" if moving else "pedestrian.standing")]
    return [attribute_token(f"traffic_sign.{kind.mounting}")] if kind.mounting else []


def visibility_level(visible: int, silhouette: int) -> str:
    """Token of the visibility level: share of the object's own silhouette that shows."""
    share = visible / silhouette if silhouette else 0.0
    return "1" if share < 0.4 else ("2" if share < 0.6 else ("3" if share < 0.8 else "4"))


def annotate(
    world: World,
    placement: Placement,
    ego_xy: tuple[float, float],
    lidar_points: Array,
    radar_points: Array,
    pixels: PixelCounts,
) -> list[tuple[int, Record]]:
    """Annotation records (without tokens) of the things that some sensor saw, with their indices.

    Args:
        world: Has the annotated things; `placement` has their states at the key frame's time.
        ego_xy: Position of the ego vehicle in the world.
        lidar_points, radar_points: (N, 3) points of the key frame's sweeps, global frame.
        pixels: Pixel counts over all cameras.
    """
    out = []
    for k, thing in enumerate(world.agents):
        x, y = float(placement.x[k]), float(placement.y[k])
        if np.hypot(x - ego_xy[0], y - ego_xy[1]) > world.setting.annotated_m:
            continue
        box = box_of(thing, x, y, float(placement.yaw[k]), world.global_from_world)
        lidar = int(box.contains(_near(lidar_points, box)).sum())
        radar = int(box.contains(_near(radar_points, box)).sum())
        shows = int(pixels.visible[k])
        if lidar + radar == 0 and shows < LEAST_PIXELS:
            continue
        speed = float(np.hypot(placement.vx[k], placement.vy[k]))
        record: Record = {
            "visibility_token": visibility_level(shows, int(pixels.silhouette[k])),
            "attribute_tokens": attribute_of(thing, speed),
            "translation": list(box.translation),
            "size": list(box.size_wlh_m),
            "rotation": quaternions_from_yaws(box.yaw).tolist(),
            "num_lidar_pts": lidar,
            "num_radar_pts": radar,
        }
        out.append((k, record))
    return out


def _near(points: Array, box: BoxInGlobal) -> Array:
    w, length, _ = box.size_wlh_m
    reach = np.hypot(w, length) / 2 + 0.1
    x, y, _ = box.translation
    return points[(np.abs(points[:, 0] - x) < reach) & (np.abs(points[:, 1] - y) < reach)]
