"""The formats a world can be written in."""

from crkd_core.datasets.simulated.config import SimulationConfig
from crkd_core.datasets.simulated.writer.nuscenes_format import NuScenesFormat
from crkd_core.datasets.simulated.writer.table_format import TableFormat
from crkd_core.datasets.simulated.writer.truckscenes_format import TruckScenesFormat

FORMATS: dict[str, TableFormat] = {"nuscenes": NuScenesFormat(), "truckscenes": TruckScenesFormat()}


def format_of(config: SimulationConfig) -> TableFormat:
    """The format that a configuration asks for."""
    return FORMATS[config.format]
