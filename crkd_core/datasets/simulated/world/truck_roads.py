"""Where a truck's scenes play: motorways and terminals in turn, under all kinds of weather."""

from crkd_core.datasets.simulated.sensors.rig_description import RigDescription
from crkd_core.datasets.simulated.world.motorway import motorway
from crkd_core.datasets.simulated.world.script import Conditions
from crkd_core.datasets.simulated.world.setting import Setting
from crkd_core.datasets.simulated.world.streams import Streams
from crkd_core.datasets.simulated.world.yard import yard

_WEATHER = (
    Conditions(night=False, rain=False, overcast=False),
    Conditions(night=False, rain=False, overcast=True),
    Conditions(night=False, rain=True, overcast=True),
    Conditions(night=True, rain=False, overcast=False),
    Conditions(night=False, rain=False, overcast=False),
)


def truck_road(index: int, duration_s: float, rig: RigDescription, density: float, streams: Streams) -> Setting:
    """The `index`-th scene of a split; five kinds of weather and two places meet in every combination."""
    build_setting = motorway if index % 2 == 0 else yard
    return build_setting(_WEATHER[index % len(_WEATHER)], duration_s, rig, density, streams)
