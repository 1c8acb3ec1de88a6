"""YAML as settings are written in it, and the traps of YAML that end in one sentence instead."""

import math
import time

import pytest
import yaml

from crkd_core.config import load_config, preset_names
from crkd_core.config.loading import dump_config, read_preset
from crkd_core.config.yaml_reader import read_yaml
from crkd_core.errors import ConfigError, quoted


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None), ("~", None), ("null", None), ("yes", True), ("False", False), ("7", 7), ("-7", -7), ("010", 10),
        ("1e-4", 1e-4), ("1e3", 1000.0), (".5", 0.5), ("5.", 5.0), ("-.inf", -math.inf), ("1:30", "1:30"),
        ("0x10", "0x10"), ("2020-01-01", "2020-01-01"), ("'7'", "7"), ("tiny", "tiny"), ("[1, [2]]", [1, [2]]),
        ("{a: {b: 1}}", {"a": {"b": 1}}), ("a: &x {b: 1}\nc: {<<: *x, d: 2}", {"a": {"b": 1}, "c": {"b": 1, "d": 2}}),
        ("a: &x {b: 1}\nc: {<<: *x, b: 2}", {"a": {"b": 1}, "c": {"b": 2}}),
    ],
)  # fmt: skip
def test_plain_values(text, value):
    values = read_yaml(text, "it")
    assert values == value
    assert type(values) is type(value)


@pytest.mark.parametrize("name", preset_names())
def test_presets_and_what_runs_write_read_as_in_any_yaml(name):
    assert read_yaml(read_preset(name), "it") == yaml.safe_load(read_preset(name))
    written = dump_config(load_config(name))
    assert read_yaml(written, "it") == yaml.safe_load(written)


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join(['*' + before] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi")
)
MERGE_BOMB = "a: &a {x: 1}\n" + "".join(
    f"{name}: &{name} {{<<: [{','.join(['*' + before] * 9)}]}}\n" for before, name in zip("abcdefgh", "bcdefghi")
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 10_000, "more than 20 levels"),
        ("{a: " * 10_000, "more than 20 levels"),
        ("\n".join("  " * depth + "a:" for depth in range(200)), "more than 20 levels"),
        (BOMB, "more than 10000 values"),
        (MERGE_BOMB, "more than 10000 values"),
        ("a: &a {b: *a}", "within what it names"),
        ("a: 1\nb: 2\na: 3", "line 3: the key 'a' stands there twice"),
        ("a: {b: 1, b: 2}", "the key 'b' stands there twice"),
        ("1: 2", "the key '1' is no name"),
        ("yes: 2", "the key 'yes' is no name"),
        ("{null: 2}", "the key 'null' is no name"),
        ("? [a]\n: 2", "the key of several values is no name"),
        ("a: !!binary aaaa", "the tag '!!binary'"),
        ("a: !!set {b}", "the tag '!!set'"),
        ("a: !!python/object/apply:os.system ['true']", "python/object/apply:os.system"),
        ("a: " + "1" * 5000, "a number has 5000 digits"),
        ("a: [", "not valid YAML at line 1"),
        ("a: 1\n---\nb: 1", "not valid YAML at line 2"),
        ("a: \0", "not valid YAML"),
        ("a: *nothing", "not valid YAML at line 1"),
    ],
    ids=lambda value: value[:24],
)
def test_what_no_setting_is_written_in(text, words):
    began = time.monotonic()
    with pytest.raises(ConfigError) as caught:
        read_yaml(text, "mine.yaml")
    assert words in str(caught.value)
    assert str(caught.value).startswith("mine.yaml")
    assert len(str(caught.value)) < 160
    assert time.monotonic() - began < 30


ANYTHING = [10**5000, [10**5000], -(10**5000), "x" * 10**6, ["x" * 100] * 1000, b"\0" * 1000, None, 3, "it's"]


@pytest.mark.parametrize("index", range(len(ANYTHING)))
def test_anything_can_be_quoted_in_a_message(index):
    value = ANYTHING[index]
    assert len(quoted(value)) < 260
    if value in (None, 3, "it's"):
        assert quoted(value) == repr(value)
