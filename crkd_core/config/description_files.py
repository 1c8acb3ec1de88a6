"""Descriptions that come with the package, and those of one's own in YAML files."""

from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from crkd_core.config.description import DatasetDescription
from crkd_core.config.explaining import explain_invalid, suggestion
from crkd_core.config.text_files import read_setting_file
from crkd_core.config.yaml_reader import read_yaml
from crkd_core.errors import ConfigError, quoted

DEFAULT_DATASET = "nuscenes"
_SUFFIXES = (".yaml", ".yml")


def dataset_names() -> list[str]:
    """Names of the descriptions that come with the package."""
    folder = resources.files("crkd_core.config") / "descriptions"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_description(name_or_file: str | Path) -> DatasetDescription:
    """The description of that name, or in that YAML file.

    Raises:
        ConfigError: there is none, or it is wrong.
    """
    text = str(name_or_file)
    if isinstance(name_or_file, str) and text in dataset_names():
        return known_description(text)
    file = Path(name_or_file)
    if file.suffix not in _SUFFIXES:
        raise ConfigError(
            f"no data set is named {quoted(text)}{suggestion(text, dataset_names()).removesuffix('.')} (a description "
            "of one's own is a file that ends in .yaml)."
        )
    return _from_yaml(read_setting_file(file, "the description"), str(file))


@cache
def known_description(name: str) -> DatasetDescription:
    """A description that comes with the package.

    Raises:
        KeyError: there is none of that name.
    """
    if name not in dataset_names():
        raise KeyError(name)
    file = resources.files("crkd_core.config") / "descriptions" / f"{name}.yaml"
    return _from_yaml(file.read_text(encoding="utf-8"), name)


def nuscenes() -> DatasetDescription:
    """The description of nuScenes, which is meant where nothing else is said."""
    return known_description(DEFAULT_DATASET)


def validate_description(values: Any, source: str = "") -> DatasetDescription:
    """A description from plain nested values, such as YAML or a manifest holds.

    Args:
        source: what they are from, named in front of what is wrong; "" for nothing.

    Raises:
        ConfigError: naming the first wrong key, what was expected and what was found.
    """
    try:
        return DatasetDescription.model_validate(values)
    except ValidationError as error:
        sentence = explain_invalid(error, DatasetDescription, "the description key", "the description").removeprefix(
            "the description: "
        )
        raise ConfigError(f"{source}: {sentence}" if source else sentence) from None


def dump_description(description: DatasetDescription) -> str:
    """YAML text from which the same description is read; what is as by default is left out."""
    values = description.model_dump(mode="json", exclude_defaults=True)
    return yaml.safe_dump(values, sort_keys=False, default_flow_style=None, width=110)


def _from_yaml(text: str, source: str) -> DatasetDescription:
    values = read_yaml(text, source)
    if values is None:
        raise ConfigError(f"{source} is empty; crkd prepare --nuscenes FOLDER --describe writes a first description.")
    if not isinstance(values, dict):
        raise ConfigError(f"{source} must hold keys such as 'classes:', found {type(values).__name__}.")
    return validate_description(values, source)
