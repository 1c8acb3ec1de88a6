"""Scene names: the simulated scenes borrow the official ones, so that the official splits apply."""

from crkd_core.datasets.nuscenes.splits import SPLITS_OF_KIND
from crkd_core.datasets.simulated.config import SimulationConfig
from crkd_core.datasets.simulated.writer.stage import ScenePlan


def scene_plans(config: SimulationConfig) -> list[ScenePlan]:
    """The scenes to make, training split first."""
    plans: list[ScenePlan] = []
    for split, count in zip(SPLITS_OF_KIND[config.kind], (config.train_scenes, config.val_scenes), strict=True):
        plans += [ScenePlan(name, index) for index, name in enumerate(config.official_scenes(split)[:count])]
    return plans
