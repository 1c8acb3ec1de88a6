"""The whole configuration."""

from pydantic import Field, model_validator

from crkd_core.config.classes import CAMERA_CHANNELS
from crkd_core.config.data import DataConfig
from crkd_core.config.distill import DistillConfig
from crkd_core.config.models import DetectorConfig
from crkd_core.config.sections import Section
from crkd_core.config.train import TrainConfig

# What no training step fits into any machine with, whatever the network.
_MOST_PIXELS = 2**29
_MOST_FRUSTUM_POINTS = 2**25
_MOST_HEIGHTS = 1000
# Image features are at 1/8 of the input size.
_PIXELS_OF_FEATURE = 64


class Config(Section):
    """A preset, a file and overrides, resolved; written into every run."""

    data: DataConfig = Field(default_factory=DataConfig, description="samples, grid, augmentation")
    teacher: DetectorConfig = Field(description="the LiDAR-camera teacher")
    student: DetectorConfig = Field(description="the camera-radar student")
    distill: DistillConfig = Field(default_factory=DistillConfig, description="losses and teacher targets")
    train: TrainConfig = Field(default_factory=TrainConfig, description="optimiser, schedule, loader")

    @model_validator(mode="after")
    def _affordable(self) -> "Config":
        image = self.data.image
        pixels = len(CAMERA_CHANNELS) * image.height_px * image.width_px
        for name in ("teacher", "student", "distill"):
            batch = getattr(self.train, name).batch_size
            if batch * pixels > _MOST_PIXELS:
                raise ValueError(
                    f"train.{name}.batch_size={batch} samples of {len(CAMERA_CHANNELS)} images of {image.width_px} x "
                    f"{image.height_px} px are more than any machine holds; lower it to at most "
                    f"{_MOST_PIXELS // pixels}"
                )
        for name, detector in (("teacher", self.teacher), ("student", self.student)):
            points = detector.camera.view_transform.depth_bins * pixels // _PIXELS_OF_FEATURE
            if "camera" in detector.modalities and points > _MOST_FRUSTUM_POINTS:
                raise ValueError(
                    f"{name}.camera.view_transform would lift {points} frustum points a sample (at most "
                    f"{_MOST_FRUSTUM_POINTS}); raise its depth_step_m, or make data.image smaller"
                )
        return self

    @model_validator(mode="after")
    def _fitting_grid(self) -> "Config":
        lower, upper = self.data.grid.z_range_m
        sides = self.data.grid.cells
        for name, detector in (("teacher", self.teacher), ("student", self.student)):
            if any(side % detector.decoder.divisor for side in sides):
                raise ValueError(
                    f"{name}.decoder.strides need a BEV grid whose sides are multiples of {detector.decoder.divisor} "
                    f"cells, found {sides[0]} x {sides[1]}; change the strides or data.grid"
                )
            heights = (upper - lower) / detector.lidar.voxel_m[2]
            if "lidar" in detector.modalities and heights > _MOST_HEIGHTS:
                raise ValueError(
                    f"{name}.lidar.voxel_m of {detector.lidar.voxel_m[2]:g} m height are {heights:.0f} layers in "
                    f"data.grid.z_range_m (at most {_MOST_HEIGHTS}); raise the height"
                )
        return self

    @model_validator(mode="after")
    def _paste_without_pixels(self) -> "Config":
        if self.data.paste_teacher.enabled and self.teacher.modalities != ("lidar",):
            raise ValueError(
                "data.paste_teacher pastes LiDAR points and boxes but no pixels, so teacher.modalities must be "
                f"[lidar], found {', '.join(self.teacher.modalities)}; change them, or set "
                "data.paste_teacher.enabled=false"
            )
        return self

    @model_validator(mode="after")
    def _comparable_maps(self) -> "Config":
        for loss in self.distill.losses:
            misfit = self.distill.section(loss).misfit(self.student, self.teacher)
            if misfit is not None:
                raise ValueError(misfit)
        return self
