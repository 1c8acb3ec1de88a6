"""From ``--set`` and friends to the configuration of a simulated world."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crkd_core.errors import ConfigError, quoted

if TYPE_CHECKING:
    from crkd_core.datasets.simulated.config import Format, SimulationConfig


def simulation_config(
    size: str,
    values: dict[str, Any],
    overrides: Sequence[str] | None = None,
    form: "Format" = "nuscenes",
    rig_file: Path | None = None,
) -> "SimulationConfig":
    """The world of a named size and format, some values and ``field=value`` overrides, of which the last wins.

    Args:
        rig_file: YAML of a rig of one's own.

    Raises:
        ConfigError: an unknown field, a wrong type, or values out of range.
    """
    from pydantic import ValidationError

    from crkd_core.config.explaining import explain_invalid, suggestion
    from crkd_core.config.loading import read_setting
    from crkd_core.datasets.simulated.config import SimulationConfig, world_size
    from crkd_core.datasets.simulated.sensors.rig_description import read_rig

    rig = read_rig(rig_file) if rig_file is not None else None
    values = {**world_size(size, form, rig), "format": form, "rig": rig, **values}
    fields = [name for name in SimulationConfig.model_fields if name not in ("format", "rig")]
    for override in overrides or ():
        name, separator, text = override.partition("=")
        if not separator or not name:
            raise ConfigError(f"--set expects field=value here (for instance density=0.5), found {quoted(override)}.")
        if name not in fields:
            raise ConfigError(f"the simulated world has no setting {quoted(name)}{suggestion(name, fields)}")
        values[name] = read_setting(text, f"--set {name}")
    try:
        return SimulationConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError(explain_invalid(error, SimulationConfig, "the simulated world's")) from None
