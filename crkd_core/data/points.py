"""LiDAR points, radar points and boxes of one sample in the augmented model frame, within the detection range."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from crkd_core.config.data import GridConfig, LidarConfig
from crkd_core.config.radar_features import NUSCENES_FEATURES, RadarFeature
from crkd_core.datasets.nuscenes.lidar import read_lidar
from crkd_core.datasets.nuscenes.radar import expand_features
from crkd_core.datasets.prepared.prepared_data import Annotations, LidarSweeps
from crkd_core.geometry.boxes import Boxes3D

RADAR_MARGIN_M = 1.0
"""Radar points are kept this far outside of the grid, as in the released code (55 m for a grid of 54 m)."""

_VELOCITY, _RELEASED_VELOCITY, _VELOCITY_3D = slice(4, 6), slice(3, 5), [4, 5, 7]
_Z, _VZ = 2, 7


def load_lidar(
    dataroot: Path,
    sweeps: LidarSweeps,
    chosen: NDArray[np.int64],
    augmented_from_lidar: NDArray[np.float64],
    lidar: LidarConfig,
    grid: GridConfig,
) -> NDArray[np.float32]:
    """Points of the chosen sweeps in the augmented model frame, within the detection range.

    Returns:
        (P, 5): x, y, z (m), intensity, age (s); the first chosen sweep's points first.

    Raises:
        DatasetError: a file is missing or damaged.
    """
    parts = [np.zeros((0, 5), np.float32)]
    for number in chosen.tolist():
        for file in sweeps.files_of(number):
            points = read_sweep(dataroot, sweeps, file)
            if number > 0:
                points = drop_near(points, lidar.min_distance_m)
            target_from_sweep = augmented_from_lidar @ sweeps.lidar_from_sweep[file]
            has_times = sweeps.timestamp_us is not None
            points = place_sweep(points, target_from_sweep, float(sweeps.age_s[file]), has_times)
            parts.append(points[in_lidar_range(points, grid)])
    return np.concatenate(parts)


def read_sweep(dataroot: Path, sweeps: LidarSweeps, file: int) -> NDArray[np.float32]:
    """(P, 5) points of one of the files of some sweeps, see :func:`crkd_core.datasets.nuscenes.lidar.read_lidar`."""
    timestamp_us = None if sweeps.timestamp_us is None else int(sweeps.timestamp_us[file])
    return read_lidar(dataroot / sweeps.paths[file], sweeps.layout, timestamp_us)


def key_frame_points(dataroot: Path, sweeps: LidarSweeps) -> NDArray[np.float32]:
    """(P, 4) points of a key frame in the model frame, of all LiDARs: x, y, z (m), intensity; none without a file."""
    parts = [np.zeros((0, 4), np.float32)]
    for file in sweeps.files_of(0):
        points = read_sweep(dataroot, sweeps, file)[:, :4]
        # The reference LiDAR's frame is the model's, to the last bit.
        is_moved = not np.array_equal(sweeps.lidar_from_sweep[file], np.eye(4))
        parts.append(place_points(points, sweeps.lidar_from_sweep[file]) if is_moved else points)
    return np.concatenate(parts)


def drop_near(points: NDArray[np.float32], distance_m: float) -> NDArray[np.float32]:
    """Points without those nearer than `distance_m` in both x and y of the sensor: returns from the car itself."""
    return points[(np.abs(points[:, 0]) >= distance_m) | (np.abs(points[:, 1]) >= distance_m)]


def place_sweep(
    points: NDArray[np.float32], target_from_sweep: NDArray[np.float64], age_s: float, has_times: bool = False
) -> NDArray[np.float32]:
    """A sweep's points (x, y, z, intensity, ring) in the target frame, the ring index replaced by the sweep's age.

    Args:
        has_times: instead of a ring index, points have their own time lag (s) in the sweep, which the age is added to.
    """
    # One product for all five columns is much faster than moving a slice of three.
    columns = np.zeros((5, 5), dtype=np.float32)
    columns[:3, :3] = target_from_sweep[:3, :3].T
    columns[3, 3] = 1
    columns[4, 4] = has_times
    offset = np.array([*target_from_sweep[:3, 3], 0, age_s], dtype=np.float32)
    return points @ columns + offset


def in_lidar_range(points: NDArray[np.float32], grid: GridConfig) -> NDArray[np.bool_]:
    """Which points lie strictly inside the detection range in x, y and z."""
    return _strictly_inside(points, (grid.x_range_m, grid.y_range_m, grid.z_range_m), 0.0)


def augment_radar(
    values: NDArray[np.float32], augmented_from_lidar: NDArray[np.float64], released: bool = False
) -> NDArray[np.float32]:
    """Compact radar values under a BEV augmentation: positions move, velocities turn, scale and mirror.

    Args:
        values: (P, 7 or 8), see :mod:`crkd_core.datasets.nuscenes.radar`.
        released: turn columns 3 and 4 (rcs and vx) instead of the velocity in 4 and 5, as the released code does.
    """
    augmented = values.copy()
    augmented[:, :3] = _move(augmented_from_lidar, values)
    if values.shape[1] > _VZ and not released:
        augmented[:, _VELOCITY_3D] = values[:, _VELOCITY_3D] @ augmented_from_lidar[:3, :3].T.astype(np.float32)
        return augmented
    columns = _RELEASED_VELOCITY if released else _VELOCITY
    augmented[:, columns] = values[:, columns] @ augmented_from_lidar[:2, :2].T.astype(np.float32)
    return augmented


def radar_features(
    values: NDArray[np.float32],
    codes: NDArray[np.uint8],
    augmented_from_lidar: NDArray[np.float64],
    grid: GridConfig,
    released: bool = False,
    names: Sequence[RadarFeature] = NUSCENES_FEATURES,
) -> NDArray[np.float32]:
    """(P, F) features of the radar points within the detection range (BEV only, 1 m wider), augmented."""
    augmented = augment_radar(values, augmented_from_lidar, released)
    inside = in_radar_range(augmented, grid)
    return expand_features(augmented[inside], codes[inside], names)


def without_elevation(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compact radar values as if elevation were not measured: at the height of the LiDAR, without vertical velocity."""
    flat = values.copy()
    flat[:, _Z] = 0
    flat[:, _VZ:] = 0
    return flat


def in_radar_range(values: NDArray[np.float32], grid: GridConfig) -> NDArray[np.bool_]:
    """Which radar points lie strictly inside the range in x and y, widened by 1 m; height is not looked at."""
    return _strictly_inside(values, (grid.x_range_m, grid.y_range_m), RADAR_MARGIN_M)


def training_boxes(
    annotations: Annotations,
    augmented_from_lidar: NDArray[np.float64],
    grid: GridConfig,
    require_points: bool,
) -> tuple[Boxes3D, torch.Tensor]:
    """Ground truth of one sample: boxes whose centre lies strictly inside the range in x and y, and their labels.

    Unknown velocities become zero; yaw is in [-pi, pi).

    Args:
        require_points: drop boxes that neither a LiDAR nor a radar point lies in.
    """
    boxes = Boxes3D(torch.nan_to_num(annotations.boxes.tensor, nan=0.0))
    boxes = boxes.augmented(torch.from_numpy(augmented_from_lidar)).wrapped()
    kept = centres_in_range(boxes, grid)
    if require_points:
        kept = kept & annotations.has_points
    return boxes[kept], annotations.labels[kept]


def centres_in_range(boxes: Boxes3D, grid: GridConfig) -> torch.Tensor:
    """(M,) whether the centre of a box lies strictly inside the range in x and y."""
    (x_lower, x_upper), (y_lower, y_upper) = grid.x_range_m, grid.y_range_m
    x, y = boxes.centre[:, 0], boxes.centre[:, 1]
    return (x > x_lower) & (x < x_upper) & (y > y_lower) & (y < y_upper)


def place_points(points: NDArray[np.float32], target_from_source: NDArray[np.float64]) -> NDArray[np.float32]:
    """Points in another frame; all columns after x, y, z stay."""
    return np.concatenate([_move(target_from_source, points), points[:, 3:]], axis=1)


def _move(matrix: NDArray[np.float64], points: NDArray[np.float32]) -> NDArray[np.float32]:
    return points[:, :3] @ matrix[:3, :3].T.astype(np.float32) + matrix[:3, 3].astype(np.float32)


def _strictly_inside(
    points: NDArray[np.float32], ranges: Sequence[tuple[float, float]], margin_m: float
) -> NDArray[np.bool_]:
    inside = np.ones(len(points), dtype=bool)
    for axis, (lower, upper) in enumerate(ranges):
        inside &= (points[:, axis] > lower - margin_m) & (points[:, axis] < upper + margin_m)
    return inside
