"""Shard files: compressed items with a Parquet index, as bytes and arrays; without torch, whose loading takes 0.2 GB.

An *item* is a set of named tensors under a key (a sample token and a view). Each is a safetensors file of its own,
compressed losslessly (zstd); a shard is a safetensors file whose tensors are the compressed items as bytes, named
``<token>/<view>``. ``index.parquet`` says where each item lies (:data:`INDEX_SCHEMA`), so that reading one is a single
access whatever the number of items. Shards are written whole or not at all, so a killed writer continues with the first
shard that is missing; equal items give equal bytes.
"""

import json
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from crkd_core.artifacts.atomic import write_bytes
from crkd_core.artifacts.tables import write_table
from crkd_core.errors import DamagedArtifactError

INDEX_NAME = "index.parquet"
INDEX_SCHEMA = pa.schema(
    [
        pa.field("token", pa.string(), metadata={"doc": "sample token"}),
        pa.field("view", pa.int32(), metadata={"doc": "number of the augmented view, 0 where there is only one"}),
        pa.field("shard", pa.string(), metadata={"doc": "file name of the shard"}),
        pa.field("offset", pa.int64(), metadata={"doc": "first byte of the compressed item in that file"}),
        pa.field("bytes", pa.int64(), metadata={"doc": "length of the compressed item"}),
    ]
)
UNREADABLE = (SafetensorError, OSError, pa.ArrowException, struct.error, MemoryError, OverflowError)
"""What reading a damaged shard may raise."""
_RAW_SIZE = struct.Struct("<Q")
_LEVEL, _FAST_LEVEL = 1, -10


@dataclass(frozen=True)
class ItemKey:
    """A sample token and the number of an augmented view (0 where there is only one)."""

    token: str
    view: int = 0

    def __str__(self) -> str:
        return f"{self.token}/{self.view}"


def key_of_name(name: str) -> ItemKey:
    """The inverse of ``str(key)``; the token may have slashes of its own."""
    token, _, view = name.rpartition("/")
    return ItemKey(token, int(view))


def shard_name(number: int) -> str:
    """File name of the shard of a number."""
    return f"shard-{number:05d}.safetensors"


def compress_item(raw: bytes, float_bytes: int) -> bytes:
    """An item as a shard holds it: the size of its safetensors form (8 bytes, little-endian), and that in zstd.

    Args:
        raw: the safetensors form.
        float_bytes: how much of it is float32.
    """
    # Digits of float32 hardly compress, and unpacking them takes longest: these items are packed fast.
    codec = pa.Codec("zstd", compression_level=_FAST_LEVEL if 2 * float_bytes > len(raw) else _LEVEL)
    packed: bytes = codec.compress(raw, asbytes=True)
    return _RAW_SIZE.pack(len(raw)) + packed


def decompress_item(packed: bytes) -> bytes:
    """The inverse of :func:`compress_item`: the safetensors form.

    Raises:
        OSError, pyarrow.ArrowException, struct.error: the bytes are not a packed item.
    """
    (size,) = _RAW_SIZE.unpack_from(packed)
    raw: bytes = pa.Codec("zstd").decompress(pa.py_buffer(packed).slice(_RAW_SIZE.size), size, asbytes=True)
    return raw


def pack_arrays(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """An item of arrays, equal to that of equal tensors."""
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    float_bytes = sum(array.nbytes for array in contiguous.values() if array.dtype == np.float32)
    return compress_item(safetensors.numpy.save(contiguous), float_bytes)


def unpack_arrays(packed: bytes) -> dict[str, NDArray[Any]]:
    """The inverse of :func:`pack_arrays`.

    Raises:
        SafetensorError, OSError, pyarrow.ArrowException, struct.error: the bytes are not a packed item.
    """
    arrays: dict[str, NDArray[Any]] = safetensors.numpy.load(decompress_item(packed))
    return arrays


def write_packed(path: Path, items: Mapping[ItemKey, bytes]) -> None:
    """Write a shard of packed items, whole or not at all."""
    packed = {str(key): np.frombuffer(item, dtype=np.uint8) for key, item in items.items()}
    write_bytes(path, safetensors.numpy.save(packed))


def read_packed(path: Path) -> Iterator[tuple[ItemKey, bytes]]:
    """The packed items of one finished shard of an artifact that is still being written.

    Raises:
        DamagedArtifactError: it cannot be read.
    """
    try:
        with safe_open(path, framework="np") as shard:
            for name in shard.keys():  # noqa: SIM118
                yield key_of_name(name), shard.get_tensor(name).tobytes()
    except UNREADABLE as error:
        raise unfinished_damaged(path, error) from None


def write_index(folder: Path, shards: Iterable[str]) -> int:
    """Write ``index.parquet`` for finished shards from their headers; returns the number of items."""
    rows = []
    for shard in shards:
        header, first_byte = _read_header(folder / shard)
        for name, entry in header.items():
            if name != "__metadata__":
                key = key_of_name(name)
                start, end = entry["data_offsets"]
                rows.append((key.token, key.view, shard, first_byte + start, end - start))
    columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in INDEX_SCHEMA]
    write_table(folder / INDEX_NAME, pa.table(columns, schema=INDEX_SCHEMA))
    return len(rows)


def _read_header(path: Path) -> tuple[dict[str, Any], int]:
    """A safetensors file's header, and the position of the first byte after it."""
    try:
        with path.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            return json.loads(stream.read(length)), 8 + length
    except (OSError, OverflowError, struct.error, ValueError) as error:
        raise unfinished_damaged(path, error) from None


def unfinished_damaged(path: Path, error: Exception) -> DamagedArtifactError:
    """The error to raise where a shard of an unfinished artifact cannot be read."""
    return DamagedArtifactError(
        f"the unfinished {path} cannot be read as safetensors ({error}); start afresh with --no-resume."
    )
