"""Many texts in one piece of memory: a Python text of 80 characters takes 130 bytes."""

from collections.abc import Iterator, Sequence
from operator import index
from typing import Any, SupportsIndex

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_AT_ONCE = 1 << 14


class TextColumn:
    """A column of texts by row.

    Args:
        texts: the first ones; more can be added to the end.
    """

    def __init__(self, texts: Sequence[str] | pa.Array = ()) -> None:
        # Offsets of 64 bits: the file names of a large data set are gigabytes together.
        self._parts = [pa.array(texts, pa.large_string())]

    def extend(self, texts: list[str]) -> None:
        """Add texts."""
        self._parts.append(pa.array(texts, pa.large_string()))

    @property
    def _texts(self) -> pa.Array:
        if len(self._parts) > 1:
            self._parts = [pa.concat_arrays(self._parts)]
            # Arrow would keep the memory of the parts for arrays to come.
            pa.default_memory_pool().release_unused()
        return self._parts[0]

    def __len__(self) -> int:
        return len(self._texts)

    def __getitem__(self, row: SupportsIndex) -> str:
        text: str = self._texts[index(row)].as_py()
        return text

    def __iter__(self) -> Iterator[str]:
        return self.each(np.arange(len(self)))

    def __eq__(self, other: object) -> bool:
        """Whether another column, or a list, has the same texts."""
        return isinstance(other, TextColumn | list) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def take(self, rows: NDArray[Any]) -> pa.Array:
        """The texts of some rows as an Arrow array."""
        return self._texts.take(pa.array(rows)).cast(pa.string())

    def each(self, rows: NDArray[Any]) -> Iterator[str]:
        """The texts of some rows, of which there may be many, one after another."""
        for start in range(0, len(rows), _AT_ONCE):
            yield from self.some(rows[start : start + _AT_ONCE])

    def some(self, rows: NDArray[Any]) -> list[str]:
        """The texts of some rows."""
        return self.take(rows).to_pylist()
