"""Items of tensors in shards (see :mod:`crkd_core.artifacts.packed_shards`): written, and read one by one."""

import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from crkd_core.artifacts.artifact import Artifact
from crkd_core.artifacts.atomic import write_bytes
from crkd_core.artifacts.packed_shards import (
    INDEX_NAME,
    INDEX_SCHEMA,
    UNREADABLE,
    ItemKey,
    compress_item,
    decompress_item,
    read_packed,
    shard_name,
    unfinished_damaged,
    write_index,
    write_packed,
)
from crkd_core.artifacts.tables import read_table

__all__ = [
    "INDEX_NAME",
    "INDEX_SCHEMA",
    "ItemKey",
    "TensorShards",
    "pack_item",
    "read_shard",
    "read_tensors",
    "shard_name",
    "unpack_item",
    "write_index",
    "write_shard",
    "write_tensors",
]

_OPEN_SHARDS = 64


def pack_item(tensors: Mapping[str, Tensor]) -> bytes:
    """An item as a shard holds it; equal tensors give equal bytes."""
    cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    float_bytes = sum(tensor.nbytes for tensor in cpu.values() if tensor.dtype == torch.float32)
    return compress_item(safetensors.torch.save(cpu), float_bytes)


def unpack_item(packed: bytes) -> dict[str, Tensor]:
    """The inverse of :func:`pack_item`.

    Raises:
        SafetensorError, OSError, pyarrow.ArrowException, struct.error: the bytes are not a packed item.
    """
    return safetensors.torch.load(decompress_item(packed))


def write_shard(path: Path, items: Mapping[ItemKey, Mapping[str, Tensor]]) -> None:
    """Write the items of one shard, whole or not at all."""
    write_packed(path, {key: pack_item(tensors) for key, tensors in items.items()})


def read_shard(path: Path) -> Iterator[tuple[ItemKey, dict[str, Tensor]]]:
    """The items of one finished shard of an artifact that is still being written.

    Raises:
        DamagedArtifactError: it cannot be read.
    """
    for key, packed in read_packed(path):
        try:
            item = unpack_item(packed)
        except UNREADABLE as error:
            raise unfinished_damaged(path, error) from None
        yield key, item


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
        except UNREADABLE as error:
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
