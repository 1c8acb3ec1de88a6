"""Which scenes form which split, and what a user means by ``train`` and ``val`` in a given version."""

from crkd_core.errors import UsageError

_SPLITS_OF_KIND = {"trainval": ("train", "val"), "mini": ("mini_train", "mini_val"), "test": ("test",)}

# The devkit's two short lists are repeated here because importing it takes seconds, which a mini version need not cost.
_MINI_SCENES = {
    "mini_train": [f"scene-{number:04d}" for number in (61, 553, 655, 757, 796, 1077, 1094, 1100)],
    "mini_val": [f"scene-{number:04d}" for number in (103, 916)],
}


def splits_of_version(version: str) -> tuple[str, ...] | None:
    """The official splits that a version holds, by the end of its name; None for a version of another kind."""
    for kind, splits in _SPLITS_OF_KIND.items():
        if version.endswith(kind):
            return splits
    return None


def resolve_split(split: str, version: str) -> str:
    """The official name of a split; ``train`` and ``val`` mean ``mini_train`` and ``mini_val`` in a mini version.

    Raises:
        UsageError: the version has no such split.
    """
    official = splits_of_version(version)
    if official is None or split in official:
        return split
    if f"mini_{split}" in official:
        return f"mini_{split}"
    raise UsageError(f"version {version} has no split {split!r}; it has {', '.join(official)}.")


def splits_of_scenes(version: str) -> dict[str, list[str]]:
    """Scene name to the splits of this version it belongs to.

    The lists are the devkit's (``nuscenes.utils.splits``). A version whose name ends otherwise than in trainval, mini
    or test gets every official list.
    """
    found: dict[str, list[str]] = {}
    for split in splits_of_version(version) or ("train", "val", "test"):
        for scene in _MINI_SCENES.get(split) or _devkit_scenes(split):
            found.setdefault(scene, []).append(split)
    return found


def _devkit_scenes(split: str) -> list[str]:
    from nuscenes.utils import splits

    return list(getattr(splits, split))
