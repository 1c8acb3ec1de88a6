"""Tokens as 16 bytes: a token of nuScenes is 32 hexadecimal digits, and millions of them as text are gigabytes."""

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

_TOKEN_CHARACTERS, _KEY_BYTES = 32, 16


def token_keys(tokens: Sequence[str]) -> NDArray[np.uint64]:
    """(N, 2) keys: the number that a hexadecimal token is, and a digest of any other. Equal tokens have equal keys."""
    data = _hexadecimal("".join(tokens)) if set(map(len, tokens)) <= {_TOKEN_CHARACTERS} else None
    if data is None:
        data = b"".join(map(_key, tokens))
    return np.frombuffer(data, dtype="<u8").reshape(-1, 2)


def _key(token: str) -> bytes:
    data = _hexadecimal(token) if len(token) == _TOKEN_CHARACTERS else None
    return blake2b(token.encode("utf-8", "surrogatepass"), digest_size=_KEY_BYTES).digest() if data is None else data


def _hexadecimal(text: str) -> bytes | None:
    """The bytes that lower-case hexadecimal digits stand for, None for other texts."""
    try:
        data = bytes.fromhex(text)
    except ValueError:
        return None
    return data if data.hex() == text else None


class KeyIndex:
    """Rows of a table by (N, 2) keys."""

    def __init__(self, keys: NDArray[np.uint64]) -> None:
        self._order = np.argsort(keys[:, 0], kind="stable")
        if self._is_disordered(keys):
            self._order = np.lexsort((keys[:, 1], keys[:, 0]))
        self._first, self._second = keys[self._order].T.copy()

    def __len__(self) -> int:
        return len(self._order)

    def _is_disordered(self, keys: NDArray[np.uint64]) -> bool:
        """Whether keys with equal first halves, which are rare by chance, are not in the order of their second ones."""
        first, second = keys[self._order].T
        return bool(((first[1:] == first[:-1]) & (second[1:] < second[:-1])).any())

    def keys(self) -> NDArray[np.uint64]:
        """The (N, 2) keys by row."""
        keys = np.empty((len(self), 2), dtype=np.uint64)
        keys[self._order, 0], keys[self._order, 1] = self._first, self._second
        return keys

    def repeated(self) -> int | None:
        """The first row whose key an earlier row has; None where every row has its own."""
        later = self._order[1:][~self._starts()[1:]]
        return int(later.min()) if len(later) else None

    def numbered(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows where a key appears for the first time, ascending, and for every row which of these has its key."""
        starts = self._starts()
        first = self._order[starts]
        number = np.empty(len(first), dtype=np.int64)
        number[np.argsort(first)] = np.arange(len(first))
        inverse = np.empty(len(self._order), dtype=np.int64)
        inverse[self._order] = number[np.cumsum(starts) - 1]
        return np.sort(first), inverse

    def rows(self, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """(M,) row of each of (M, 2) keys, -1 where there is none."""
        if not len(self):
            return np.full(len(keys), -1, dtype=np.int64)
        last = len(self) - 1
        position = np.minimum(np.searchsorted(self._first, keys[:, 0]), last)
        # Keys whose first halves are equal by chance lie side by side.
        while True:
            further = (self._first[position] == keys[:, 0]) & (self._second[position] < keys[:, 1]) & (position < last)
            if not further.any():
                break
            position += further
        equal = (self._first[position] == keys[:, 0]) & (self._second[position] == keys[:, 1])
        return np.where(equal, self._order[position], -1)

    def _starts(self) -> NDArray[np.bool_]:
        """Whether a key in ascending order is another than the one before."""
        starts = np.ones(len(self), dtype=bool)
        starts[1:] = (self._first[1:] != self._first[:-1]) | (self._second[1:] != self._second[:-1])
        return starts
