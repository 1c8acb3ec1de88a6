"""The detector: sensor branches, fuser, decoder, head. Teacher and student differ only in their configuration."""

from typing import TypeVar

from torch import Tensor, nn

from crkd_core.config.data import DataConfig
from crkd_core.config.models import DetectorConfig
from crkd_core.errors import CrkdError
from crkd_core.geometry.sensors import SensorInputs
from crkd_core.models.camera import CameraBranch
from crkd_core.models.decoder import Decoder, SecondDecoder, build_decoder
from crkd_core.models.fuser import ConvFuser, GatedFuser, build_fuser
from crkd_core.models.head import CenterHead
from crkd_core.models.layers import POINT_NORM_MOMENTUM
from crkd_core.models.lidar import LidarBranch
from crkd_core.models.outputs import BEVFeatures, DetectorOutput
from crkd_core.models.radar import RadarBranch

_T = TypeVar("_T")


class Detector(nn.Module):
    """A detector of any modality set; parts that it does not have are None.

    Attributes:
        camera: its `backbone` is the image backbone, which training may give another learning rate.
        fuser: only with a camera and a point branch; otherwise the one map is the fused map.
        fused_channels: channels of the fused map.
    """

    def __init__(
        self,
        camera: CameraBranch | None,
        lidar: LidarBranch | None,
        radar: RadarBranch | None,
        fuser: GatedFuser | ConvFuser | None,
        fused_channels: int,
        decoder: Decoder | SecondDecoder,
        head: CenterHead,
    ) -> None:
        super().__init__()
        self.fused_channels = fused_channels
        self.camera = camera
        self.lidar = lidar
        self.radar = radar
        self.fuser = fuser
        self.decoder = decoder
        self.head = head

    def forward(self, inputs: SensorInputs) -> DetectorOutput:
        """Raises CrkdError if a sensor the detector needs was not loaded."""
        camera = points = activation = None
        if self.camera is not None:
            images, rig = _loaded(inputs.images, "images"), _loaded(inputs.rig, "camera calibration")
            camera = self.camera(images, rig, inputs.bev_augmentation, inputs.lidar)
        if self.lidar is not None:
            points = self.lidar(_loaded(inputs.lidar, "LiDAR points"))
        if self.radar is not None:
            points, activation = self.radar(_loaded(inputs.radar, "radar points"))
        features = self._fuse(camera, points, activation)
        return DetectorOutput(features, self.head(self.decoder(features.fused)))

    def _fuse(self, camera: Tensor | None, points: Tensor | None, activation: Tensor | None) -> BEVFeatures:
        if self.fuser is not None and camera is not None and points is not None:
            gated_camera, gated_points, fused = self.fuser(camera, points)
            return BEVFeatures(camera, points, gated_camera, gated_points, fused, activation)
        fused = _loaded(camera if camera is not None else points, "sensor data")
        return BEVFeatures(camera, points, camera, points, fused, activation)


def build_detector(config: DetectorConfig, data: DataConfig) -> Detector:
    """A detector with fresh weights; every size comes from the grid and the configuration.

    Raises:
        ConfigError: the LiDAR voxels do not fit the BEV cells, or channel counts do not fit each other.
    """
    grid = data.grid.build()
    camera = CameraBranch(config.camera, grid, data.image) if "camera" in config.modalities else None
    lidar = LidarBranch(config.lidar, grid) if "lidar" in config.modalities else None
    radar = RadarBranch(config.radar, grid) if "radar" in config.modalities else None
    widths = [branch.out_channels for branch in (camera, lidar, radar) if branch is not None]
    fuser = build_fuser(config.fuser, *widths) if len(widths) == 2 else None
    fused_channels = config.fuser.channels if fuser else widths[0]
    decoder = build_decoder(fused_channels, config.decoder)
    width = config.head.shared_channels
    head = CenterHead(config.decoder.map_channels, width, config.head.map_channels or width, config.head.heatmap_bias)
    detector = Detector(camera, lidar, radar, fuser, fused_channels, decoder, head)
    for module in detector.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.momentum == POINT_NORM_MOMENTUM:
            module.momentum = config.norm_momentum
    return detector


def _loaded(value: _T | None, what: str) -> _T:
    if value is None:
        raise CrkdError(f"the detector needs {what}, but the batch has none; load the modality in the data pipeline")
    return value
