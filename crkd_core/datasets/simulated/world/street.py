"""The street: a town road with a crossing, where nuScenes' scenes play."""

from functools import partial

from crkd_core.datasets.simulated.sensors.rig_description import RigDescription
from crkd_core.datasets.simulated.world.ground import build_ground
from crkd_core.datasets.simulated.world.scenario import write_scenario
from crkd_core.datasets.simulated.world.setting import Setting
from crkd_core.datasets.simulated.world.streams import Streams
from crkd_core.datasets.simulated.world.surroundings import place_surroundings
from crkd_core.datasets.simulated.world.traffic import populate


def street(index: int, duration_s: float, rig: RigDescription, density: float, streams: Streams) -> Setting:
    """The `index`-th scene of a split."""
    scenario = write_scenario(index, duration_s, streams.scenario)
    plan, conditions = scenario.plan, scenario.conditions
    agents = populate(scenario, rig, density, streams.agents)
    clutter = place_surroundings(plan, conditions, streams.clutter)
    crossing = "" if scenario.manoeuvre == "straight" else "intersection, "
    what = f"{conditions.label}{crossing}{scenario.manoeuvre}"
    description = f"{what}, road works, parked vehicles, pedestrians (simulated)"
    return Setting(
        description=description[0].upper() + description[1:],
        area="city",
        has_road_works=True,
        conditions=conditions,
        ego=scenario.ego,
        agents=agents,
        clutter=tuple(clutter),
        paint=partial(build_ground, plan),
        x_range=plan.x_range,
        y_range=plan.y_range,
    )
