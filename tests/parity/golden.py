"""One recorded case of the published implementation."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class GoldenCase:
    """One recorded case: its settings and its arrays by name."""

    name: str
    config: dict[str, Any]
    arrays: dict[str, np.ndarray]
    description: str = ""
    recorded_as: str = ""

    def __contains__(self, key: str) -> bool:
        return key in self.arrays

    def __getitem__(self, key: str) -> Tensor:
        """An array as a tensor; half precision is only how it was stored."""
        array = self.arrays[key]
        return torch.from_numpy(np.array(array, np.float32 if array.dtype == np.float16 else array.dtype))

    def under(self, prefix: str) -> dict[str, Tensor]:
        """All arrays whose name starts with `prefix`, without it."""
        return {key.removeprefix(prefix): self[key] for key in self.arrays if key.startswith(prefix)}

    def series(self, prefix: str) -> list[Tensor]:
        """`prefix`0, `prefix`1, ... as long as there are any."""
        arrays = []
        while f"{prefix}{len(arrays)}" in self.arrays:
            arrays.append(self[f"{prefix}{len(arrays)}"])
        return arrays

    def series_of(self, prefix: str, suffix: str) -> list[np.ndarray]:
        """`prefix`0`suffix`, `prefix`1`suffix`, ... as long as there are any, as they were recorded."""
        arrays: list[np.ndarray] = []
        while f"{prefix}{len(arrays)}{suffix}" in self.arrays:
            arrays.append(self.arrays[f"{prefix}{len(arrays)}{suffix}"])
        return arrays

    def keys(self, prefix: str) -> list[str]:
        """Names that start with `prefix`, in recorded order."""
        return [key for key in self.arrays if key.startswith(prefix)]

    @cached_property
    def outputs(self) -> list[str]:
        """Everything that was computed, in recorded order: not inputs, parameters or marks of ambiguous cells."""
        return [key for key in self.arrays if not key.startswith(("in/", "param")) and "ambiguous" not in key]
