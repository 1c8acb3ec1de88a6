"""YAML as settings are written in it: sections, lists, numbers and words, of a size that a person could have typed.

What YAML 1.1 has beyond that goes wrong in silence: of two equal keys the last one counts, ``010`` is eight, ``1:30``
is ninety, a date is no text, ``1e-4`` is no number, and a few lines of aliases stand for millions of values.
"""

import json
import re
from typing import Any

import yaml

from crkd_core.errors import ConfigError, quoted

_MOST_DEPTH = 20
_MOST_VALUES = 10_000
_MOST_DIGITS = 40
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*")
_WORDS_WITH_MEANING = {"yes", "no", "true", "false", "on", "off", "null", "y", "n"}


class _Unsuitable(Exception):
    """Correct YAML that no setting is written in."""

    def __init__(self, problem: str, mark: yaml.Mark) -> None:
        super().__init__(f"line {mark.line + 1}: {problem}")


class _Reader(yaml.SafeLoader):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._values = 0
        self._open: set[str] = set()
        self._values_of_anchor: dict[str, int] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        is_alias = isinstance(event, yaml.AliasEvent)
        if is_alias:
            if event.anchor in self._open:
                raise _Unsuitable(f"*{event.anchor} stands within what it names", event.start_mark)
            self._count(self._values_of_anchor.get(event.anchor, 0), event)
            return super().compose_node(parent, index)  # type: ignore[no-untyped-call]
        if event.tag is not None:
            tag = quoted(event.tag.replace("tag:yaml.org,2002:", "!!"))
            raise _Unsuitable(f"the tag {tag} is no part of a setting", event.start_mark)
        if self._depth == _MOST_DEPTH:
            raise _Unsuitable(f"more than {_MOST_DEPTH} levels stand within each other", event.start_mark)
        before, anchor = self._values, event.anchor
        self._count(1, event)
        self._depth += 1
        if anchor is not None:
            self._open.add(anchor)
        node = super().compose_node(parent, index)  # type: ignore[no-untyped-call]
        self._depth -= 1
        if anchor is not None:
            self._open.discard(anchor)
            self._values_of_anchor[anchor] = self._values - before
        return node

    def _count(self, values: int, event: Any) -> None:
        self._values += values
        if self._values > _MOST_VALUES:
            raise _Unsuitable(f"it stands for more than {_MOST_VALUES} values", event.start_mark)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen = set()
        for key, _ in node.value:
            if key.tag not in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"):
                name = quoted(key.value) if isinstance(key.value, str) else "of several values"
                raise _Unsuitable(f"the key {name} is no name", key.start_mark)
            if key.value in seen:
                raise _Unsuitable(f"the key {quoted(key.value)} stands there twice", key.start_mark)
            seen.add(key.value)
        # Merged keys come after this look at the keys that were written, which they may not override.
        return super().construct_mapping(node, deep)  # type: ignore[no-untyped-call]


def _read_int(reader: _Reader, node: Any) -> int:
    if len(node.value) > _MOST_DIGITS:
        raise _Unsuitable(f"a number has {len(node.value)} digits", node.start_mark)
    return int(node.value)


def _read_float(reader: _Reader, node: Any) -> float:
    return float(node.value.lower().replace(".inf", "inf").replace(".nan", "nan"))


def _tag(name: str) -> str:
    return f"tag:yaml.org,2002:{name}"


_Reader.yaml_implicit_resolvers = {}
for _name, _pattern, _first in (
    ("bool", r"yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF", "yYnNtTfFoO"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+0123456789.",
    ),
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("merge", r"<<", "<"),
):
    _letters = ["" if letter == "\0" else letter for letter in _first]
    _Reader.add_implicit_resolver(_tag(_name), re.compile(f"^(?:{_pattern})$"), _letters)  # type: ignore[no-untyped-call]
_Reader.add_constructor(_tag("int"), _read_int)
_Reader.add_constructor(_tag("float"), _read_float)


def yaml_word(text: str) -> str:
    """A text as it is written in YAML, in quotes where it would be read as something else without."""
    return text if _PLAIN.fullmatch(text) and text.lower() not in _WORDS_WITH_MEANING else json.dumps(text)


def read_yaml(text: str, source: str) -> Any:
    """The value of a YAML text: None, numbers, words, truth values, lists and dicts with words as keys.

    Args:
        source: what the text is, for messages.

    Raises:
        ConfigError: it is no YAML, or nothing that settings are written in.
    """
    try:
        reader = _Reader(text)
        try:
            return reader.get_single_data()  # type: ignore[no-untyped-call]
        finally:
            reader.dispose()  # type: ignore[no-untyped-call]
    except _Unsuitable as error:
        raise ConfigError(f"{source}, {error}.") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        position = f" at line {mark.line + 1}" if mark else ""
        raise ConfigError(
            f"{source} is not valid YAML{position}; expected nested keys such as 'section: {{key: value}}'."
        ) from None
