"""The whole configuration."""

from pydantic import Field, model_validator

from crkd_core.config.data import DataConfig
from crkd_core.config.distill import DistillConfig
from crkd_core.config.models import DetectorConfig
from crkd_core.config.sections import Section
from crkd_core.config.train import TrainConfig


class Config(Section):
    """A preset, a file and overrides, resolved; written into every run."""

    data: DataConfig = Field(default_factory=DataConfig, description="samples, grid, augmentation")
    teacher: DetectorConfig = Field(description="the LiDAR-camera teacher")
    student: DetectorConfig = Field(description="the camera-radar student")
    distill: DistillConfig = Field(default_factory=DistillConfig, description="losses and teacher targets")
    train: TrainConfig = Field(default_factory=TrainConfig, description="optimiser, schedule, loader")

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
        teacher, student, msfd = self.teacher, self.student, self.distill.msfd
        if "msfd" not in self.distill.losses:
            return self
        both_fused = len(teacher.modalities) == len(student.modalities) == 2
        if msfd.fused_weight > 0 and both_fused and teacher.fuser.channels != student.fuser.channels:
            raise ValueError(
                "msfd compares fused maps, so teacher.fuser.channels and student.fuser.channels must be equal, "
                f"found {teacher.fuser.channels} and {student.fuser.channels}"
            )
        both_cameras = "camera" in teacher.modalities and "camera" in student.modalities
        ours, theirs = student.camera.view_transform.channels, teacher.camera.view_transform.channels
        if msfd.camera_weight > 0 and both_cameras and ours != theirs:
            raise ValueError(
                "msfd compares camera BEV maps, so view_transform.channels of teacher and student must be "
                f"equal, found {theirs} and {ours}"
            )
        return self
