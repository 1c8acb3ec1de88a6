"""Tensor shards: files of compressed items, with a Parquet index.

An *item* is a set of named tensors under a key (a sample token and a view). Each is a safetensors file of its own,
compressed losslessly (zstd); a shard is a safetensors file whose tensors are the compressed items as bytes, named
``<token>/<view>``. ``index.parquet`` says where each item lies (:data:`INDEX_SCHEMA`), so that reading one is a single
access whatever the number of items. Shards are written whole or not at all, so a killed writer continues with the first
shard that is missing; equal items give equal bytes.
"""

import json
import os
import struct
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import safetensors.numpy
import safetensors.torch
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from crkd_core.artifacts.artifact import Artifact
from crkd_core.artifacts.atomic import write_bytes
from crkd_core.artifacts.tables import read_table, write_table
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
_OPEN_SHARDS = 64
_RAW_SIZE = struct.Struct("<Q")
_LEVEL, _FAST_LEVEL = 1, -10
_UNREADABLE = (SafetensorError, OSError, pa.ArrowException, struct.error, MemoryError, OverflowError)


@dataclass(frozen=True)
class ItemKey:
    """A sample token and the number of an augmented view (0 where there is only one)."""

    token: str
    view: int = 0

    def __str__(self) -> str:
        return f"{self.token}/{self.view}"


def _key(name: str) -> ItemKey:
    """The inverse of ``str(key)``; the token may have slashes of its own."""
    token, _, view = name.rpartition("/")
    return ItemKey(token, int(view))


def shard_name(number: int) -> str:
    """File name of the shard of a number."""
    return f"shard-{number:05d}.safetensors"


def pack_item(tensors: Mapping[str, Tensor] | Mapping[str, NDArray[Any]]) -> bytes:
    """An item as a shard holds it: the size of its safetensors form (8 bytes, little-endian), and that in zstd.

    Equal tensors give equal bytes.
    """
    raw, floats = _serialized(tensors)
    # Digits of float32 hardly compress, and unpacking them takes longest: these items are packed fast.
    codec = pa.Codec("zstd", compression_level=_FAST_LEVEL if 2 * floats > len(raw) else _LEVEL)
    packed: bytes = codec.compress(raw, asbytes=True)
    return _RAW_SIZE.pack(len(raw)) + packed


def _serialized(tensors: Mapping[str, Any]) -> tuple[bytes, int]:
    """Tensors in safetensors form, and how many bytes of them are float32."""
    if all(isinstance(tensor, np.ndarray) for tensor in tensors.values()):
        # The same bytes, in a quarter of the time that small tensors take.
        arrays = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
        return safetensors.numpy.save(arrays), sum(a.nbytes for a in arrays.values() if a.dtype == np.float32)
    cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return safetensors.torch.save(cpu), sum(t.nbytes for t in cpu.values() if t.dtype == torch.float32)


def unpack_item(packed: bytes) -> dict[str, Tensor]:
    """The inverse of :func:`pack_item`.

    Raises:
        SafetensorError, OSError, pyarrow.ArrowException, struct.error: the bytes are not a packed item.
    """
    (size,) = _RAW_SIZE.unpack_from(packed)
    compressed = pa.py_buffer(packed).slice(_RAW_SIZE.size)
    return safetensors.torch.load(pa.Codec("zstd").decompress(compressed, size, asbytes=True))


def write_shard(
    path: Path, items: Mapping[ItemKey, Mapping[str, Tensor]] | Mapping[ItemKey, Mapping[str, NDArray[Any]]]
) -> None:
    """Write the items of one shard, whole or not at all."""
    packed = {str(key): np.frombuffer(pack_item(tensors), dtype=np.uint8) for key, tensors in items.items()}
    write_bytes(path, safetensors.numpy.save(packed))


def read_shard(path: Path) -> Iterator[tuple[ItemKey, dict[str, Tensor]]]:
    """The items of one finished shard of an artifact that is still being written.

    Raises:
        DamagedArtifactError: it cannot be read.
    """
    try:
        with safe_open(path, framework="np") as shard:
            for name in shard.keys():  # noqa: SIM118
                yield _key(name), unpack_item(shard.get_tensor(name).tobytes())
    except _UNREADABLE as error:
        raise _unfinished_damaged(path, error) from None


def write_index(folder: Path, shards: Iterable[str]) -> int:
    """Write ``index.parquet`` for finished shards from their headers; returns the number of items."""
    rows = []
    for shard in shards:
        header, first_byte = _read_header(folder / shard)
        for name, entry in header.items():
            if name != "__metadata__":
                key = _key(name)
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
        raise _unfinished_damaged(path, error) from None


def _unfinished_damaged(path: Path, error: Exception) -> DamagedArtifactError:
    return DamagedArtifactError(
        f"the unfinished {path} cannot be read as safetensors ({error}); start afresh with --no-resume."
    )


class TensorShards:
    """Random access to the items of a finished artifact; cheap to send to loader processes.

    `artifact` is what they are of. What it keeps of an item is a few numbers: a hundred bytes for each would be
    gigabytes for a training set in twenty views.
    """

    def __init__(self, artifact: Artifact, folder: str = "") -> None:
        self.artifact = artifact
        self._prefix = f"{folder}/" if folder else ""
        table = read_table(artifact, f"{self._prefix}{INDEX_NAME}", INDEX_SCHEMA.names)
        tokens, shards = (table[name].combine_chunks().dictionary_encode() for name in ("token", "shard"))
        self._shards: list[str] = shards.dictionary.to_pylist()
        self._tokens = {token: index for index, token in enumerate(tokens.dictionary.to_pylist())}
        self._token_of_row, self._view_of_row = tokens.indices.to_numpy(), table["view"].to_numpy()
        self._place = np.stack([shards.indices.to_numpy(), table["offset"].to_numpy(), table["bytes"].to_numpy()], 1)
        self._rows = np.full((len(self._tokens), int(self._view_of_row.max(initial=-1)) + 1), -1)
        self._rows[self._token_of_row, self._view_of_row] = np.arange(table.num_rows)
        self._open: OrderedDict[int, BinaryIO] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": OrderedDict()}

    def __contains__(self, key: ItemKey) -> bool:
        return self._row(key) >= 0

    def __len__(self) -> int:
        return len(self._place)

    @property
    def views(self) -> int:
        """Highest view number plus one."""
        return self._rows.shape[1]

    def keys(self) -> list[ItemKey]:
        """All items, in the order of the index."""
        tokens = list(self._tokens)
        return [ItemKey(tokens[t], v) for t, v in zip(self._token_of_row.tolist(), self._view_of_row.tolist())]

    def read(self, key: ItemKey) -> dict[str, Tensor]:
        """The named tensors of one item.

        Raises:
            KeyError: there is no such item.
            DamagedArtifactError: its shard cannot be read.
        """
        row = self._row(key)
        if row < 0:
            raise KeyError(key)
        shard, offset, size = self._place[row].tolist()
        try:
            return unpack_item(os.pread(self._file(shard).fileno(), size, offset))
        except _UNREADABLE as error:
            raise self.artifact.damaged(
                self._prefix + self._shards[shard], f"it cannot be read as safetensors: {error}"
            ) from None

    def _row(self, key: ItemKey) -> int:
        token = self._tokens.get(key.token)
        known = token is not None and 0 <= key.view < self._rows.shape[1]
        return int(self._rows[token, key.view]) if known else -1

    def _file(self, shard: int) -> BinaryIO:
        if shard in self._open:
            self._open.move_to_end(shard)
        else:
            self._open[shard] = self.artifact.file(self._prefix + self._shards[shard]).open("rb")
            if len(self._open) > _OPEN_SHARDS:
                self._open.popitem(last=False)[1].close()
        return self._open[shard]


def read_tensors(artifact: Artifact, relative: str) -> dict[str, Tensor]:
    """All tensors of one safetensors file of an artifact (model weights).

    Raises:
        DamagedArtifactError: it is missing or cannot be read.
    """
    try:
        return safetensors.torch.load_file(artifact.file(relative))
    except (SafetensorError, OSError) as error:
        raise artifact.damaged(relative, f"it cannot be read as safetensors: {error}") from None


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write model weights as one safetensors file, whole or not at all."""
    cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_bytes(path, safetensors.torch.save(cpu, metadata=dict(metadata) if metadata else None))
