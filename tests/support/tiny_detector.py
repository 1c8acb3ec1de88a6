"""Detectors of every modality set that take milliseconds, and inputs for them."""

import torch

from crkd_core.config.data import DataConfig, GridConfig, ImageConfig
from crkd_core.config.models import (
    CameraBranchConfig,
    CameraNeckConfig,
    DecoderConfig,
    DetectorConfig,
    FuserConfig,
    HeadConfig,
    LidarBranchConfig,
    Modality,
    RadarBranchConfig,
    ResNetConfig,
    ViewTransformConfig,
)
from crkd_core.geometry.sensors import CameraRig, SensorInputs

TEACHER_VIEW = ViewTransformConfig(kind="depth_lss", depth_step_m=0.5, downsample=2)
TINY_DATA = DataConfig(
    grid=GridConfig(x_range_m=(-4.8, 4.8), y_range_m=(-7.2, 7.2)), image=ImageConfig(height_px=32, width_px=64)
)


def tiny_config(modalities: tuple[Modality, ...], **changes) -> DetectorConfig:
    """The configuration of a detector of these sensors; `changes` replace its parts."""
    view = TEACHER_VIEW if "lidar" in modalities else ViewTransformConfig()
    parts = {
        "camera": CameraBranchConfig(
            backbone=ResNetConfig(width=4, block="basic", depths=(1, 1, 1, 1)),
            neck=CameraNeckConfig(channels=8),
            view_transform=view.model_copy(update={"channels": 6, "depth_range_m": (1.0, 9.0)}),
        ),
        "lidar": LidarBranchConfig(stem_channels=4, stage_channels=((4, 8), (8, 8), (8, 8), (8,)), out_channels=4),
        "radar": RadarBranchConfig(channels=(8, 8)),
        "fuser": FuserConfig(channels=12),
        "decoder": DecoderConfig(channels=(8, 8, 8), blocks=1, out_channels=12),
        "head": HeadConfig(shared_channels=8),
    }
    return DetectorConfig(modalities=modalities, **{**parts, **changes})


def tiny_inputs(batch: int = 2, cameras: int = 2, empty_sample: bool = False) -> SensorInputs:
    """Random inputs of all sensors, optionally with a last sample that has no points."""
    generator = torch.Generator().manual_seed(0)
    poses = torch.eye(4).repeat(batch, cameras, 1, 1)
    poses[:, 0, :3, :3] = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    poses[:, 1:, :3, :3] = torch.tensor([[-1.0, 0, 0], [0, 0, -1], [0, -1, 0]])
    intrinsics = torch.tensor([[40.0, 0, 32], [0, 40, 16], [0, 0, 1]])
    span = torch.tensor([9.0, 14.0, 4.0])

    def cloud(count: int, features: int) -> torch.Tensor:
        points = torch.rand(count, features, generator=generator)
        points[:, :3] = (points[:, :3] - 0.5) * span
        return points

    counts = [0 if empty_sample and b == batch - 1 else 200 for b in range(batch)]
    return SensorInputs(
        images=torch.randn(batch, cameras, 3, 32, 64, generator=generator),
        rig=CameraRig(
            intrinsics.expand(batch, cameras, 3, 3), poses, torch.eye(4).expand(batch, cameras, 4, 4).clone()
        ),
        lidar=[cloud(count, 5) for count in counts],
        radar=[cloud(count // 5, 45) for count in counts],
        bev_augmentation=torch.eye(4).repeat(batch, 1, 1),
    )
