"""The number type that an evaluated model computes in."""

from typing import Literal, get_args

Precision = Literal["fp32", "bf16", "fp16"]
"""Other than float32: autocast, which is faster on most GPUs and rounds differently, so that scores differ a little."""
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
FULL_PRECISION: Precision = "fp32"
