"""Radar files of other fields than nuScenes', read as a description names them.

A velocity relative to the moving sensor is made one over ground: the sensor's own velocity is added, and the sum
projected on the line of sight, which is what nuScenes' ``vx_comp``, ``vy_comp`` are.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crkd_core.config.description_points import RadarPoints
from crkd_core.datasets.nuscenes.files import read_small_file
from crkd_core.datasets.nuscenes.pcd import PcdError, PcdNotAsDescribed, read_header, read_points
from crkd_core.datasets.nuscenes.radar import CODE_FIELDS, are_measurable, check_codes, check_measured, refusal

_POSITION, _VELOCITY = ("x", "y", "z"), ("vx_comp", "vy_comp", "vz_comp")
_MEASURED = (*_POSITION, "rcs", *_VELOCITY)
RADAR_POINT = np.dtype([*((name, "<f4") for name in _MEASURED), *((name, "i1") for name in CODE_FIELDS)])
"""A point of any radar: position (m), cross-section (dBsm) and velocity over ground (m/s), and nuScenes' codes."""
_UNKNOWN_CODE = -1


def read_described_sweeps(
    paths: Sequence[Path | str], points: RadarPoints, sensor_mps: NDArray[np.float64] | None
) -> tuple[NDArray, NDArray[np.int64]]:
    """All points of many radar files, one file after another, as :data:`RADAR_POINT`, and the number of each.

    What the files do not have is 0; codes are then unknown. Points with a value that is not finite are dropped.

    Args:
        points: which fields mean what.
        sensor_mps: (F, 3) velocity of every file's sensor, in its own frame; for relative velocities.

    Raises:
        DatasetError: a file is missing, no PCD file, contradicts its header, lacks a field, or holds values that no
            radar measures.
    """
    parts = [_read(path, points) for path in paths]
    counts = np.array([len(part) for part in parts], dtype=np.int64)
    records = np.concatenate([np.empty(0, RADAR_POINT), *parts])
    if points.velocity == "relative" and sensor_mps is not None:
        position, relative = _columns(records, _POSITION), _columns(records, _VELOCITY)
        _set_velocity(records, over_ground(position, relative, np.repeat(sensor_mps, counts, axis=0), points.elevation))
    return records, counts


def over_ground(
    position: NDArray[np.float64],
    relative_mps: NDArray[np.float64],
    sensor_mps: NDArray[np.float64],
    elevation: bool,
) -> NDArray[np.float64]:
    """(P, 3) velocities over ground along the line of sight, from (P, 3) velocities relative to the moving sensor.

    Args:
        position: (P, 3), in the sensor's frame as the velocities are.
        elevation: whether its third axis is measured; it does not count otherwise.
    """
    sight = _sights(position, elevation)
    return np.einsum("pi,pi->p", relative_mps + sensor_mps, sight)[:, None] * sight


def _sights(position: NDArray[np.float64], elevation: bool) -> NDArray[np.float64]:
    """(P, 3) unit vectors from the sensor to points; zero for a point in the sensor."""
    sight = position * (1.0, 1.0, float(elevation))
    length = np.linalg.norm(sight, axis=1, keepdims=True)
    return sight / np.where(length > 0, length, 1.0)


def _set_velocity(records: NDArray, velocity: NDArray[np.float64]) -> None:
    for column, name in enumerate(_VELOCITY):
        records[name] = velocity[:, column]


def _read(path: Path | str, points: RadarPoints) -> NDArray:
    field_of = _fields(points)
    try:
        data = read_small_file(path, "radar file")
        header = read_header(data)
        if not points.elevation and "z" not in header.single:
            del field_of["z"]
        lacking = [name for name in field_of.values() if name not in header.single]
        if lacking:
            raise PcdNotAsDescribed(
                f"it lacks the field{'s' * (len(lacking) > 1)} {', '.join(lacking)} of the description and has "
                f"{', '.join(header.by_name)}",
                "say the names of its fields in radar_points of the description",
            )
        stored = read_points(data, header, tuple(dict.fromkeys(field_of.values())))
        measured = np.zeros((len(stored), len(_MEASURED)))
        for column, name in enumerate(_MEASURED):
            if name in field_of:
                measured[:, column] = stored[field_of[name]]
        finite = np.isfinite(measured).all(axis=1)
        measured, stored = measured[finite], stored[finite]
        if not are_measurable(np.abs(measured)).all():
            check_measured(measured, [field_of.get(name, name) for name in _MEASURED])
        if points.codes:
            check_codes(stored)
    except PcdError as error:
        raise refusal(error, path) from None
    records = np.empty(len(stored), RADAR_POINT)
    for column, name in enumerate(_MEASURED):
        records[name] = measured[:, column]
    if len(points.velocity_fields) == 1:
        _set_velocity(records, measured[:, 4:5] * _sights(measured[:, :3], points.elevation))
    for name in CODE_FIELDS:
        records[name] = stored[name].astype(np.int64).astype(np.int8) if points.codes else _UNKNOWN_CODE
    return records


def _fields(points: RadarPoints) -> dict[str, str]:
    """Field of the files by what it means."""
    fields = {name: name for name in _POSITION} | dict(zip(_VELOCITY, points.velocity_fields))
    if points.rcs_field is not None:
        fields["rcs"] = points.rcs_field
    return fields | ({name: name for name in CODE_FIELDS} if points.codes else {})


def _columns(records: NDArray, names: Sequence[str]) -> NDArray[np.float64]:
    return np.stack([records[name].astype(np.float64) for name in names], axis=1)
