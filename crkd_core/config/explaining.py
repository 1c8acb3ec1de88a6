"""What is wrong with a value, in one sentence: the key, what was expected, what was found."""

import difflib
import types
import typing
from typing import Any

from pydantic import BaseModel, Tag, ValidationError
from pydantic_core import PydanticCustomError

from crkd_core.errors import quoted

_SENTENCE = "sentence"
_EXPECTED = {
    "model_type": "a section of keys",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "keys",
    "too_short": "a list of at least {min_length}",
    "too_long": "a list of at most {max_length}",
    "string_too_short": "a name",
    "string_too_long": "a shorter name",
}


def wrong_value(sentence: str) -> PydanticCustomError:
    """What a validator of a whole raises of one of its keys: a sentence that names the key, and needs nothing more."""
    return PydanticCustomError(_SENTENCE, "{sentence}", {"sentence": sentence})


def explain_invalid(
    error: ValidationError, root: type[BaseModel], key: str = "the config key", owner: str | None = None
) -> str:
    """The first thing that is wrong with the values of a model.

    Args:
        root: the model.
        key: what a key of it is called.
        owner: what has the keys; None where `key` says it.
    """
    first = error.errors()[0]
    if first["type"] == "missing":
        # A misspelt key is also one that is missing.
        unknown = [other for other in error.errors() if other["type"] == "extra_forbidden"]
        first = next((other for other in unknown if other["loc"][:-1] == first["loc"][:-1]), first)
    if first["type"] == _SENTENCE:
        return str(first["msg"])
    keys, section = _locate(first["loc"], root)
    path = ".".join(keys)
    whole = owner or key.removesuffix(" key")
    shown = quoted(path) if path else f"{whole}uration" if whole == "the config" else whole
    if first["type"] == "extra_forbidden":
        known_keys = list(section.model_fields) if section else []
        return f"{whole} has no key {shown}{suggestion(keys[-1], known_keys)}"
    if first["type"] == "union_tag_invalid":
        context = first["ctx"]
        expected_tags, actual_tag = context["expected_tags"], quoted(context["tag"])
        return f"{key} {quoted(path + '.kind')}: expected one of {expected_tags}, found {actual_tag}."
    if first["type"] == "missing" and isinstance(first["loc"][-1], int):
        shown = quoted(".".join(keys[:-1]))
        return (
            f"{key} {shown}: expected a longer list, found {quoted(first['input'])} ({type(first['input']).__name__})."
        )
    if first["type"] == "missing":
        return f"{key} {shown} is missing and has no default."
    if first["type"] == "union_tag_not_found":
        return f"{key} {shown}: expected a section with a kind, found {quoted(first['input'])}."
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":
        return f"{path or shown}: {message.rstrip('.')}{'' if message.endswith('?') else '.'}"
    value = first.get("input")
    known = _EXPECTED.get(first["type"], "").format(**first.get("ctx", {}))
    expected = known or message.removeprefix("Input should be ").partition(", unable to ")[0]
    actual = "nothing" if value is None else f"{quoted(value)} ({type(value).__name__})"
    return f"{key} {shown}: expected {expected}, found {actual}."


def _locate(location: tuple[Any, ...], root: type[BaseModel]) -> tuple[list[str], type[BaseModel] | None]:
    """Keys that lead to an error, without the members of unions, and the section that the last of them is in."""
    keys: list[str] = []
    section: type[BaseModel] | None = None
    here: Any = root
    for part in location:
        tagged = [member for member in typing.get_args(here) if Tag(str(part)) in getattr(member, "__metadata__", ())]
        if tagged:
            here = tagged[0].__origin__
            continue
        if typing.get_origin(here) in (typing.Union, types.UnionType) and isinstance(part, str):
            # Which of several types the value was tried as.
            here = None
            continue
        keys.append(str(part))
        if typing.get_origin(here) in (dict, tuple):
            # All members of such a dict or list are of its last type, up to the dots.
            here, section = [member for member in typing.get_args(here) if member is not ...][-1], None
            continue
        section = here if isinstance(here, type) and issubclass(here, BaseModel) else None
        field = section.model_fields.get(str(part)) if section else None
        here = field.annotation if field else None
    return keys, section


def suggestion(word: str, known: list[str]) -> str:
    """What may have been meant by an unknown word, as the end of a sentence."""
    close = difflib.get_close_matches(word[:100], known, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known here: {', '.join(known)}." if known else "."
