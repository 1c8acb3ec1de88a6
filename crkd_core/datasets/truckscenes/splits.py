"""Which scenes of MAN TruckScenes form which split."""

import json
from functools import cache
from pathlib import Path

_OFFICIAL = Path(__file__).with_name("official_splits.json")


@cache
def official_scenes(split: str) -> tuple[str, ...]:
    """Scene names of an official split: train (523), val (75), test (149), mini_train (8) or mini_val (2).

    Raises:
        KeyError: there is no such list.
    """
    return tuple(json.loads(_OFFICIAL.read_text(encoding="utf-8"))[split])
