"""From ``--set`` and friends to the configuration of a simulated world."""

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from crkd_core.errors import ConfigError

if TYPE_CHECKING:
    from crkd_core.simulation.config import SimulationConfig


def simulation_config(size: str, values: dict[str, Any], overrides: Sequence[str] | None = None) -> "SimulationConfig":
    """The world of a named size, some values and ``field=value`` overrides, of which the last wins.

    Raises:
        ConfigError: an unknown field, a wrong type, or values out of range.
    """
    import yaml
    from pydantic import ValidationError

    from crkd_core.simulation.config import WORLD_SIZES, SimulationConfig

    values = {**WORLD_SIZES[size], **values}
    fields = list(SimulationConfig.model_fields)
    for override in overrides or ():
        name, separator, text = override.partition("=")
        if not separator or not name:
            raise ConfigError(f"--set expects field=value here (for instance density=0.5), found {override!r}.")
        if name not in fields:
            close = difflib.get_close_matches(name, fields, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(fields)}."
            raise ConfigError(f"the simulated world has no setting {name!r}{hint}")
        values[name] = yaml.safe_load(text)
    try:
        return SimulationConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        found = f", found {first['input']!r}" if place else ""
        raise ConfigError(f"the simulated world's {place or 'settings'}: {first['msg']}{found}.") from None
