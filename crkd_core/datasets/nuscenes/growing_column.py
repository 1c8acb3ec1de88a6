"""Arrays that grow as a table is read."""

import numpy as np
from numpy.typing import DTypeLike, NDArray

_FIRST_ROWS = 1 << 12


class GrowingColumn:
    """Rows of numbers that are added a few thousand at a time.

    Many small arrays, joined in the end, would take their memory twice and leave it in pieces that nothing else fits.

    Args:
        width: numbers a row; 0 for a column without a second axis.
    """

    def __init__(self, dtype: DTypeLike, width: int = 0) -> None:
        self._rows: NDArray = np.empty((_FIRST_ROWS, width) if width else _FIRST_ROWS, dtype=dtype)
        self._used = 0

    def extend(self, rows: NDArray) -> None:
        """Add rows to the end."""
        end = self._used + len(rows)
        if end > len(self._rows):
            self._resize(max(end, 2 * len(self._rows)))
        self._rows[self._used : end] = rows
        self._used = end

    def finish(self) -> NDArray:
        """All rows; none can be added any more."""
        self._resize(self._used)
        return self._rows

    def _resize(self, rows: int) -> None:
        # Nobody else refers to the array, and the system can often enlarge it where it is.
        self._rows.resize((rows, *self._rows.shape[1:]), refcheck=False)
