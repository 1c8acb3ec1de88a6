"""Scene names: the simulated scenes borrow the official ones, so that the devkit's splits apply."""

from crkd_core.datasets.simulated.config import SimulationConfig
from crkd_core.datasets.simulated.writer.scene import ScenePlan

MINI_TRAIN = (61, 553, 655, 757, 796, 1077, 1094, 1100)
MINI_VAL = (103, 916)


def scene_plans(config: SimulationConfig) -> list[ScenePlan]:
    """The scenes to make, training split first."""
    if config.kind == "mini":
        splits = tuple([f"scene-{number:04d}" for number in numbers] for numbers in (MINI_TRAIN, MINI_VAL))
    else:
        from nuscenes.utils.splits import train, val

        splits = (list(train), list(val))
    plans = []
    for names, count in zip(splits, (config.train_scenes, config.val_scenes), strict=True):
        plans += [ScenePlan(name, index) for index, name in enumerate(names[:count])]
    return plans
