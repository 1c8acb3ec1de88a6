"""The sensors of a simulated vehicle as they are mounted, at the configured image sizes.

Ego frame: origin on the ground below the rear axle, x forward, y left, z up. Cameras look along their z, with x to the
right and y down; a radar's x looks along its axis.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from crkd_core.datasets.simulated.config import SimulationConfig
from crkd_core.datasets.simulated.sensors.rig_description import CameraDescription, LidarDescription, Mounted
from crkd_core.geometry.transforms import (
    compose,
    quaternions_from_rotations,
    rigid_transforms,
    rotations_about_z,
    rotations_from_unit_quaternions,
)


@dataclass(frozen=True)
class Sensor:
    """One mounted sensor: where it sits, how often it fires and when relative to the key frame."""

    channel: str
    modality: Literal["camera", "lidar", "radar"]
    translation: tuple[float, float, float]
    rotation: tuple[float, float, float, float]
    rate_hz: float
    offset_s: float
    intrinsic: tuple[tuple[float, float, float], ...] = ()
    width_px: int = 0
    height_px: int = 0

    @property
    def ego_from_sensor(self) -> NDArray[np.float64]:
        """4x4 mounting."""
        return rigid_transforms(rotations_from_unit_quaternions(np.array(self.rotation)), np.array(self.translation))


def build_rig(config: SimulationConfig) -> dict[str, Sensor]:
    """All sensors by channel, the reference LiDAR first, with the intrinsics scaled to the configured image size."""
    rig = config.vehicle_rig
    lidars = sorted(rig.lidars, key=lambda lidar: not lidar.reference)
    sensors = [_mounted(lidar, "lidar", _lidar_rotation(lidar)) for lidar in lidars]
    sensors += [_camera(camera, config) for camera in rig.cameras]
    sensors += [_mounted(radar, "radar", _yaw_rotation(radar)) for radar in rig.radars]
    return {sensor.channel: sensor for sensor in sensors}


def _mounted(
    description: Mounted, modality: Literal["lidar", "radar"], rotation: tuple[float, float, float, float]
) -> Sensor:
    position = (description.x_m, description.y_m, description.z_m)
    return Sensor(description.channel, modality, position, rotation, description.rate_hz, description.offset_s)


def _camera(camera: CameraDescription, config: SimulationConfig) -> Sensor:
    widest = config.vehicle_rig.widest_camera
    scale_x, scale_y = config.image_width / widest.width_px, config.image_height / widest.height_px
    focal_px = _focal_px(camera) * scale_x
    cx, cy = camera.centre_px or (camera.width_px / 2, camera.height_px / 2)
    return Sensor(
        camera.channel,
        "camera",
        (camera.x_m, camera.y_m, camera.z_m),
        _quaternion(_camera_rotation(math.radians(camera.yaw_deg), math.radians(camera.pitch_down_deg))),
        camera.rate_hz,
        camera.offset_s,
        ((focal_px, 0.0, cx * scale_x), (0.0, focal_px, cy * scale_y), (0.0, 0.0, 1.0)),
        max(1, round(camera.width_px * scale_x)),
        max(1, round(camera.height_px * scale_y)),
    )


def _focal_px(camera: CameraDescription) -> float:
    if camera.focal_px is not None:
        return camera.focal_px
    assert camera.field_of_view_deg is not None  # the description has one of the two
    return camera.width_px / 2 / math.tan(math.radians(camera.field_of_view_deg) / 2)


def _lidar_rotation(lidar: LidarDescription) -> tuple[float, float, float, float]:
    if lidar.rotation_wxyz is not None:
        w, x, y, z = lidar.rotation_wxyz
        length = math.sqrt(w * w + x * x + y * y + z * z)
        # What is a unit quaternion already keeps its last digits.
        return (w, x, y, z) if abs(length - 1) < 1e-9 else (w / length, x / length, y / length, z / length)
    c, s = math.cos(math.radians(lidar.pitch_down_deg)), math.sin(math.radians(lidar.pitch_down_deg))
    tilt = np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])
    return _quaternion(compose(rotations_about_z(math.radians(lidar.yaw_deg)), tilt))


def _yaw_rotation(description: Mounted) -> tuple[float, float, float, float]:
    return _quaternion(rotations_about_z(math.radians(description.yaw_deg)))


def _camera_rotation(yaw_rad: float, pitch_down_rad: float) -> NDArray[np.float64]:
    """ego_from_camera rotation of a camera that looks along `yaw_rad`, tilted down by `pitch_down_rad`."""
    forward = np.array(
        [
            math.cos(yaw_rad) * math.cos(pitch_down_rad),
            math.sin(yaw_rad) * math.cos(pitch_down_rad),
            -math.sin(pitch_down_rad),
        ]
    )
    right = np.array([math.sin(yaw_rad), -math.cos(yaw_rad), 0.0])
    return np.stack([right, np.cross(forward, right), forward], axis=1)


def _quaternion(rotation: NDArray[np.float64]) -> tuple[float, float, float, float]:
    w, x, y, z = quaternions_from_rotations(rotation).tolist()
    return (w, x, y, z)
