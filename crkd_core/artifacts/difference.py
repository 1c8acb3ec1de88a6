"""In words, how what is about to be made differs from what is there."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from crkd_core.artifacts.manifest import InputRef

_CHECKSUM = re.compile(r"[0-9a-f]{64}")
_LONGEST_VALUE = 60
_SHOWN = 3


@dataclass(frozen=True)
class MadeOf:
    """What determines an artifact: settings, and role to what it is made from."""

    settings: Mapping[str, Any]
    inputs: Mapping[str, InputRef]


def difference(old: MadeOf, new: MadeOf) -> str:
    """Settings and inputs that changed, the first few by name; empty where nothing did."""
    changed = [*_changed_settings(old.settings, new.settings), *_changed_inputs(old.inputs, new.inputs)]
    more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
    return ", ".join(changed[:_SHOWN]) + more


def surprising_difference(old: MadeOf, new: MadeOf, force: bool) -> str:
    """How an artifact differs from the one that it is about to replace, where that may surprise; empty otherwise.

    What is made anew by itself (without `force`) because its inputs were, such as the evaluation of a model that was
    trained again, is no surprise.
    """
    is_surprise = force or old.settings != new.settings or _names(old.inputs) != _names(new.inputs)
    return difference(old, new) if is_surprise else ""


def _names(inputs: Mapping[str, InputRef]) -> dict[str, tuple[str, str]]:
    return {role: (ref.stage, ref.name) for role, ref in inputs.items()}


def _changed_settings(old: Any, new: Any, path: str = "") -> Iterator[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted(old.keys() | new.keys()):
            yield from _changed_settings(old.get(key), new.get(key), f"{path}.{key}" if path else str(key))
    elif json.dumps(old, default=str) != json.dumps(new, default=str):
        checksums = all(isinstance(value, str) and _CHECKSUM.fullmatch(value) for value in (old, new))
        is_long = max(len(str(old)), len(str(new))) > _LONGEST_VALUE
        yield f"{path} (changed)" if checksums or is_long else f"{path} ({old} -> {new})"


def _changed_inputs(old: Mapping[str, InputRef], new: Mapping[str, InputRef]) -> Iterator[str]:
    for role in sorted(old.keys() | new.keys()):
        before, now = (None if ref is None else f"{ref.stage}/{ref.name}" for ref in (old.get(role), new.get(role)))
        if before != now:
            yield f"{role} ({before or 'none'} -> {now or 'none'})"
        elif old.get(role) != new.get(role):
            yield f"{role} {now} (remade)"
