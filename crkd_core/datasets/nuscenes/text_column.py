"""Many texts in one piece of memory: a Python text of 80 characters takes 130 bytes."""

from collections.abc import Iterable, Iterator
from operator import index
from typing import Any, SupportsIndex

import pyarrow as pa
from numpy.typing import NDArray

_SHOWN_AT_ONCE = 1 << 16


class TextColumn:
    """A column of texts by row.

    Args:
        parts: the texts, in any number of pieces.
    """

    def __init__(self, parts: Iterable[list[str]] = ()) -> None:
        # Offsets of 64 bits: the file names of a large data set are gigabytes together.
        self._texts = pa.chunked_array([pa.array(part, pa.large_string()) for part in parts], pa.large_string())
        self._texts = self._texts.combine_chunks()

    def __len__(self) -> int:
        return len(self._texts)

    def __getitem__(self, row: SupportsIndex) -> str:
        text: str = self._texts[index(row)].as_py()
        return text

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), _SHOWN_AT_ONCE):
            yield from self._texts.slice(start, _SHOWN_AT_ONCE).to_pylist()

    def __eq__(self, other: object) -> bool:
        """Whether another column, or a list, has the same texts."""
        return isinstance(other, TextColumn | list) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def take(self, rows: NDArray[Any]) -> pa.Array:
        """The texts of some rows as an Arrow array."""
        return self._texts.take(pa.array(rows)).cast(pa.string())

    def some(self, rows: NDArray[Any]) -> list[str]:
        """The texts of some rows."""
        return self.take(rows).to_pylist()
