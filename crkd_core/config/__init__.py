"""Validated configuration: pydantic models, YAML presets, ``--set`` overrides."""

from crkd_core.config.loading import describe_preset, load_config, preset_names
from crkd_core.config.schema import Config

__all__ = ["Config", "describe_preset", "load_config", "preset_names"]
