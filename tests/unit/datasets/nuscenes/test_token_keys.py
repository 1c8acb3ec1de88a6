"""Tokens as 16 bytes, and rows by them."""

import numpy as np
import pytest

from crkd_core.datasets.nuscenes.token_keys import KeyIndex, token_keys

HEX = [f"{number:032x}" for number in (0, 1, 2**64, 2**127 + 5)]
ODD = ["", "7", "tökén", "half \ud800", "A" * 32, "a" * 31, "a" * 33, f"{1:031x} ", f" {1:031x}", "g" * 32]


@pytest.mark.parametrize("tokens", [HEX, ODD, HEX + ODD])
def test_equal_tokens_have_equal_keys_and_others_have_others(tokens):
    keys = token_keys(tokens)
    assert keys.shape == (len(tokens), 2)
    assert len({tuple(key) for key in keys.tolist()}) == len(tokens)
    alone = np.concatenate([token_keys([token]) for token in tokens])
    np.testing.assert_array_equal(keys, alone)


def test_no_tokens_have_no_keys():
    assert token_keys([]).shape == (0, 2)
    assert KeyIndex(token_keys([])).rows(token_keys(HEX)).tolist() == [-1] * len(HEX)


def test_rows_are_those_of_the_tokens():
    tokens = [*ODD, *HEX]
    index = KeyIndex(token_keys(tokens))
    assert index.rows(token_keys(tokens)).tolist() == list(range(len(tokens)))
    assert index.rows(token_keys(["absent", f"{3:032x}"])).tolist() == [-1, -1]
    np.testing.assert_array_equal(index.keys(), token_keys(tokens))


def test_keys_that_share_a_half_are_told_apart():
    keys = np.array([[5, second] for second in (9, 1, 7, 3)] + [[second, 5] for second in (1, 9)], dtype=np.uint64)
    index = KeyIndex(keys)
    assert index.rows(keys).tolist() == list(range(6))
    assert index.rows(np.array([[5, 2], [5, 10], [4, 1], [6, 0]], dtype=np.uint64)).tolist() == [-1] * 4


def test_repeated_tokens_are_seen_and_numbered_by_their_first_appearance():
    index = KeyIndex(token_keys(["c", "a", "c", "b", "a"]))
    assert index.repeated() == 2
    first, number = index.numbered()
    assert first.tolist() == [0, 1, 3]
    assert number.tolist() == [0, 1, 0, 2, 1]
    assert KeyIndex(token_keys(["c", "a"])).repeated() is None
