"""What can be chosen about the simulated world."""

import hashlib
from typing import Literal

from pydantic import Field, model_validator

from crkd_core.config.numbers import Count, Positive, PositiveInt, Seed
from crkd_core.config.sections import Section
from crkd_core.datasets.nuscenes.splits import SPLITS_OF_KIND, official_scenes
from crkd_core.errors import ConfigError

WORLD_SIZES: dict[str, dict[str, str | int]] = {
    "full": {},
    "tiny": {
        "kind": "trainval",
        "train_scenes": 32,
        "val_scenes": 8,
        "samples_per_scene": 5,
        "image_width": 352,
        "image_height": 198,
        "lidar_azimuth_steps": 540,
        "lidar_sweeps_per_key_frame": 4,
        "radar_sweeps_per_key_frame": 5,
        "camera_sweeps_per_key_frame": 0,
    },
    "small": {
        "kind": "trainval",
        "train_scenes": 400,
        "val_scenes": 80,
        "samples_per_scene": 5,
        "image_width": 704,
        "image_height": 396,
        "camera_sweeps_per_key_frame": 0,
    },
}
"""Named sizes of a world, as settings that differ from the defaults: nuScenes' own sensors, or those of the presets
``tiny`` and ``small`` in many short scenes."""

SIMULATOR_REVISION = 3
"""Raised whenever the same configuration starts to give other bytes."""


class SimulationConfig(Section):
    """Size, sensors and seed of a simulated data set. The same values always give the same bytes.

    Those of images are the same only with the same major version of OpenCV, which draws and compresses them.
    """

    kind: Literal["mini", "trainval"] = Field(
        "mini",
        description="Which official split names the scenes borrow: v1.0-sim-mini or v1.0-sim-trainval.",
    )
    train_scenes: Count = Field(8, description="Scenes of the training split (mini: at most 8, trainval: 700).")
    val_scenes: Count = Field(2, description="Scenes of the validation split (mini: at most 2, trainval: 150).")
    samples_per_scene: PositiveInt = Field(40, le=80, description="Key frames per scene, two per second.")
    image_width: PositiveInt = Field(
        1600, ge=64, le=1600, description="Image width in pixels; focal lengths scale with it."
    )
    image_height: PositiveInt = Field(900, ge=36, le=900, description="Image height in pixels.")
    jpeg_quality: PositiveInt = Field(90, ge=30, le=100, description="JPEG quality of the images, in percent.")
    lidar_azimuth_steps: PositiveInt = Field(
        1084, ge=36, le=2168, description="Firings of the 32 LiDAR beams per revolution."
    )
    lidar_sweeps_per_key_frame: Count = Field(
        9,
        le=9,
        description="LiDAR sweeps (20 Hz) kept right before each key frame but the first; 9 is all.",
    )
    radar_sweeps_per_key_frame: Count = Field(
        6,
        le=6,
        description="Sweeps of each radar (13 Hz) kept right before each key frame but the first; 6 is all.",
    )
    camera_sweeps_per_key_frame: Count = Field(
        5,
        le=5,
        description="Sweeps of each camera (12 Hz) kept right before each key frame but the first; 5 is all.",
    )
    lead_in: bool = Field(
        False,
        description="Keep sweeps before a scene's first key frame, too. nuScenes has none there, one sample in forty; "
        "in scenes of five, a LiDAR sees no motion in one of five.",
    )
    density: Positive = Field(
        1.0,
        ge=0.2,
        le=2.0,
        description="Objects relative to the default of about 30 to 45 annotated boxes a key frame.",
    )
    seed: Seed = Field(0, lt=2**32, description="Seed of the whole world; every scene draws from its own stream.")

    @model_validator(mode="after")
    def _check_scenes(self) -> "SimulationConfig":
        counts = {"train_scenes": self.train_scenes, "val_scenes": self.val_scenes}
        for (field, count), split in zip(counts.items(), SPLITS_OF_KIND[self.kind], strict=True):
            most = len(official_scenes(split))
            if count > most:
                raise ConfigError(
                    f"{field} = {count} is too many: kind '{self.kind}' has {most} official scene names to give; "
                    f"ask for at most {most}" + (", or use kind 'trainval'." if self.kind == "mini" else ".")
                )
        if self.train_scenes + self.val_scenes == 0:
            raise ConfigError("train_scenes and val_scenes are both 0: ask for at least one scene.")
        return self

    @property
    def version(self) -> str:
        """Name of the table folder, which the devkit checks the split names against."""
        return f"v1.0-sim-{self.kind}"

    def digest(self) -> str:
        """Hex digest that is equal exactly when the written bytes are."""
        text = f"{SIMULATOR_REVISION}:{self.model_dump_json()}"
        return hashlib.sha256(text.encode()).hexdigest()
