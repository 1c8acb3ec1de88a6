"""Pairs of rows that belong together, without a loop over rows."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int, Int64

_PAIRS_AT_ONCE = 1 << 20


def equal_pairs(
    keys: Int[np.ndarray, " n"], others: Int[np.ndarray, " m"], limit: int = _PAIRS_AT_ONCE
) -> Iterator[tuple[Int64[np.ndarray, " p"], Int64[np.ndarray, " p"]]]:
    """Every (i, j) with ``keys[i] == others[j]``, in parts of about `limit` pairs, which bounds the memory."""
    order = np.argsort(others, kind="stable")
    ordered = others[order]
    first = np.searchsorted(ordered, keys, side="left")
    count = np.searchsorted(ordered, keys, side="right") - first
    rows = np.flatnonzero(count)
    first, count = first[rows], count[rows]
    ends = np.cumsum(count)
    part = ends // limit
    for chunk in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(part)) + 1):
        length = count[chunk]
        begin = np.cumsum(length) - length
        within = np.arange(length.sum()) - np.repeat(begin, length)
        yield np.repeat(rows[chunk], length), order[np.repeat(first[chunk], length) + within]
