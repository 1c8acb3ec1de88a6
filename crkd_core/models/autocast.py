"""The number type and the memory layout that a step computes in."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn


def autocast_type(precision: str, device: torch.device) -> torch.dtype | None:
    """The reduced type to compute in; None for float32."""
    if precision == "auto":
        if device.type != "cuda":
            return None
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def autocast(dtype: torch.dtype | None, device: torch.device) -> AbstractContextManager[Any]:
    """Autocast of a type on a device; nothing for None."""
    return torch.autocast(device.type, dtype=dtype) if dtype is not None else nullcontext()


def use_channels_last(module: nn.Module) -> None:
    """Keep 2D convolutions with the channels innermost: the many narrow ones of the head run a third faster."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            part.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
