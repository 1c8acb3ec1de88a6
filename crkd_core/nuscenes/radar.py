"""Radar sweeps: binary PCD files of 43-byte records, and the 45 features a radar point enters the network with.

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
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crkd_core.errors import DatasetError
from crkd_core.nuscenes.regular_files import refuse_special_file

FEATURES = 45
VALUES = 7
CODES = 4
_RECORD = np.dtype(
    [
        ("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("dyn_prop", "i1"), ("id", "<i2"), ("rcs", "<f4"), ("vx", "<f4"),
        ("vy", "<f4"), ("vx_comp", "<f4"), ("vy_comp", "<f4"), ("is_quality_valid", "i1"), ("ambig_state", "i1"),
        ("x_rms", "i1"), ("y_rms", "i1"), ("invalid_state", "i1"), ("pdh0", "i1"), ("vx_rms", "i1"), ("vy_rms", "i1"),
    ]
)  # fmt: skip
RECORD_BYTES = _RECORD.itemsize
_ONE_HOTS = ((7, 8), (15, 5), (20, 18))
_PDH0_START, _PDH0_COLUMNS = 38, 7
_MARKER = b"DATA binary"


def read_radar(path: Path) -> NDArray:
    """The records of one radar file as a structured array with the 18 fields of the format, unfiltered.

    Exactly WIDTH records are read (real files have bytes after them); records with a NaN are dropped.

    Raises:
        DatasetError: the file is missing, not a binary radar PCD, or shorter than its header says.
    """
    refuse_special_file(path, "the radar file")
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise DatasetError(f"the radar file {path} is missing; unpack the archive it belongs to.") from None
    except OSError as error:
        raise DatasetError(f"the radar file {path} cannot be read: {error.strerror or error}.") from None
    return parse_radar(data, path)


def parse_radar(data: bytes, path: Path | str) -> NDArray:
    """The records of a radar file's bytes; `path` is for messages. See :func:`read_radar`."""
    marker = data.find(_MARKER)
    body = data.find(b"\n", marker) + 1 if marker >= 0 else 0
    if body == 0:
        raise DatasetError(
            f"the radar file {path} is damaged: expected a PCD header that ends in a line 'DATA binary', found none in "
            f"{len(data)} bytes; unpack it again."
        )
    header = dict(line.split(b" ", 1) for line in data[:body].split(b"\n") if b" " in line)
    fields = tuple(header.get(b"FIELDS", b"").decode("ascii", "replace").split())
    if fields != _RECORD.names:
        raise DatasetError(
            f"the radar file {path} has other fields than nuScenes radar: expected {' '.join(_RECORD.names or ())}, "
            f"found {' '.join(fields) or 'none'}."
        )
    width = int(header[b"WIDTH"]) if header.get(b"WIDTH", b"").strip().isdigit() else -1
    expected = width * RECORD_BYTES
    if width < 0 or len(data) - body < expected:
        raise DatasetError(
            f"the radar file {path} is truncated: expected {max(expected, 0)} bytes of points ({width} points of "
            f"{RECORD_BYTES} bytes), found {len(data) - body}; unpack it again."
        )
    records = np.frombuffer(data, dtype=_RECORD, count=width, offset=body)
    broken = np.zeros(width, dtype=bool)
    for name in ("x", "y", "z", "rcs", "vx", "vy", "vx_comp", "vy_comp"):
        broken |= np.isnan(records[name])
    return records[~broken] if broken.any() else records


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
    rotation, translation = lidar_from_radar[:3, :3], lidar_from_radar[:3, 3]
    position = np.stack([records["x"], records["y"], records["z"]], axis=1).astype(np.float64)
    velocity = np.stack([records["vx_comp"], records["vy_comp"]], axis=1).astype(np.float64)
    velocity = velocity @ rotation[:2, :2].T
    values = np.empty((len(records), VALUES), dtype=np.float32)
    position = position @ rotation.T + translation
    position[:, :2] += velocity * age_s
    values[:, :3] = position
    values[:, 3] = records["rcs"]
    values[:, 4:6] = velocity
    values[:, 6] = age_s
    codes = np.stack([records[name] for name in ("dyn_prop", "ambig_state", "invalid_state", "pdh0")], axis=1)
    return values, codes.view(np.uint8)


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
