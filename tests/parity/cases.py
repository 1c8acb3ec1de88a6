"""Recorded cases of the published implementation, and where they lie."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

GOLDENS = Path(__file__).resolve().parents[3] / "shared" / "goldens"
CASES = GOLDENS / "cases"


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
        found = []
        while f"{prefix}{len(found)}" in self.arrays:
            found.append(self[f"{prefix}{len(found)}"])
        return found

    def series_of(self, prefix: str, suffix: str) -> list[np.ndarray]:
        """`prefix`0`suffix`, `prefix`1`suffix`, ... as long as there are any, as they were recorded."""
        found: list[np.ndarray] = []
        while f"{prefix}{len(found)}{suffix}" in self.arrays:
            found.append(self.arrays[f"{prefix}{len(found)}{suffix}"])
        return found

    def keys(self, prefix: str) -> list[str]:
        """Names that start with `prefix`, in recorded order."""
        return [key for key in self.arrays if key.startswith(prefix)]

    @cached_property
    def outputs(self) -> list[str]:
        """Everything that was computed, in recorded order: not inputs, parameters or marks of ambiguous cells."""
        return [key for key in self.arrays if not key.startswith(("in/", "param")) and "ambiguous" not in key]


def read_case(path: Path) -> GoldenCase:
    """The case of an ``.npz`` file with its ``.json``."""
    with np.load(path) as arrays:
        recorded = json.loads(path.with_suffix(".json").read_text())
        return GoldenCase(
            path.stem, recorded["config"], dict(arrays), recorded.get("description", ""), recorded.get("name", "")
        )


def find_cases(folder: Path) -> Iterator[Path]:
    """The ``.npz`` files of a folder by name; those that are announced by a ``.json`` only, too."""
    stems = {path.stem for path in folder.glob("*.npz")} | {path.stem for path in folder.glob("*.json")}
    yield from (folder / f"{stem}.npz" for stem in sorted(stems))


PATHS = list(find_cases(CASES)) if CASES.is_dir() else []
WITHOUT = pytest.mark.skipif(not PATHS, reason="the recorded cases are not beside the repository")
