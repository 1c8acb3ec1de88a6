"""A vehicle as data: how large it is, where its sensors sit, and what each of them measures.

A rig is read from YAML. Ego frame: origin on the ground below the rear axle, x forward, y left, z up. Angles are in
degrees: yaw to the left of straight ahead, pitch downward.
"""

import re
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, model_validator

from crkd_core.config.explaining import explain_invalid
from crkd_core.config.numbers import Finite, Positive, PositiveInt
from crkd_core.config.sections import Section
from crkd_core.config.text_files import read_setting_file
from crkd_core.config.yaml_reader import read_yaml
from crkd_core.errors import ConfigError, quoted


def _check_channel(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,63}", name):
        raise ValueError(f"{quoted(name)} is no channel: expected a letter, then letters, digits and underscores")
    return name


Channel = Annotated[str, AfterValidator(_check_channel)]
Metres = Annotated[Finite, Field(ge=-50, le=50)]
Extent = Annotated[Positive, Field(le=40)]
Height = Annotated[Positive, Field(le=10)]
Turn = Annotated[Finite, Field(ge=-360, le=360)]
Rate = Annotated[Positive, Field(ge=2, le=100)]
Offset = Annotated[Finite, Field(gt=-0.25, lt=0.25)]
Reach = Annotated[Positive, Field(ge=5, le=400)]
RIGS = ("nuscenes", "truckscenes")
"""The rigs that come with the package."""


class Mounted(Section):
    """What all sensors have: a name, a position, a rate, and when they fire relative to the key frame."""

    channel: Channel = Field(description="Name of the sensor, its folder and its files.")
    x_m: Metres = Field(description="Position ahead of the rear axle, in metres.")
    y_m: Metres = Field(0.0, description="Position to the left of the middle, in metres.")
    z_m: Height = Field(description="Height above the ground, in metres.")
    yaw_deg: Turn = Field(0.0, description="Direction, counter-clockwise from straight ahead.")
    rate_hz: Rate = Field(description="Firings per second.")
    offset_s: Offset = Field(0.0, description="Firing of the key frame, after the key frame's own time stamp.")


class CameraDescription(Mounted):
    """A pinhole camera; it does not roll."""

    pitch_down_deg: Annotated[Finite, Field(ge=-60, le=60)] = Field(0.0, description="Downward tilt.")
    width_px: Annotated[PositiveInt, Field(ge=16, le=8192)] = Field(description="Image width.")
    height_px: Annotated[PositiveInt, Field(ge=16, le=8192)] = Field(description="Image height.")
    focal_px: Annotated[Positive, Field(le=100_000)] | None = Field(None, description="Focal length.")
    field_of_view_deg: Annotated[Positive, Field(ge=1, le=150)] | None = Field(
        None, description="Horizontal field of view, instead of a focal length."
    )
    centre_px: tuple[Finite, Finite] | None = Field(
        None, description="Principal point (column, row); the middle of the image by default."
    )

    @model_validator(mode="after")
    def _check_optics(self) -> "CameraDescription":
        if (self.focal_px is None) == (self.field_of_view_deg is None):
            problem = "no focal length" if self.focal_px is None else "two focal lengths"
            raise ConfigError(f"camera {self.channel} has {problem}: give it either focal_px or field_of_view_deg.")
        column, row = self.centre_px or (1.0, 1.0)
        if not (0 < column < self.width_px and 0 < row < self.height_px):
            raise ConfigError(
                f"camera {self.channel} looks past its own image: centre_px ({column:g}, {row:g}) is not within "
                f"{self.width_px} x {self.height_px} pixels."
            )
        return self


class LidarDescription(Mounted):
    """A spinning LiDAR: beams at even elevations, fired at even azimuths of a whole revolution."""

    reference: bool = Field(False, description="Its frame is the one that points are merged in; true of one LiDAR.")
    pitch_down_deg: Annotated[Finite, Field(ge=-90, le=90)] = Field(0.0, description="Tilt of its axis, forward.")
    rotation_wxyz: tuple[Finite, Finite, Finite, Finite] | None = Field(
        None, description="Unit quaternion ego_from_sensor, instead of yaw and pitch."
    )
    beams: Annotated[PositiveInt, Field(ge=2, le=256)] = Field(description="Number of beams.")
    elevation_deg: tuple[Finite, Finite] = Field(description="Elevation of the lowest and the highest beam.")
    azimuth_steps: Annotated[PositiveInt, Field(ge=36, le=4096)] = Field(description="Firings per revolution.")
    range_m: Reach = Field(description="Greatest distance.")
    nearest_m: Annotated[Positive, Field(le=5)] = Field(1.0, description="Least distance.")

    @model_validator(mode="after")
    def _check_beams(self) -> "LidarDescription":
        low, high = self.elevation_deg
        if not -89 <= low < high <= 89:
            raise ConfigError(
                f"elevation_deg of {self.channel} is ({low:g}, {high:g}): expected the lowest and then the highest "
                "beam, within 89 degrees of level."
            )
        if self.rotation_wxyz is not None:
            length = sum(value**2 for value in self.rotation_wxyz) ** 0.5
            if abs(length - 1) > 1e-3:
                raise ConfigError(
                    f"rotation_wxyz of {self.channel} has length {length:.4g}: expected a unit quaternion."
                )
            if self.yaw_deg or self.pitch_down_deg:
                raise ConfigError(f"{self.channel} has both rotation_wxyz and angles: give it one of them.")
        return self


class RadarView(Section):
    """One beam of a radar: how far it reaches, and how far to either side."""

    range_m: Reach
    half_angle_deg: Annotated[Positive, Field(le=85)]


class RadarDescription(Mounted):
    """A radar that is mounted level: with an elevation a 4D one, without it every point has z = 0."""

    views: tuple[RadarView, ...] = Field(min_length=1, max_length=4, description="Its beams.")
    elevation_half_angle_deg: Annotated[Positive, Field(le=45)] | None = Field(
        None, description="How far up and down a 4D radar sees; none: elevation is not measured."
    )
    most_points: Annotated[PositiveInt, Field(le=5000)] = Field(description="Detections a sweep has at most.")
    points: Literal["nuscenes", "relative", "compensated"] = Field(
        description="Fields of its files. nuscenes: 18, with both velocities and state codes; relative: x y z vrel_x "
        "vrel_y vrel_z rcs, velocities against the moving sensor; compensated: x y z vx_comp vy_comp vz_comp rcs."
    )
    resolution: Annotated[Positive, Field(ge=0.1, le=20)] = Field(
        1.0, description="Detections per object, relative to nuScenes' radars."
    )
    sensitivity_db: Annotated[Finite, Field(ge=-20, le=30)] = Field(
        0.0, description="How much weaker the echoes are that it notices, relative to nuScenes' radars."
    )

    @property
    def widest(self) -> RadarView:
        """The view that reaches farthest to the sides."""
        return max(self.views, key=lambda view: view.half_angle_deg)

    @property
    def range_m(self) -> float:
        """How far the farthest view reaches."""
        return max(view.range_m for view in self.views)


class VehicleBody(Section):
    """The ego vehicle itself, a box that nothing else may touch."""

    length_m: Extent = Field(4.9, description="Length without a trailer.")
    width_m: Height = Field(1.9, description="Width.")
    height_m: Height = Field(1.7, description="Height.")
    centre_ahead_m: Metres = Field(1.4, description="How far its middle lies ahead of the rear axle.")
    is_seen: bool = Field(False, description="Whether its own sensors see it and cannot look through it.")


class Trailer(Section):
    """A trailer that the vehicle tows: sensors see it, and it is annotated."""

    length_m: Extent = Field(description="Length.")
    width_m: Height = Field(description="Width.")
    height_m: Height = Field(description="Height.")
    front_ahead_m: Metres = Field(description="How far its front lies ahead of the vehicle's rear axle.")


class RigDescription(Section):
    """A vehicle and its sensors."""

    vehicle: VehicleBody = VehicleBody()
    trailer: Trailer | None = None
    cameras: tuple[CameraDescription, ...] = Field(min_length=1, max_length=32)
    lidars: tuple[LidarDescription, ...] = Field(min_length=1, max_length=32)
    radars: tuple[RadarDescription, ...] = Field((), max_length=32)

    @model_validator(mode="after")
    def _check_channels(self) -> "RigDescription":
        channels = [sensor.channel for sensor in (*self.cameras, *self.lidars, *self.radars)]
        twice = [channel for channel in channels if channels.count(channel) > 1]
        if twice:
            raise ConfigError(f"two sensors are called {twice[0]}: every channel needs a name of its own.")
        references = [lidar.channel for lidar in self.lidars if lidar.reference]
        if len(references) != 1:
            these = f"{', '.join(references)} are" if references else "none is"
            raise ConfigError(f"one LiDAR must be the reference, and {these}: mark exactly one with 'reference: true'.")
        if self.trailer is not None and self.trailer.front_ahead_m >= self._front_m:
            raise ConfigError(
                f"the trailer begins {self.trailer.front_ahead_m:g} m ahead of the rear axle, before the vehicle's own "
                f"front at {self._front_m:g} m: lower trailer.front_ahead_m."
            )
        return self

    @property
    def _front_m(self) -> float:
        return self.vehicle.centre_ahead_m + self.vehicle.length_m / 2

    @property
    def reference(self) -> LidarDescription:
        """The LiDAR whose frame and time stamp a key frame has."""
        return next(lidar for lidar in self.lidars if lidar.reference)

    @property
    def widest_camera(self) -> CameraDescription:
        """The first camera with the widest images: the configured image size is its, the others' go with it."""
        return max(self.cameras, key=lambda camera: camera.width_px)


@cache
def package_rig(name: str) -> RigDescription:
    """One of :data:`RIGS`."""
    text = (resources.files("crkd_core.datasets.simulated") / "rigs" / f"{name}.yaml").read_text(encoding="utf-8")
    return _validated(read_yaml(text, f"rig {name}"), name)


def read_rig(path: Path) -> RigDescription:
    """A rig of one's own.

    Raises:
        ConfigError: the file cannot be read, or what it says is no rig.
    """
    return _validated(read_yaml(read_setting_file(path, "the rig file"), str(path)), str(path))


def _validated(values: Any, source: str) -> RigDescription:
    if not isinstance(values, dict):
        raise ConfigError(f"{source} must hold keys such as 'cameras:', found {type(values).__name__}.")
    try:
        return RigDescription.model_validate(values)
    except ValidationError as error:
        raise ConfigError(explain_invalid(error, RigDescription, f"{source}:", source)) from None
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None
