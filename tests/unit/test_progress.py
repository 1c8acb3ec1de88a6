"""Numbers in sentences."""

import pytest

from crkd_core.progress import format_count


@pytest.mark.parametrize(("number", "text"), [(0, "0 epochs"), (1, "1 epoch"), (2, "2 epochs")])
def test_a_count_agrees_with_its_noun(number, text):
    assert format_count(number, "epoch") == text


def test_a_plural_of_its_own():
    assert format_count(1, "box has", "boxes have") == "1 box has"
    assert format_count(3, "box has", "boxes have") == "3 boxes have"
