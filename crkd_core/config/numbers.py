"""The kinds of numbers that settings are. Every one is finite, within bounds, and never a truth value in disguise.

The upper bounds are generous: they are there so that a slip (a missing decimal point, a pasted token, seconds for
minutes) is told at once, and not after hours or by a machine that has run out of memory.
"""

import operator
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

MOST = 1_000_000
"""No length, factor, weight or count of a setting is larger, unless its kind says so."""
MOST_SEED = 2**63 - 1
"""Of signed 64-bit numbers, as Parquet, JSON readers and random generators take them."""
COLUMNS_RANGE = (3, 16)
"""float32 values a LiDAR point that are read: x, y and z must be among them."""
MOST_SWEEPS = 100
"""Sweeps of a sensor: five seconds of the fastest one."""
MOST_BATCH = 1024
"""Samples at a time."""
MOST_WORKERS = 256
"""Processes that read sensor files."""
MOST_CHANNELS = 8192
"""Channels of one layer."""


def _number(value: Any) -> Any:
    # Python counts with True and False; somebody who writes "true" for a number has mistaken the field.
    if isinstance(value, bool):
        raise PydanticCustomError("truth_value", "Input should be a number")
    return value


def _bounds(**limits: int | float) -> AfterValidator:
    """Limits ``ge``, ``gt``, ``le``, ``lt``, which those that a field adds by itself come on top of, not instead."""

    def check(value: int | float) -> int | float:
        for name, limit in limits.items():
            if not getattr(operator, name)(value, limit):
                raise PydanticCustomError(
                    "bounds", "Input should be {words} {limit}", {"words": _WORDS[name], "limit": limit}
                )
        return value

    return AfterValidator(check)


_WORDS = {"ge": "greater than or equal to", "gt": "greater than", "le": "less than or equal to", "lt": "less than"}


def _increasing(pair: tuple[float, float]) -> tuple[float, float]:
    if not pair[0] < pair[1]:
        raise PydanticCustomError("increasing", "Input should be a lower and then a higher value")
    return pair


def _not_decreasing(pair: tuple[float, float]) -> tuple[float, float]:
    if not pair[0] <= pair[1]:
        raise PydanticCustomError(
            "not_decreasing", "Input should be a lower and then a higher value, or the same twice"
        )
    return pair


_IsNumber = BeforeValidator(_number)

Finite = Annotated[float, Field(allow_inf_nan=False), _bounds(ge=-MOST, le=MOST), _IsNumber]
NonNegative = Annotated[float, Field(allow_inf_nan=False), _bounds(ge=0, le=MOST), _IsNumber]
Positive = Annotated[float, Field(allow_inf_nan=False), _bounds(gt=0, le=MOST), _IsNumber]
Fraction = Annotated[float, Field(allow_inf_nan=False), _bounds(ge=0, le=1), _IsNumber]
"""From 0 to 1, both included."""
Share = Annotated[float, Field(allow_inf_nan=False), _bounds(gt=0, le=1), _IsNumber]
"""Above 0, at most 1."""
Probability = Annotated[float, Field(allow_inf_nan=False), _bounds(gt=0, lt=1), _IsNumber]
"""Between 0 and 1, neither included."""

Count = Annotated[int, _bounds(ge=0, le=MOST), _IsNumber]
"""A whole number from 0."""
PositiveInt = Annotated[int, _bounds(ge=1, le=MOST), _IsNumber]
Channels = Annotated[int, _bounds(ge=1, le=MOST_CHANNELS), _IsNumber]
Depth = Annotated[int, _bounds(ge=1, le=100), _IsNumber]
"""Blocks or layers of one stage."""
Stride = Annotated[int, _bounds(ge=1, le=16), _IsNumber]
Sweeps = Annotated[int, _bounds(ge=1, le=MOST_SWEEPS), _IsNumber]
Seed = Annotated[int, _bounds(ge=0, le=MOST_SEED), _IsNumber]
PointColumns = Annotated[int, _bounds(ge=COLUMNS_RANGE[0], le=COLUMNS_RANGE[1]), _IsNumber]

Range = Annotated[tuple[Finite, Finite], AfterValidator(_increasing)]
"""An extent, (lower, upper)."""
NonNegativeRange = Annotated[tuple[NonNegative, NonNegative], AfterValidator(_increasing)]
Spread = Annotated[tuple[Finite, Finite], AfterValidator(_not_decreasing)]
"""What random values are drawn from, (lowest, highest); equal for no choice."""
PositiveSpread = Annotated[tuple[Positive, Positive], AfterValidator(_not_decreasing)]
Steps = Annotated[tuple[NonNegative, NonNegative], AfterValidator(_not_decreasing)]
"""Two thresholds or two effects, the weaker first."""

ChannelsOfLayers = Annotated[tuple[Channels, ...], Field(min_length=1, max_length=100)]
