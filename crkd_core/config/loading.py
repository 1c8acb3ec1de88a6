"""From a preset, a YAML file and ``section.field=value`` overrides to a validated :class:`Config`."""

import typing
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from crkd_core.config.described import values_without_defaults
from crkd_core.config.description import DatasetDescription
from crkd_core.config.description_difference import description_difference
from crkd_core.config.description_files import DEFAULT_DATASET, dataset_names, known_description
from crkd_core.config.explaining import explain_invalid, suggestion
from crkd_core.config.models import backbone_kind
from crkd_core.config.schema import Config
from crkd_core.config.text_files import read_setting_file
from crkd_core.config.yaml_reader import read_yaml
from crkd_core.errors import ConfigError, quoted

DEFAULT_PRESET = "paper-r50"
_MOST_KEYS = 10


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
        raise ConfigError(f"no preset is named {quoted(name)}{suggestion(name, preset_names())}")
    return (resources.files("crkd_core.config") / "presets" / f"{name}.yaml").read_text(encoding="utf-8")


def describe_preset(name: str) -> str:
    """First comment line of a preset: what it is for."""
    return read_preset(name).splitlines()[0].lstrip("# ")


def load_config(preset: str | None = None, file: Path | None = None, overrides: typing.Sequence[str] = ()) -> Config:
    """Resolve a configuration; of `preset`, `file` and `overrides` (``section.field=value``) the last wins.

    Raises:
        ConfigError: an unknown preset, key or file, a wrong type, or values that do not fit each other.
    """
    preset = DEFAULT_PRESET if preset is None else preset
    values = _sections(read_preset(preset), f"preset {preset}")
    if file is not None:
        values = _merge(values, _sections(read_setting_file(file, "the config file"), str(file)))
    for override in overrides:
        values = _merge(values, _parse_override(override, "--set"))
    return validate_config(values)


def with_overrides(
    config: Config, overrides: typing.Sequence[str], option: str = "--set", file: Path | None = None
) -> Config:
    """A configuration with the values of a file changed, and then some more (``section.field=value``, the last wins).

    `option` is what the user wrote them behind; errors name it.

    Raises:
        ConfigError: an unknown key, a wrong type, or values that do not fit each other.
    """
    values = config.model_dump(mode="json")
    if file is not None:
        values = _merge(values, _sections(read_setting_file(file, "the config file"), str(file)))
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
        raise ConfigError(explain_invalid(error, Config)) from None


def configured_for(config: Config, description: DatasetDescription, data: str) -> Config:
    """A configuration for data that are described so, whose description it takes.

    Args:
        data: what the data are called, for messages.

    Raises:
        ConfigError: it says another description, or names what these data do not have.
    """
    if config.dataset == description:
        return config
    if "dataset" in config.model_fields_set:
        difference = description_difference(config.dataset, description)
        if difference is None:
            return config.model_copy(update={"dataset": description})
        raise ConfigError(
            f"the configuration is for {config.dataset.text_name}, and {data} is {description.text_name} "
            f"({difference}); choose another preset, or other data with --prepared."
        )
    try:
        return validate_config(values_without_defaults(config) | {"dataset": description.model_dump(mode="json")})
    except ConfigError as error:
        raise ConfigError(
            f"the configuration does not fit {data}, which is {description.text_name}: {str(error).rstrip('.')}; mend "
            "that, or choose another --preset, or other data with --prepared."
        ) from None


def dump_config(config: BaseModel) -> str:
    """YAML text from which :func:`load_config` makes the same configuration."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, default_flow_style=None, width=110)


def _sections(text: str, source: str) -> dict[str, Any]:
    values = read_yaml(text, source)
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{source} must hold sections such as 'train:', found {type(values).__name__}.")
    return values


def _parse_override(override: str, option: str) -> dict[str, Any]:
    path, separator, text = override.partition("=")
    keys = path.strip().split(".")
    if not separator or not all(keys) or len(keys) > _MOST_KEYS:
        raise ConfigError(
            f"{option} expects section.field=value (for instance train.seed=1), found {quoted(override)}."
        )
    value = read_setting(text, f"{option} {path.strip()}")
    for key in reversed(keys):
        value = {key: value}
    return value


def read_setting(text: str, option: str) -> Any:
    """The value of a setting on the command line.

    Args:
        option: what it stands behind, for messages.

    Raises:
        ConfigError: it is no value of any setting.
    """
    try:
        return read_yaml(text, "the value")
    except ConfigError as error:
        problem = str(error).removeprefix("the value, line 1: ")
        if problem.startswith("the value"):
            problem = f"the value is not valid YAML: {quoted(text)}."
        raise ConfigError(f"{option}: {problem}") from None


def _merge(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in top.items():
        old = merged.get(key)
        if key == "dataset" and isinstance(value, dict):
            old = _description_values(old)
        if isinstance(old, dict) and isinstance(value, dict) and not _of_another_kind(key, old, value):
            value = _merge(old, value)
        merged[key] = value
    return merged


def _description_values(old: Any) -> Any:
    """What changes of a description go on top of: that which was named before, nuScenes' where none was."""
    name = DEFAULT_DATASET if old is None else old
    if isinstance(name, str) and name in dataset_names():
        return known_description(name).model_dump(mode="json")
    return old


def _of_another_kind(key: str, old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Each kind of backbone has settings of its own, so that a new one begins with its defaults; so has a data set."""
    if key == "dataset":
        return new.get("name", old.get("name")) != old.get("name")
    return key == "backbone" and "kind" in new and backbone_kind(new) != backbone_kind(old)
