"""Tensor shards: safetensors files with a Parquet index.

An *item* is a set of named tensors under a key (a sample token and a view). A shard file holds several items, its
tensors named ``<key>/<tensor name>``; ``index.parquet`` says which shard holds which item. Shards are written whole
or not at all, so a killed writer continues with the first shard that is missing.
"""

import json
import struct
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from crkd_core.artifacts.atomic import write_bytes
from crkd_core.artifacts.tables import read_table, write_table
from crkd_core.artifacts.workspace import Artifact
from crkd_core.errors import DamagedArtifactError

INDEX_NAME = "index.parquet"
_OPEN_SHARDS = 8


@dataclass(frozen=True)
class ItemKey:
    """A sample token and the number of an augmented view (0 where there is only one)."""

    token: str
    view: int = 0

    def __str__(self) -> str:
        return f"{self.token}/{self.view}"


def shard_name(number: int) -> str:
    """File name of the shard of a number."""
    return f"shard-{number:05d}.safetensors"


def write_shard(
    path: Path, items: Mapping[ItemKey, Mapping[str, Tensor]], metadata: Mapping[str, str] | None = None
) -> None:
    """Write the items of one shard, whole or not at all."""
    tensors = {
        f"{key}/{name}": tensor.contiguous().cpu() for key, item in items.items() for name, tensor in item.items()
    }
    write_bytes(path, safetensors.torch.save(tensors, metadata=dict(metadata) if metadata else None))


def write_index(folder: Path, shards: Iterable[str]) -> int:
    """Write ``index.parquet`` for finished shards from their headers; returns the number of items."""
    rows: dict[tuple[str, int], dict] = {}
    for shard in shards:
        for name, entry in _read_header(folder / shard).items():
            if name == "__metadata__":
                continue
            token, view, _ = name.split("/", 2)
            start, end = entry["data_offsets"]
            row = rows.setdefault((token, int(view)), {"shard": shard, "bytes": 0, "tensors": []})
            row["bytes"] += end - start
            row["tensors"].append({"name": name, "offset": start, "dtype": entry["dtype"], "shape": entry["shape"]})
    table = pa.table(
        {
            "token": pa.array([token for token, _ in rows], pa.string()),
            "view": pa.array([view for _, view in rows], pa.int32()),
            "shard": pa.array([row["shard"] for row in rows.values()], pa.string()),
            "bytes": pa.array([row["bytes"] for row in rows.values()], pa.int64()),
            "tensors": pa.array(
                [sorted(row["tensors"], key=lambda t: t["offset"]) for row in rows.values()],
                pa.list_(
                    pa.struct(
                        [
                            ("name", pa.string()),
                            ("offset", pa.int64()),
                            ("dtype", pa.string()),
                            ("shape", pa.list_(pa.int64())),
                        ]
                    )
                ),
            ),
        }
    )
    write_table(folder / INDEX_NAME, table)
    return len(rows)


def _read_header(path: Path) -> dict:
    try:
        with path.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            return json.loads(stream.read(length))
    except (OSError, OverflowError, struct.error, ValueError):
        raise DamagedArtifactError(
            f"the unfinished {path} cannot be read as safetensors; start afresh with --no-resume."
        ) from None


class TensorShards:
    """Random access to the items of a finished artifact; cheap to send to loader processes."""

    def __init__(self, artifact: Artifact, folder: str = "") -> None:
        self._artifact = artifact
        self._prefix = f"{folder}/" if folder else ""
        table = read_table(artifact, f"{self._prefix}{INDEX_NAME}")
        self._items: dict[ItemKey, tuple[str, list[str]]] = {}
        for row in table.select(["token", "view", "shard", "tensors"]).to_pylist():
            self._items[ItemKey(row["token"], row["view"])] = (row["shard"], [t["name"] for t in row["tensors"]])
        self._open: OrderedDict[str, safe_open] = OrderedDict()

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_open": OrderedDict()}

    def __contains__(self, key: ItemKey) -> bool:
        return key in self._items

    def __len__(self) -> int:
        return len(self._items)

    def keys(self) -> list[ItemKey]:
        """All items, in the order they were written."""
        return list(self._items)

    def read(self, key: ItemKey) -> dict[str, Tensor]:
        """The named tensors of one item.

        Raises:
            KeyError: there is no such item.
            DamagedArtifactError: its shard cannot be read.
        """
        shard, names = self._items[key]
        try:
            handle = self._handle(shard)
            return {name.split("/", 2)[2]: handle.get_tensor(name) for name in names}
        except (SafetensorError, OSError) as error:
            raise self._error(shard, error) from None

    def _handle(self, shard: str):
        if shard in self._open:
            self._open.move_to_end(shard)
        else:
            self._open[shard] = safe_open(self._artifact.file(self._prefix + shard), framework="pt")
            if len(self._open) > _OPEN_SHARDS:
                self._open.popitem(last=False)
        return self._open[shard]

    def _error(self, shard: str, error: Exception) -> DamagedArtifactError:
        return self._artifact.damaged(self._prefix + shard, f"it cannot be read as safetensors: {error}")


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
