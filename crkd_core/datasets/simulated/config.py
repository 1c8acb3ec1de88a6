"""What can be chosen about the simulated world."""

import hashlib
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from crkd_core.config.numbers import Count, Positive, PositiveInt, Seed
from crkd_core.config.sections import OmittedAtDefault, Section
from crkd_core.datasets.nuscenes import splits as nuscenes_splits
from crkd_core.datasets.simulated.sensors.rig_description import Mounted, RigDescription, package_rig
from crkd_core.errors import ConfigError

Format = Literal["nuscenes", "truckscenes"]
KEY_FRAME_PERIOD_S = 0.5
_VERSIONS = {"nuscenes": "v1.0-sim", "truckscenes": "v1.2"}

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

    format: Annotated[Format, OmittedAtDefault] = Field(
        "nuscenes",
        description="Tables, files, scene names and world: a town's streets, or a truck's roads.",
    )
    rig: Annotated[RigDescription | None, OmittedAtDefault] = Field(
        None, description="The vehicle and its sensors; none: the one of the format."
    )
    kind: Literal["mini", "trainval"] = Field(
        "mini",
        description="Which official split names the scenes borrow: those of the mini version or of trainval.",
    )
    train_scenes: Count = Field(8, description="Scenes of the training split (mini: at most 8, trainval: 700 or 523).")
    val_scenes: Count = Field(2, description="Scenes of the validation split (mini: at most 2, trainval: 150 or 75).")
    samples_per_scene: PositiveInt = Field(40, le=80, description="Key frames per scene, two per second.")
    image_width: PositiveInt = Field(
        1600,
        ge=64,
        description="Width of the widest camera's images in pixels; focal lengths and other cameras scale with it.",
    )
    image_height: PositiveInt = Field(900, ge=36, description="Height of the widest camera's images in pixels.")
    jpeg_quality: PositiveInt = Field(90, ge=30, le=100, description="JPEG quality of the images, in percent.")
    lidar_azimuth_steps: PositiveInt = Field(
        1084, ge=36, le=4096, description="Firings of the reference LiDAR per revolution; other LiDARs scale with it."
    )
    lidar_sweeps_per_key_frame: Count = Field(
        9, description="LiDAR sweeps kept right before each key frame but the first; at 20 Hz, 9 is all."
    )
    radar_sweeps_per_key_frame: Count = Field(
        6, description="Sweeps of each radar kept right before each key frame but the first; at 13 Hz, 6 is all."
    )
    camera_sweeps_per_key_frame: Count = Field(
        5, description="Sweeps of each camera kept right before each key frame but the first; at 12 Hz, 5 is all."
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

    @model_validator(mode="before")
    @classmethod
    def _fill_from_rig(cls, values: Any) -> Any:
        """The sizes of a rig are the defaults of a world with it."""
        rig = _rig_of(values) if isinstance(values, dict) else None
        return values if rig is None else {**rig_sizes(rig), **values}

    @model_validator(mode="after")
    def _check_scenes(self) -> "SimulationConfig":
        counts = {"train_scenes": self.train_scenes, "val_scenes": self.val_scenes}
        for (field, count), split in zip(counts.items(), nuscenes_splits.SPLITS_OF_KIND[self.kind], strict=True):
            most = len(self.official_scenes(split))
            if count > most:
                raise ConfigError(
                    f"{field} = {count} is too many: kind '{self.kind}' has {most} official scene names to give; "
                    f"ask for at most {most}" + (", or use kind 'trainval'." if self.kind == "mini" else ".")
                )
        if self.train_scenes + self.val_scenes == 0:
            raise ConfigError("train_scenes and val_scenes are both 0: ask for at least one scene.")
        return self

    @model_validator(mode="after")
    def _check_sizes(self) -> "SimulationConfig":
        rig = self.vehicle_rig
        most = rig_sizes(rig)
        for field in ("image_width", "image_height", *SWEEPS):
            if getattr(self, field) > most[field]:
                reason = "the cameras have" if field.startswith("image") else "there are between two key frames"
                raise ConfigError(
                    f"{field} = {getattr(self, field)} is more than {reason}: ask for at most {most[field]}."
                )
        if self.format == "truckscenes":
            other = [radar.channel for radar in rig.radars if radar.points != "relative"]
            if other:
                raise ConfigError(
                    f"radar {other[0]} writes other points than TruckScenes has: give it 'points: relative', or use "
                    "the format nuscenes."
                )
        return self

    @property
    def vehicle_rig(self) -> RigDescription:
        """The vehicle and its sensors."""
        return self.rig if self.rig is not None else package_rig(self.format)

    def official_scenes(self, split: str) -> tuple[str, ...]:
        """Scene names of an official split of the format."""
        return nuscenes_splits.PUBLISHED[self.format](split)

    @property
    def version(self) -> str:
        """Name of the table folder, which the devkits check the split names against."""
        return f"{_VERSIONS[self.format]}-{self.kind}"

    def digest(self) -> str:
        """Hex digest that is equal exactly when the written bytes are."""
        text = f"{SIMULATOR_REVISION}:{self.model_dump_json()}"
        if self.rig is None and self.format != "nuscenes":
            text += self.vehicle_rig.model_dump_json()
        return hashlib.sha256(text.encode()).hexdigest()


SWEEPS = ("lidar_sweeps_per_key_frame", "radar_sweeps_per_key_frame", "camera_sweeps_per_key_frame")
"""Settings that say how many sweeps are kept."""


def rig_sizes(rig: RigDescription) -> dict[str, int]:
    """Image size, LiDAR resolution and numbers of sweeps of a world in which a rig keeps all that it records."""
    camera = rig.widest_camera
    sweeps = (most_sweeps(sensors) for sensors in (rig.lidars, rig.radars, rig.cameras))
    return {
        "image_width": camera.width_px,
        "image_height": camera.height_px,
        "lidar_azimuth_steps": rig.reference.azimuth_steps,
        **dict(zip(SWEEPS, sweeps, strict=True)),
    }


def most_sweeps(sensors: Sequence[Mounted]) -> int:
    """How often the fastest of some sensors fires between two key frames."""
    return max((sweeps_between(sensor.rate_hz) for sensor in sensors), default=0)


def sweeps_between(rate_hz: float) -> int:
    """How often a sensor fires between two key frames, at least half a period apart from either."""
    period = 1.0 / rate_hz
    return int((KEY_FRAME_PERIOD_S - period / 2) / period)


def world_size(size: str, format: Format = "nuscenes", rig: RigDescription | None = None) -> dict[str, Any]:
    """Settings of a named size for a rig: its own image sizes and rates, in proportion to those of nuScenes."""
    values: dict[str, Any] = dict(WORLD_SIZES[size])
    if rig is None and format == "nuscenes":
        return values
    nuscenes, sizes = rig_sizes(package_rig("nuscenes")), rig_sizes(rig or package_rig(format))
    for field in nuscenes.keys() & values.keys():
        share = values[field] / nuscenes[field] if nuscenes[field] else 0
        values[field] = round(sizes[field] * share)
    return values


def _rig_of(values: dict[str, Any]) -> RigDescription | None:
    """The rig that some values name; None where it is nuScenes' own, or wrong and refused later."""
    rig, name = values.get("rig"), values.get("format", "nuscenes")
    if isinstance(rig, RigDescription):
        return rig
    return package_rig(name) if rig is None and name == "truckscenes" else None
