"""Parquet tables of an artifact."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from crkd_core.artifacts.artifact import Artifact
from crkd_core.artifacts.atomic import atomic_path


def write_table(path: Path, table: pa.Table, row_group_size: int | None = None) -> None:
    """Write a table, whole or not at all; equal tables give equal bytes."""
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", row_group_size=row_group_size)


def read_table(artifact: Artifact, relative: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a table of a finished artifact.

    Raises:
        DamagedArtifactError: it is missing or not readable as Parquet, or lacks a column.
    """
    try:
        return pq.read_table(artifact.file(relative), columns=list(columns) if columns is not None else None)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise artifact.damaged(relative, f"it cannot be read as Parquet: {explain_parquet(error)}") from None


def numbers_of(column: pa.ChunkedArray) -> NDArray[Any]:
    """A column of numbers as an array; one of fixed-size lists as an array of rows."""
    if not pa.types.is_fixed_size_list(column.type):
        numbers: NDArray[Any] = column.to_numpy()
        return numbers
    # `flatten` minds the offset of a slice, `values` would not.
    flat = pa.chunked_array([chunk.flatten() for chunk in column.chunks], column.type.value_type)
    rows: NDArray[Any] = flat.to_numpy().reshape(-1, column.type.list_size)
    return rows


def explain_parquet(error: Exception) -> str:
    """What Arrow says is wrong with a file, without the path before it and the page after it."""
    return (str(error).splitlines() or [type(error).__name__])[0].rpartition("': ")[2].rstrip(".")
