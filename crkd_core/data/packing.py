"""A batch as it passes between processes: all its tensors in one piece of shared memory.

Every piece of shared memory is an open file in both processes. A batch of eight samples with their teacher targets has
a hundred tensors, and sixteen batches on the way would be more files than a process may open.
"""

from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from crkd_core.data.samples import Batch

SHARED_MEMORY = Path("/dev/shm")
# What vector instructions like their operands to start at.
_ALIGNMENT = 64


@dataclass(frozen=True)
class _Position:
    """Where a tensor's values begin (bytes), and how they are to be understood."""

    offset: int
    dtype: torch.dtype
    shape: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True)
class _Node:
    """A dataclass taken apart."""

    kind: type
    values: tuple[Any, ...]


@dataclass(frozen=True)
class PackedBatch:
    """A batch with its tensors' values apart.

    Attributes:
        layout: the batch, with a position in `data` instead of every tensor.
        data: (bytes,) in shared memory.
    """

    layout: Any
    data: Tensor

    def unpack(self) -> Batch:
        """The batch; its tensors lie where they were received."""
        return _assemble(self.layout, self.data)


def pack(batch: Batch) -> PackedBatch:
    """A batch in shared memory.

    Raises:
        RuntimeError: torch gets no more shared memory, or may open no more files.
    """
    tensors: list[Tensor] = []
    positions: list[_Position] = []
    layout = _take_apart(batch, tensors, positions)
    size = positions[-1].offset + tensors[-1].nbytes if positions else 0
    # Memory that is shared only later would be written twice.
    data = torch.empty(0, dtype=torch.uint8).set_(torch.UntypedStorage._new_shared(max(size, 1)))
    for tensor, position in zip(tensors, positions, strict=True):
        _view(data, position).copy_(tensor)
    return PackedBatch(layout, data)


def remove_shared_memory(process: int, since: float) -> None:
    """Remove the memory that a process was about to share when it was ended, and that is in nobody's use.

    torch gives it a name for as long as it takes to fill it with zeros.

    Args:
        process: id of the process; it has ended.
        since: when it was started, in seconds since 1970: other processes of that id are not meant.
    """
    for path in SHARED_MEMORY.glob(f"torch_{process}_*"):
        with suppress(OSError):
            if path.stat().st_mtime >= since:
                path.unlink()


def _take_apart(value: Any, tensors: list[Tensor], positions: list[_Position]) -> Any:
    if isinstance(value, Tensor):
        end = positions[-1].offset + tensors[-1].nbytes if positions else 0
        # What lies densely keeps its strides: convolutions take other ways for other memory formats.
        stride = torch.empty_like(value, device="meta").stride()
        positions.append(_Position(-(-end // _ALIGNMENT) * _ALIGNMENT, value.dtype, tuple(value.shape), stride))
        tensors.append(value)
        return positions[-1]
    if isinstance(value, dict):
        return {key: _take_apart(item, tensors, positions) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_take_apart(item, tensors, positions) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        parts = (getattr(value, field.name) for field in fields(value))
        return _Node(type(value), tuple(_take_apart(part, tensors, positions) for part in parts))
    return value


def _assemble(value: Any, data: Tensor) -> Any:
    if isinstance(value, _Position):
        return _view(data, value)
    if isinstance(value, _Node):
        return value.kind(*(_assemble(part, data) for part in value.values))
    if isinstance(value, dict):
        return {key: _assemble(item, data) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_assemble(item, data) for item in value)
    return value


def _view(data: Tensor, position: _Position) -> Tensor:
    size = prod(position.shape) * position.dtype.itemsize
    return (
        data[position.offset : position.offset + size].view(position.dtype).as_strided(position.shape, position.stride)
    )
