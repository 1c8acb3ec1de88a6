"""Tables of a prepared data set in memory."""

from typing import Any

import numpy as np
import pyarrow as pa

from crkd_core.artifacts.artifact import Artifact
from crkd_core.artifacts.tables import numbers_of, read_table


class TableColumns:
    """One Parquet table in memory: numbers as numpy arrays, strings as Arrow arrays (no object per row)."""

    def __init__(self, artifact: Artifact, name: str, samples: int | None = None) -> None:
        table = read_table(artifact, name).combine_chunks()
        self._arrays: dict[str, Any] = {column: _array(table.column(column)) for column in table.column_names}
        self.rows = table.num_rows
        self._starts = None
        if samples is not None:
            self._starts = np.searchsorted(self._arrays["sample"], np.arange(samples + 1))

    def __getitem__(self, column: str) -> Any:
        return self._arrays[column]

    def of_sample(self, sample: int) -> slice:
        """The rows that belong to a sample; the table is grouped by it."""
        if self._starts is None:
            raise ValueError("this table is not grouped by sample")
        return slice(int(self._starts[sample]), int(self._starts[sample + 1]))

    def strings(self, column: str, rows: slice) -> list[str]:
        """Some values of a text column."""
        return self._arrays[column].slice(rows.start, rows.stop - rows.start).to_pylist()


def _array(column: pa.ChunkedArray) -> Any:
    if pa.types.is_string(column.type) or pa.types.is_list(column.type):
        chunks = column.combine_chunks()
        return chunks.chunk(0) if isinstance(chunks, pa.ChunkedArray) else chunks
    return numbers_of(column)
