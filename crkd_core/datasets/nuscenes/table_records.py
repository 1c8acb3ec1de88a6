"""The records of nuScenes' tables: the fields that are read, and the JSON types that they have where all is well.

The types are for decoding quickly: a table with a value of another type is decoded with care instead, and
:mod:`crkd_core.datasets.nuscenes.records` then copes with it or names it. An absent field is ``UNSET``.
"""

from typing import Any

from msgspec import UNSET, Struct, UnsetType

# Unions are spelled with types that Python 3.10 can join at run time.
Token = str | int | None | UnsetType
Text = str | None | UnsetType
Number = int | float | None | UnsetType
Flag = bool | int | None | UnsetType
Tokens = list[str | int] | None | UnsetType
Vector3 = tuple[float, float, float] | None | UnsetType
Vector4 = tuple[float, float, float, float] | None | UnsetType


class TableRecord(Struct, gc=False):
    """A record of any table."""

    token: Any = UNSET


class LogRecord(TableRecord, gc=False):
    """``log.json``."""

    location: Text = UNSET


class SceneTableRecord(TableRecord, gc=False):
    """``scene.json``."""

    name: Text = UNSET
    description: Text = UNSET
    log_token: Token = UNSET


class SampleRecord(TableRecord, gc=False):
    """``sample.json``."""

    timestamp: Number = UNSET
    scene_token: Token = UNSET
    prev: Token = UNSET
    next: Token = UNSET


class SensorRecord(TableRecord, gc=False):
    """``sensor.json``."""

    channel: Text = UNSET


class CalibrationRecord(TableRecord, gc=False):
    """``calibrated_sensor.json``."""

    sensor_token: Token = UNSET
    translation: Vector3 = UNSET
    rotation: Vector4 = UNSET
    camera_intrinsic: Any = UNSET


class SampleDataRecord(TableRecord, gc=False):
    """``sample_data.json``."""

    sample_token: Token = UNSET
    ego_pose_token: Token = UNSET
    calibrated_sensor_token: Token = UNSET
    timestamp: Number = UNSET
    is_key_frame: Flag = UNSET
    height: Number = UNSET
    width: Number = UNSET
    filename: Text = UNSET


class PoseRecord(TableRecord, gc=False):
    """``ego_pose.json``."""

    translation: Vector3 = UNSET
    rotation: Vector4 = UNSET


class NameRecord(TableRecord, gc=False):
    """``category.json`` and ``attribute.json``."""

    name: Text = UNSET


class VisibilityRecord(TableRecord, gc=False):
    """``visibility.json``."""

    level: Text = UNSET


class InstanceRecord(TableRecord, gc=False):
    """``instance.json``."""

    category_token: Token = UNSET


class AnnotationRecord(TableRecord, gc=False):
    """``sample_annotation.json``."""

    sample_token: Token = UNSET
    instance_token: Token = UNSET
    visibility_token: Any = UNSET
    attribute_tokens: Tokens = UNSET
    translation: Vector3 = UNSET
    size: Vector3 = UNSET
    rotation: Vector4 = UNSET
    prev: Token = UNSET
    next: Token = UNSET
    num_lidar_pts: Number = UNSET
    num_radar_pts: Number = UNSET
