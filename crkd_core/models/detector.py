"""The detector: sensor branches, fuser, decoder, head. Teacher and student differ only in their configuration.

images -> CameraBranch (backbone, neck, view transform) --> camera BEV map --.
                                                                              fuser -> decoder -> head
LiDAR  -> LidarBranch (voxels, sparse encoder)          -.                   /
                                                          > point BEV map --'
radar  -> RadarBranch (pillars, pillar net, calibration) -'
"""

from typing import TypeVar

from torch import Tensor, nn

from crkd_core.config.data import DataConfig
from crkd_core.config.description import HeadTasks
from crkd_core.config.models import DetectorConfig
from crkd_core.errors import ConfigError, CrkdError
from crkd_core.geometry.sensors import RADAR_FEATURES, SensorInputs
from crkd_core.models.backbones import Backbone
from crkd_core.models.camera import CameraBranch, build_camera_branch
from crkd_core.models.decoder import Decoder, SecondDecoder, build_decoder
from crkd_core.models.fuser import ConvFuser, GatedFuser, build_fuser
from crkd_core.models.head import CenterHead
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

    def forward(self, inputs: SensorInputs, box_maps: bool = True) -> DetectorOutput:
        """BEV maps and the head's output.

        Args:
            box_maps: False: box codes will be read at a few cells only, see :class:`CenterHead`.

        Raises:
            CrkdError: a sensor the detector needs was not loaded.
        """
        features = self.bev_features(inputs)
        decoded = self.decoder(features.fused)  # b c x y
        return DetectorOutput(features, self.head(decoded, box_maps))

    def bev_features(self, inputs: SensorInputs) -> BEVFeatures:
        """BEV maps of the sensors, and the fused one.

        Raises:
            CrkdError: a sensor the detector needs was not loaded.
        """
        camera = points = radar_activation = None
        if self.camera is not None:
            images, rig = _loaded(inputs.images, "images"), _loaded(inputs.rig, "camera calibration")
            camera = self.camera(images, rig, inputs.bev_augmentation, inputs.lidar)  # b c1 x y
        if self.lidar is not None:
            points = self.lidar(_loaded(inputs.lidar, "LiDAR points"))  # b c2 x y
        if self.radar is not None:
            points, radar_activation = self.radar(_loaded(inputs.radar, "radar points"))  # b c2 x y, b 1 x y
        return self._fuse(camera, points, radar_activation)

    def _fuse(self, camera: Tensor | None, points: Tensor | None, radar_activation: Tensor | None) -> BEVFeatures:
        if self.fuser is not None and camera is not None and points is not None:
            gated_camera, gated_points, fused = self.fuser(camera, points)
            return BEVFeatures(camera, points, gated_camera, gated_points, fused, radar_activation)
        fused = _loaded(camera if camera is not None else points, "sensor data")
        return BEVFeatures(camera, points, camera, points, fused, radar_activation)


def build_detector(
    config: DetectorConfig,
    data: DataConfig,
    tasks: HeadTasks,
    backbone: Backbone | None = None,
    radar_features: int = RADAR_FEATURES,
) -> Detector:
    """A detector with fresh weights; every size comes from the grid and the configuration.

    Args:
        config: which parts it has, and their sizes.
        data: the grid and the size of the images.
        tasks: of the head.
        backbone: an image backbone in place of the configured one.
        radar_features: columns of a radar point.

    Raises:
        ConfigError: the LiDAR voxels do not fit the BEV cells, channel counts do not fit each other, or there is no
            camera to give a backbone to.
    """
    if backbone is not None and "camera" not in config.modalities:
        raise ConfigError(f"a detector of {' and '.join(config.modalities)} has no image backbone; add camera")
    grid, momentum = data.grid.build(), config.norm_momentum
    camera = lidar = radar = None
    if "camera" in config.modalities:
        camera = build_camera_branch(config.camera, grid, data.image, backbone, momentum)
    if "lidar" in config.modalities:
        lidar = LidarBranch(config.lidar, grid, momentum)
    if "radar" in config.modalities:
        radar = RadarBranch(config.radar, grid, momentum, radar_features)
    widths = [branch.out_channels for branch in (camera, lidar, radar) if branch is not None]
    fuser = build_fuser(config.fuser, *widths) if len(widths) == 2 else None
    fused_channels = config.fuser.channels if fuser else widths[0]
    decoder = build_decoder(fused_channels, config.decoder, momentum)
    width, bias = config.head.shared_channels, config.head.heatmap_bias
    head = CenterHead(config.decoder.map_channels, width, config.head.map_channels or width, bias, tasks)
    return Detector(camera, lidar, radar, fuser, fused_channels, decoder, head)


def _loaded(value: _T | None, what: str) -> _T:
    if value is None:
        raise CrkdError(f"the detector needs {what}, but the batch has none; load the modality in the data pipeline")
    return value
