"""From a preset, a YAML file and ``section.field=value`` overrides to a validated :class:`Config`."""

import difflib
import typing
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, Tag, ValidationError

from crkd_core.config.schema import Config
from crkd_core.errors import ConfigError

DEFAULT_PRESET = "paper-r50"


def preset_names() -> list[str]:
    """Names of the presets that come with the package."""
    folder = resources.files("crkd_core.config") / "presets"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def read_preset(name: str) -> str:
    """The YAML text of a preset.

    Raises:
        ConfigError: no preset has that name.
    """
    if name not in preset_names():
        raise ConfigError(f"no preset is named {name!r}{_suggestion(name, preset_names())}")
    return (resources.files("crkd_core.config") / "presets" / f"{name}.yaml").read_text(encoding="utf-8")


def describe_preset(name: str) -> str:
    """First comment line of a preset: what it is for."""
    return read_preset(name).splitlines()[0].lstrip("# ")


def load_config(preset: str | None = None, file: Path | None = None, overrides: typing.Sequence[str] = ()) -> Config:
    """Resolve a configuration; of `preset`, `file` and `overrides` (``section.field=value``) the last wins.

    Raises:
        ConfigError: an unknown preset, key or file, a wrong type, or values that do not fit each other.
    """
    values = _parse_yaml(read_preset(preset or DEFAULT_PRESET), f"preset {preset}")
    if file is not None:
        try:
            text = file.read_text(encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"the config file {file} cannot be read: {error.strerror}.") from error
        except UnicodeDecodeError:
            raise ConfigError(f"the config file {file} is not UTF-8 text; expected YAML.") from None
        values = _merge(values, _parse_yaml(text, str(file)))
    for override in overrides:
        values = _merge(values, _parse_override(override, "--set"))
    return validate_config(values)


def with_overrides(config: Config, overrides: typing.Sequence[str], option: str = "--set") -> Config:
    """A configuration with some values changed (``section.field=value``, the last wins).

    `option` is what the user wrote them behind; errors name it.

    Raises:
        ConfigError: an unknown key, a wrong type, or values that do not fit each other.
    """
    values = config.model_dump(mode="json")
    for override in overrides:
        values = _merge(values, _parse_override(override, option))
    return validate_config(values)


def validate_config(values: dict[str, Any]) -> Config:
    """A validated configuration from nested plain values.

    Raises:
        ConfigError: naming the first wrong key, what was expected and what was found.
    """
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_explain(error)) from None


def dump_config(config: BaseModel) -> str:
    """YAML text from which :func:`load_config` makes the same configuration."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, default_flow_style=None, width=110)


def _parse_yaml(text: str, source: str) -> dict[str, Any]:
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        place = f" at line {error.problem_mark.line + 1}" if getattr(error, "problem_mark", None) else ""  # type: ignore[attr-defined]
        raise ConfigError(
            f"{source} is not valid YAML{place}; expected nested keys such as 'train: {{seed: 1}}'."
        ) from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{source} must hold sections such as 'train:', found {type(values).__name__}.")
    return values


def _parse_override(override: str, option: str) -> dict[str, Any]:
    path, separator, text = override.partition("=")
    keys = path.strip().split(".")
    if not separator or not all(keys):
        raise ConfigError(f"{option} expects section.field=value (for instance train.seed=1), found {override!r}.")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"the value of {option} {path} is not valid YAML: {text!r}.") from None
    if isinstance(value, str):
        value = _number_or_text(value)
    for key in reversed(keys):
        value = {key: value}
    return value


def _number_or_text(text: str) -> float | str:
    # YAML 1.1 reads 1e-4 as a string; users mean a number.
    try:
        return float(text)
    except ValueError:
        return text


def _merge(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in top.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    keys, section = _locate(first["loc"])
    path = ".".join(keys) or "the configuration"
    if first["type"] == "extra_forbidden":
        return f"the config has no key {path!r}{_suggestion(keys[-1], list(section.model_fields) if section else [])}"
    if first["type"] == "union_tag_invalid":
        context = first["ctx"]
        return (
            f"the config key {path + '.kind'!r}: expected one of {context['expected_tags']}, found {context['tag']!r}."
        )
    if first["type"] == "missing":
        return f"the config key {path!r} is missing and has no default."
    if first["type"] == "union_tag_not_found":
        return f"the config key {path!r}: expected a section with a kind, found {first['input']!r}."
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":
        return f"{path}: {message}."
    found = first.get("input")
    expected = (
        _EXPECTED.get(first["type"]) or message.removeprefix("Input should be ").partition(", unable to parse")[0]
    )
    return f"the config key {path!r}: expected {expected}, found {found!r} ({type(found).__name__})."


_EXPECTED = {"model_type": "a section of keys", "tuple_type": "a list", "list_type": "a list"}


def _locate(location: tuple[Any, ...]) -> tuple[list[str], type[BaseModel] | None]:
    """Keys that lead to an error, without the tags of unions, and the section that the last of them is in."""
    keys: list[str] = []
    section: type[BaseModel] | None = None
    here: Any = Config
    for part in location:
        tagged = [member for member in typing.get_args(here) if Tag(str(part)) in getattr(member, "__metadata__", ())]
        if tagged:
            here = tagged[0].__origin__
            continue
        keys.append(str(part))
        section = here if isinstance(here, type) and issubclass(here, BaseModel) else None
        field = section.model_fields.get(str(part)) if section else None
        here = field.annotation if field else None
    return keys, section


def _suggestion(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known here: {', '.join(known)}." if known else "."
