"""The twelve sensors, mounted about as on the nuScenes cars.

Ego frame: origin on the ground below the rear axle, x forward, y left, z up. Cameras look along their z, with x to the
right and y down; the LiDAR's y looks forward; a radar's x looks along its axis.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from crkd_core.config.classes import LIDAR_CHANNEL
from crkd_core.datasets.simulated.config import SimulationConfig
from crkd_core.geometry.transforms import (
    compose,
    quaternions_from_rotations,
    rigid_transforms,
    rotations_about_z,
    rotations_from_unit_quaternions,
)

KEY_FRAME_PERIOD_S = 0.5


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

    @property
    def ego_from_sensor(self) -> NDArray[np.float64]:
        """4x4 mounting."""
        return rigid_transforms(rotations_from_unit_quaternions(np.array(self.rotation)), np.array(self.translation))


# channel: (x, y, z in m, yaw and downward pitch in degrees, focal length in px at 1600 wide, principal point, firing
# offset in s: the cameras fire as the LiDAR sweeps past them)
_CAMERAS = {
    "CAM_FRONT": (1.701, 0.016, 1.511, 0.3, 0.4, 1266.4, (816.3, 491.5), -0.0355),
    "CAM_FRONT_RIGHT": (1.551, -0.493, 1.496, -56.1, 0.7, 1260.8, (808.0, 495.3), -0.0276),
    "CAM_BACK_RIGHT": (1.015, -0.481, 1.562, -110.6, 0.5, 1259.5, (807.3, 501.2), -0.0201),
    "CAM_BACK": (0.028, 0.003, 1.579, 180.0, 0.9, 809.2, (829.2, 481.8), -0.0104),
    "CAM_BACK_LEFT": (1.036, 0.485, 1.591, 108.4, 0.9, 1256.7, (792.1, 492.8), -0.0005),
    "CAM_FRONT_LEFT": (1.524, 0.495, 1.509, 55.2, 0.2, 1272.6, (826.6, 479.8), -0.0431),
}
# channel: (x, y, z in m, yaw in degrees, firing offset in s)
_RADARS = {
    "RADAR_FRONT": (3.412, 0.0, 0.5, 0.2, 0.0162),
    "RADAR_FRONT_LEFT": (2.422, 0.8, 0.78, 90.3, 0.0081),
    "RADAR_FRONT_RIGHT": (2.422, -0.8, 0.77, -89.9, -0.0197),
    "RADAR_BACK_LEFT": (-0.562, 0.628, 0.53, 174.6, -0.0118),
    "RADAR_BACK_RIGHT": (-0.562, -0.618, 0.53, -176.1, 0.0243),
}


def build_rig(config: SimulationConfig) -> dict[str, Sensor]:
    """All sensors by channel, with the intrinsics scaled to the configured image size."""
    rig = {LIDAR_CHANNEL: _lidar()}
    for channel, (x, y, z, yaw, pitch, focal, (cx, cy), offset) in _CAMERAS.items():
        scale_x, scale_y = config.image_width / 1600, config.image_height / 900
        focal_px = focal * scale_x
        intrinsic = ((focal_px, 0.0, cx * scale_x), (0.0, focal_px, cy * scale_y), (0.0, 0.0, 1.0))
        rotation = _camera_rotation(math.radians(yaw), math.radians(pitch))
        rig[channel] = Sensor(channel, "camera", (x, y, z), _quaternion(rotation), 12.0, offset, intrinsic)
    for channel, (x, y, z, yaw, offset) in _RADARS.items():
        rig[channel] = Sensor(
            channel, "radar", (x, y, z), _quaternion(rotations_about_z(math.radians(yaw))), 13.0, offset
        )
    return rig


def _lidar() -> Sensor:
    tilt = rotations_from_unit_quaternions(np.array([0.99993, 0.0021, 0.0117, 0.0]))
    rotation = compose(tilt, rotations_about_z(math.radians(-89.88)))
    return Sensor(LIDAR_CHANNEL, "lidar", (0.944, 0.0, 1.840), _quaternion(rotation), 20.0, 0.0)


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
