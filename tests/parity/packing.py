"""Recorded cases in one compressed file each, without loss.

``NAME.xz`` holds one line of JSON (settings, description, and name, type and shape of each array), then the arrays one
after the other, each as the first bytes of all its elements, their second bytes, and so on: what elements share, their
exponents, lies together and packs well.
"""

import json
import lzma
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.parity.golden import GoldenCase


def write_packed(path: Path, case: GoldenCase) -> None:
    """Write a case to one file."""
    arrays = {key: np.asarray(values).astype(values.dtype.newbyteorder("<")) for key, values in case.arrays.items()}
    header = {
        "config": case.config,
        "description": case.description,
        "arrays": [[key, values.dtype.str, list(values.shape)] for key, values in arrays.items()],
    }
    data = json.dumps(header, separators=(",", ":")).encode() + b"\n" + b"".join(map(_planes, arrays.values()))
    path.write_bytes(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME))


def read_packed(path: Path) -> GoldenCase:
    """The case of a file."""
    line, _, data = lzma.decompress(path.read_bytes()).partition(b"\n")
    header = json.loads(line)
    arrays, begin = {}, 0
    for key, kind, shape in header["arrays"]:
        dtype = np.dtype(kind)
        end = begin + math.prod(shape) * dtype.itemsize
        planes = np.frombuffer(data[begin:end], np.uint8).reshape(dtype.itemsize, -1)
        arrays[key] = np.frombuffer(bytearray(planes.T.tobytes()), dtype).reshape(shape)
        begin = end
    if begin != len(data):
        raise ValueError(f"{path.name} has {len(data)} bytes of arrays, and its header names {begin}")
    return GoldenCase(path.name.removesuffix(".xz"), header["config"], arrays, header["description"])


def _planes(values: NDArray) -> bytes:
    return np.frombuffer(values.tobytes(), np.uint8).reshape(-1, values.dtype.itemsize).T.tobytes()


def write_key_lists(path: Path, lists: dict[str, Any]) -> None:
    """Write what is recorded about the tensors of the published models, by model."""
    path.write_bytes(lzma.compress(json.dumps(lists, separators=(",", ":")).encode(), preset=9))


def read_key_lists(path: Path) -> dict[str, Any]:
    """Names, shapes and types of the tensors of the published models, by model."""
    return json.loads(lzma.decompress(path.read_bytes()))
