"""Columns of texts."""

import numpy as np

from crkd_core.datasets.nuscenes.text_column import TextColumn


def test_texts_come_back_by_row_and_in_order():
    texts = ["a", "", "ä/ö", "a"]
    column = TextColumn(texts[:1])
    column.extend([])
    column.extend(texts[1:])
    assert len(column) == 4
    assert column == texts
    assert column == TextColumn(texts)
    assert column != texts[:3]
    assert column[np.int64(2)] == "ä/ö"
    assert column.some(np.array([3, 2])) == ["a", "ä/ö"]
    assert column.take(np.array([], dtype=np.int64)).to_pylist() == []


def test_a_column_may_be_empty():
    assert list(TextColumn()) == []
