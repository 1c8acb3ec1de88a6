"""Cutting nested teacher targets into samples and joining them again.

A value is None, a tensor whose first dimension is the batch, :class:`SparseCells`, or a tuple or dataclass of values.
"""

from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

from crkd_core.distillation.cells import SparseCells


def move(value: Any, device: torch.device | str) -> Any:
    """The same value on another device."""
    if value is None:
        return None
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, tuple):
        return tuple(move(item, device) for item in value)
    if isinstance(value, SparseCells):
        return replace(value, indices=move(value.indices, device), features=move(value.features, device))
    return replace(value, **{field.name: move(getattr(value, field.name), device) for field in fields(value)})


def split(value: Any, size: int) -> Sequence[Any]:
    """The value of each of `size` samples, as a batch of one."""
    if value is None:
        return [None] * size
    if isinstance(value, Tensor):
        return value.split(1)
    if isinstance(value, SparseCells):
        return value.split()
    if isinstance(value, tuple):
        return list(zip(*(split(item, size) for item in value), strict=True))
    parts = [split(getattr(value, field.name), size) for field in fields(value)]
    return [type(value)(*values) for values in zip(*parts, strict=True)]


def join(values: Sequence[Any]) -> Any:
    """One batch of several alike; the inverse of :func:`split`."""
    first = values[0]
    if first is None:
        return None
    if isinstance(first, Tensor):
        return torch.cat(list(values))
    if isinstance(first, SparseCells):
        return SparseCells.collate(list(values))
    if isinstance(first, tuple):
        return tuple(join(items) for items in zip(*values, strict=True))
    return type(first)(*(join([getattr(value, field.name) for value in values]) for field in fields(first)))


def layout(value: Any) -> Any:
    """What two values must have in common to be joined: structure, and the shapes apart from batch and cell numbers."""
    if value is None:
        return None
    if isinstance(value, Tensor):
        return tuple(value.shape[1:])
    if isinstance(value, SparseCells):
        return (value.grid_shape, value.features.shape[1])
    if isinstance(value, tuple):
        return tuple(layout(item) for item in value)
    if is_dataclass(value):
        return tuple(layout(getattr(value, field.name)) for field in fields(value))
    return value
