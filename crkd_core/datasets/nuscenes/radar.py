"""Radar sweeps: PCD files of 18 fields, and the 45 features a radar point enters the network with.

Columns of the expanded features:

====== ============ =================================================================================
column name         meaning
====== ============ =================================================================================
0-2    x y z        position (m)
3      rcs          radar cross-section (dBsm)
4-5    vx vy        radial velocity with the ego motion removed (``vx_comp``, ``vy_comp``, m/s)
6      dt           age relative to the newest sweep of the same radar (s, >= 0)
7-14   dyn_prop     one-hot of 8 dynamic properties (moving, stationary, oncoming, ...)
15-19  ambig_state  one-hot of 5 Doppler ambiguity states
20-37  invalid      one-hot of 18 validity states
38-44  pdh0         thermometer of the false-alarm class 0 to 7: class k sets the first k columns
====== ============ =================================================================================

Stored compactly: ``values`` (P, 7) float32 are columns 0 to 6, ``codes`` (P, 4) uint8 are dyn_prop, ambig_state,
invalid_state and pdh0. A code outside its range sets no column of its one-hot.

What the velocities of a record mean (m/s, axes of the sensor). A radar measures how fast the distance to a point
changes; the rest is filled in.

- ``vx``, ``vy``: velocity relative to the moving sensor, in steps of 0.25. Its part along the line of sight is what was
  measured. Across it, a standing point has what the sensor's own motion gives it: minus the sensor's velocity, and the
  turning of the sensor times the distance. A moving point is given no ``vy``.
- ``vx_comp``, ``vy_comp``: over ground, and only the part along the line of sight: the sensor's own velocity is added
  to ``vx``, ``vy``, and the sum projected on the direction to the point.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crkd_core.datasets.nuscenes.files import read_small_file
from crkd_core.datasets.nuscenes.pcd import PcdError, encode_points, read_header, read_points
from crkd_core.errors import DatasetError

FEATURES = 45
VALUES = 7
CODES = 4
RADAR_RECORD = np.dtype(
    [
        ("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("dyn_prop", "i1"), ("id", "<i2"), ("rcs", "<f4"), ("vx", "<f4"),
        ("vy", "<f4"), ("vx_comp", "<f4"), ("vy_comp", "<f4"), ("is_quality_valid", "i1"), ("ambig_state", "i1"),
        ("x_rms", "i1"), ("y_rms", "i1"), ("invalid_state", "i1"), ("pdh0", "i1"), ("vx_rms", "i1"), ("vy_rms", "i1"),
    ]
)  # fmt: skip
"""A point of a nuScenes radar file."""
_FIELDS: tuple[str, ...] = RADAR_RECORD.names or ()
_NAMES = frozenset(_FIELDS)
_MEASURED = ("x", "y", "z", "rcs", "vx", "vy", "vx_comp", "vy_comp")
_BLOCKS = np.dtype(
    {"names": ["position", "rest"], "formats": ["(3,)<f4", "(5,)<f4"], "offsets": [0, 15], "itemsize": 43}
)
_CODED = ("dyn_prop", "ambig_state", "invalid_state", "pdh0")
_KEPT = (*_MEASURED, *_CODED)
_KIND = "radar file"
_LEAST, _MOST = 1e-30, 1000.0
_HEADER_AND_FILLING_BYTES = 4096
_ONE_HOTS = ((7, 8), (15, 5), (20, 18))
_PDH0_START, _PDH0_COLUMNS = 38, 7


def read_radar(path: Path) -> NDArray:
    """The records of one radar file as a structured array with the 18 fields of the format, otherwise unfiltered.

    Fields may come in any order, among others, and as any type (measured values are given as float32, codes as int8,
    the other fields as the file has them). A record with a value that is not finite is dropped.

    Raises:
        DatasetError: the file is missing, not a PCD file, contradicts its header, lacks a field, or holds values that
            no radar measures.
    """
    return parse_radar(read_small_file(path, _KIND), path)


def read_sweeps(paths: Sequence[Path | str]) -> tuple[NDArray, NDArray[np.int64]]:
    """What the network gets to see of many radar files: all records, one file after another, and the number of each.

    The records are of :data:`RADAR_RECORD`, where fields that nobody uses may be zero; see :func:`read_radar`.

    Raises:
        DatasetError: as :func:`read_radar`.
    """
    parts = [_point_bytes(read_small_file(path, _KIND), path) for path in paths]
    counts = np.array([len(part) for part in parts], dtype=np.int64) // RADAR_RECORD.itemsize
    records = np.frombuffer(b"".join(parts), RADAR_RECORD)
    measurable = _are_measurable(np.abs(_measured_values(records))).all(axis=1)
    if measurable.all():
        return records, counts
    ends = np.cumsum(counts)
    for number in np.unique(np.searchsorted(ends, np.flatnonzero(~measurable), side="right")).tolist():
        try:
            usable = _usable(records[ends[number] - counts[number] : ends[number]])
        except PcdError as error:
            raise _refusal(error, paths[number]) from None
        parts[number], counts[number] = usable.tobytes(), len(usable)
    return np.frombuffer(b"".join(parts), RADAR_RECORD), counts


def _point_bytes(data: bytes, path: Path | str) -> bytes:
    """The points of a file as it has them where their layout is nuScenes' own, otherwise converted to it."""
    try:
        header = read_header(data)
    except PcdError as error:
        raise _refusal(error, path) from None
    end = header.body + header.points * RADAR_RECORD.itemsize
    if header.kind == "binary" and len(data) >= end and _is_radar_record(header.whole_record):
        return data[header.body : end]
    records = parse_radar(data, path)
    converted = np.zeros(len(records), RADAR_RECORD)
    for name in _KEPT:
        converted[name] = records[name]
    return converted.tobytes()


@lru_cache(maxsize=512)  # comparing the fields takes longer than copying the points
def _is_radar_record(record: np.dtype | None) -> bool:
    return record == RADAR_RECORD


def _usable(records: NDArray) -> NDArray:
    """Records without those that are not finite, where no other has a value that no radar measures."""
    values = _measured_values(records)
    finite = np.isfinite(values).all(axis=1)
    _check_measured(values[finite])
    return records[finite]


def _refusal(error: PcdError, path: Path | str) -> DatasetError:
    return DatasetError(f"the radar file {path} is {error.state}: {error.problem}; {error.remedy}.")


def parse_radar(data: bytes, path: Path | str) -> NDArray:
    """The records of a radar file's bytes; `path` is for messages. See :func:`read_radar`."""
    try:
        header = read_header(data)
        if not header.single >= _NAMES:
            lacking = [name for name in _FIELDS if name not in header.single]
            raise PcdError(
                f"it has other fields than nuScenes radar: it lacks {', '.join(lacking)} (with a COUNT of 1)",
                f"write it with the fields {' '.join(_FIELDS)}",
            )
        records = read_points(data, header, _FIELDS)
        if records.dtype != RADAR_RECORD:
            return _converted(records)
        return records if _are_measurable(np.abs(_measured_values(records))).all() else _usable(records)
    except PcdError as error:
        raise _refusal(error, path) from None


def encode_radar(records: NDArray) -> bytes:
    """The file of (P,) :data:`RADAR_RECORD` points, filled with zeros as nuScenes fills it: 4096 + 43 P bytes in all.

    An empty sweep is one point of NaN, because the devkit expects at least one.
    """
    if not len(records):
        records = np.zeros(1, RADAR_RECORD)
        for name in _FIELDS:
            if RADAR_RECORD[name].kind == "f":
                records[name] = np.nan
    data = encode_points(records)
    return data.ljust(_HEADER_AND_FILLING_BYTES + records.nbytes, b"\0")


def _measured_values(records: NDArray) -> NDArray[np.float32]:
    blocks = records.view(_BLOCKS)
    return np.concatenate([blocks["position"], blocks["rest"]], axis=1)


def _converted(records: NDArray) -> NDArray:
    """Finite records of other types as :func:`read_radar` gives them."""
    finite = np.ones(len(records), dtype=bool)
    for name in _FIELDS:
        if records.dtype[name].kind == "f":
            finite &= np.isfinite(records[name])
    records = records[finite]
    _check_measured(np.stack([records[name].astype(np.float64) for name in _MEASURED], axis=1))
    for name in _CODED:
        # What is stored has a byte for a code: all that lies beyond would turn into another code.
        wrong = (records[name] != np.round(records[name])) | (records[name] < -128) | (records[name] > 255)
        if wrong.any():
            value = records[name][wrong][0]
            raise PcdError(f"its {name} is {value:g}; expected whole numbers from -128 to 255", _CONVERT)
    converted = np.empty(len(records), [(n, (RADAR_RECORD if n in _KEPT else records.dtype)[n]) for n in _FIELDS])
    for name in _FIELDS:
        values = records[name]
        converted[name] = values.astype(np.int64).astype(np.int8) if name in _CODED else values
    return converted


_CONVERT = "convert it again, in metres, dBsm and m/s"


def _check_measured(values: NDArray[np.floating]) -> None:
    """Refuse (P, 8) values of `_MEASURED` of which some cannot have been measured: a sign of another layout."""
    wrong = ~_are_measurable(np.abs(values))
    if wrong.any():
        point, column = np.argwhere(wrong)[0]
        raise PcdError(
            f"its {_MEASURED[column]} is {values[point, column]:.3g}; expected 0 or sizes from {_LEAST:g} to {_MOST:g}",
            _CONVERT,
        )


def _are_measurable(sizes: NDArray[np.floating]) -> NDArray[np.bool_]:
    return (sizes <= _MOST) & ((sizes >= _LEAST) | (sizes == 0))


def compact_features(
    records: NDArray, lidar_from_radar: NDArray[np.float64], age_s: float
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Points of one sweep in the key frame's LiDAR frame, as ``values`` (P, 7) and ``codes`` (P, 4).

    Velocities are rotated only (radar has no vertical velocity); positions move by the compensated velocity times the
    age of the sweep, to where a target moving radially would be now.

    Args:
        records: from :func:`read_radar`.
        lidar_from_radar: 4x4, this sweep's sensor frame to the key frame's LiDAR frame, through both ego poses.
        age_s: how much older the sweep is than the newest one of the same radar.
    """
    return compact_sweeps(records, np.array([len(records)]), lidar_from_radar[None], np.array([age_s]))


def compact_sweeps(
    records: NDArray, counts: NDArray[np.int64], lidar_from_radar: NDArray[np.float64], age_s: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """The points of many sweeps, one after another, each as :func:`compact_features` gives it.

    Args:
        records: of all sweeps; `counts`: (N,) of each.
        lidar_from_radar: (N, 4, 4); `age_s`: (N,).
    """
    position = _columns(records, ("x", "y", "z"), np.float64)
    velocity = _columns(records, ("vx_comp", "vy_comp"), np.float64)
    end = 0
    rotations = lidar_from_radar[:, :3, :3].transpose(0, 2, 1)
    # A product a sweep: one of all together would round the last bit by where a sweep lies in it.
    for count, rotation, horizontal in zip(counts.tolist(), rotations, rotations[:, :2, :2]):
        start, end = end, end + count
        position[start:end] = position[start:end] @ rotation
        velocity[start:end] = velocity[start:end] @ horizontal
    ages = np.repeat(age_s, counts)
    position += np.repeat(lidar_from_radar[:, :3, 3], counts, axis=0)
    position[:, :2] += velocity * ages[:, None]
    values = np.empty((len(records), VALUES), dtype=np.float32)
    values[:, :3] = position
    values[:, 3] = records["rcs"]
    values[:, 4:6] = velocity
    values[:, 6] = ages
    return values, _columns(records, _CODED, np.int8).view(np.uint8)


def _columns(records: NDArray, names: Sequence[str], dtype: type) -> NDArray:
    """(P, N) values of some fields."""
    columns: NDArray = np.empty((len(records), len(names)), dtype=dtype)
    for column, name in enumerate(names):
        columns[:, column] = records[name]
    return columns


def expand_features(values: NDArray[np.float32], codes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(P, 45) network features from the compact form; the columns are in the module's table."""
    features = np.zeros((len(values), FEATURES), dtype=np.float32)
    features[:, :VALUES] = values
    rows = np.arange(len(values))
    for column, (start, count) in enumerate(_ONE_HOTS):
        known = codes[:, column] < count
        features[rows[known], start + codes[known, column].astype(np.int64)] = 1
    # A negative int8 reads as 128 or more: like any other unknown class it sets nothing.
    pdh0 = np.where(codes[:, 3] <= _PDH0_COLUMNS, codes[:, 3], 0)
    features[:, _PDH0_START:] = pdh0[:, None] > np.arange(_PDH0_COLUMNS)
    return features
