"""Columns that grow."""

import numpy as np
import pytest

from crkd_core.datasets.nuscenes.growing_column import GrowingColumn


@pytest.mark.parametrize("width", [0, 3])
def test_rows_come_back_in_order(width):
    rng = np.random.default_rng(0)
    shape = (width,) if width else ()
    parts = [rng.integers(0, 100, (count, *shape)) for count in (0, 3, 5000, 1, 40_000)]
    column = GrowingColumn(np.int32, width)
    for part in parts:
        column.extend(part)
    rows = column.finish()
    assert rows.dtype == np.int32
    np.testing.assert_array_equal(rows, np.concatenate(parts))


def test_a_column_may_stay_empty():
    assert GrowingColumn(np.float64, 10).finish().shape == (0, 10)
