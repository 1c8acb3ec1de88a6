"""The sensors of the simulated car, in the form the detectors take them."""

import torch

from crkd_core.config.classes import CAMERA_CHANNELS, LIDAR_CHANNEL
from crkd_core.config.data import DataConfig
from crkd_core.datasets.simulated.config import SimulationConfig
from crkd_core.datasets.simulated.sensors.rig import build_rig
from crkd_core.geometry.sensors import CameraRig


def surround_rig(data: DataConfig) -> CameraRig:
    """The six cameras of the simulated car for one sample, images resized and cropped as at test time."""
    rig = build_rig(SimulationConfig())
    lidar_from_ego = torch.linalg.inv(torch.tensor(rig[LIDAR_CHANNEL].ego_from_sensor))
    cameras = [rig[channel] for channel in CAMERA_CHANNELS]
    width, height = (round(side * data.image.test_resize) for side in (1600, 900))
    augmentation = torch.eye(4)
    augmentation[0, 0] = augmentation[1, 1] = data.image.test_resize
    augmentation[:2, 3] = torch.tensor([-(width - data.image.width_px) / 2, float(data.image.height_px - height)])
    return CameraRig(
        intrinsics=torch.tensor([camera.intrinsic for camera in cameras])[None],
        lidar_from_camera=torch.stack(
            [(lidar_from_ego @ torch.tensor(camera.ego_from_sensor)).float() for camera in cameras]
        )[None],
        image_augmentation=augmentation.repeat(1, len(cameras), 1, 1),
    )
