"""Which scenes form which split, and what a user means by ``train`` and ``val`` in a given version.

The lists are, the first that there is: those of ``--val-scenes``, of the description, and of the published split files
with those of ``splits.json``.
"""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import chain, combinations
from pathlib import Path
from typing import Any

from crkd_core.config.description import DatasetDescription
from crkd_core.config.description_files import known_description
from crkd_core.config.split_names import TEST, TRAIN, TRAINVAL, VAL
from crkd_core.datasets.nuscenes.regular_files import refuse_special_file
from crkd_core.datasets.truckscenes import splits as truckscenes
from crkd_core.errors import DatasetError, UsageError

SPLITS_NAME = "splits.json"
"""File of a version folder with splits of one's own, as nuscenes-devkit 1.2 reads it."""

SPLITS_OF_KIND = {"trainval": (TRAIN, VAL), "mini": (f"mini_{TRAIN}", f"mini_{VAL}"), "test": (TEST,)}
"""The official splits of a version, by the end of its name."""

_PARTS = {TRAINVAL: SPLITS_OF_KIND["trainval"], f"mini_{TRAINVAL}": SPLITS_OF_KIND["mini"]}
_RESERVED = (*chain.from_iterable(SPLITS_OF_KIND.values()), "train_detect", "train_track")
_EXPECTED = '{"my_train": ["scene name", ...], "my_val": [...]}'
_OFFICIAL = Path(__file__).with_name("official_splits.json")


@dataclass(frozen=True)
class SceneSplits:
    """The splits of a version.

    Attributes:
        of_scene: scene name to the splits it belongs to; scenes of no split may be absent.
        own: the lists that are used and are not published ones, which determine a prepared data set.
        oddities: what of ``splits.json`` is not as its writer may expect, one sentence each.
    """

    of_scene: Mapping[str, Sequence[str]]
    own: Mapping[str, Sequence[str]] = field(default_factory=dict)
    oddities: tuple[str, ...] = ()


@cache
def official_scenes(split: str) -> tuple[str, ...]:
    """Scene names of an official split: train (700), val (150), test (150), mini_train (8) or mini_val (2).

    Raises:
        KeyError: there is no such list.
    """
    return tuple(json.loads(_OFFICIAL.read_text(encoding="utf-8"))[split])


PUBLISHED: dict[str, Callable[[str], tuple[str, ...]]] = {
    "nuscenes": official_scenes,
    "truckscenes": truckscenes.official_scenes,
}
"""Scene names of a published split, by the name of the lists (``official_splits`` of a description)."""


def splits_of_version(version: str) -> tuple[str, ...] | None:
    """The official splits that a version holds, by the end of its name; None for a version of another kind."""
    for kind, splits in SPLITS_OF_KIND.items():
        if version.endswith(kind):
            return splits
    return None


def resolve_split(split: str, version: str, present: Collection[str] = ()) -> str:
    """The official name of a split; ``train`` and ``val`` mean ``mini_train`` and ``mini_val`` in a mini version.

    ``trainval`` is both together.

    Args:
        present: splits that the data are known to have, those of ``splits.json`` included.

    Raises:
        UsageError: the version has no such split.
    """
    official = splits_of_version(version)
    if split in present or official is None or split in official or (split == TRAINVAL and {TRAIN, VAL} <= {*present}):
        return split
    if f"mini_{split}" in official:
        return f"mini_{split}"
    for together, parts in _PARTS.items():
        if split.removeprefix("mini_") == TRAINVAL and parts == official:
            return together
    known = dict.fromkeys((*official, *present))
    raise UsageError(f"version {version} has no split {split!r}; it has {', '.join(known)}.")


def parts_of_split(split: str, present: Collection[str] = ()) -> tuple[str, ...]:
    """The splits that an official name stands for: two for ``trainval``, unless the data define one of that name."""
    return _PARTS.get(split, (split,)) if split not in present else (split,)


def splits_of_scenes(version: str, published: str = "nuscenes") -> dict[str, list[str]]:
    """Scene name to the official splits of this version it belongs to.

    A version whose name ends otherwise than in trainval, mini or test gets every official list.

    Args:
        published: whose lists, of :data:`PUBLISHED`.
    """
    splits: dict[str, list[str]] = {}
    for split in splits_of_version(version) or (TRAIN, VAL, TEST):
        for scene in PUBLISHED[published](split):
            splits.setdefault(scene, []).append(split)
    return splits


def read_splits(
    folder: Path, scenes: Sequence[str], description: DatasetDescription, val_scenes: Path | None = None
) -> SceneSplits:
    """The splits of a version folder.

    Where its ``splits.json`` lists names of published lists, these are meant, as in the devkit; where none of the
    `scenes` is in any of them, so that the devkit could not use such a split at all, the file's lists are taken.

    Args:
        scenes: names of all scenes of the version.
        val_scenes: file with the names of those that are ``val``; all others are ``train``.

    Raises:
        DatasetError: a file cannot be read, is not what it should be, or names a scene that is not there; or scenes
            are in a training and in a validation split.
    """
    if val_scenes is not None:
        val = read_scene_names(val_scenes, scenes)
        return _of_lists({TRAIN: [name for name in scenes if name not in set(val)], VAL: val})
    if description.splits:
        return replace(
            _of_lists(description.splits),
            oddities=tuple(_unknown_scenes(description.splits, scenes, "the description")),
        )
    published = description.official_splits
    official = splits_of_scenes(folder.name, published) if published is not None else {}
    listed = _read_lists(folder / SPLITS_NAME)
    _refuse_leaks(folder / SPLITS_NAME, listed)
    is_own_world = not any(name in official for name in scenes)
    own = {name: names for name, names in listed.items() if is_own_world or name not in _RESERVED}
    of_scene = {scene: list(splits) for scene, splits in official.items()}
    for split, names in own.items():
        for scene in dict.fromkeys(names):
            of_scene.setdefault(scene, []).append(split)
    reserved = [name for name in listed if name in _RESERVED and published is not None]
    oddities = _oddities(listed, own, reserved, known_description(published).text_name if published else "")
    return SceneSplits(of_scene, own, (*oddities, *_unknown_scenes(own, scenes, SPLITS_NAME)))


def _of_lists(lists: Mapping[str, Sequence[str]]) -> SceneSplits:
    of_scene: dict[str, list[str]] = {}
    for split, names in lists.items():
        for scene in names:
            of_scene.setdefault(scene, []).append(split)
    return SceneSplits(of_scene, lists)


def _refuse_leaks(path: Path, listed: Mapping[str, Sequence[str]]) -> None:
    """Refuse a training split that shares scenes with the validation or test split of the same name but for that."""
    for name, names in listed.items():
        for other in (VAL, TEST):
            counterpart = name.replace(TRAIN, other)
            if counterpart != name and (shared := sorted(set(names) & set(listed.get(counterpart, ())))):
                raise DatasetError(
                    f"the splits {name} and {counterpart} in {path} share the scene {shared[0]!r} ({len(shared)} in "
                    "all), so that a model would be validated on what it was trained on; keep each scene in one."
                )


def _oddities(
    listed: Mapping[str, Sequence[str]], own: Mapping[str, Sequence[str]], reserved: Sequence[str], publisher: str
) -> list[str]:
    said = []
    if ignored := [name for name in reserved if name not in own]:
        said.append(
            f"{SPLITS_NAME} lists {', '.join(ignored)}: {publisher}' own lists of that name are used, as in the devkit"
        )
    if used := [name for name in reserved if name in own]:
        said.append(
            f"{', '.join(used)} are those of {SPLITS_NAME}, as no scene is in {publisher}' own lists (the devkit "
            "knows only these under such a name)"
        )
    for first, second in combinations([name for name, names in own.items() if names], 2):
        if shared := sorted(set(own[first]) & set(own[second])):
            said.append(f"{first} and {second} of {SPLITS_NAME} share scenes: {shared[0]}, {len(shared)} in all")
    return said


def _unknown_scenes(own: Mapping[str, Sequence[str]], scenes: Collection[str], source: str) -> list[str]:
    said, known = [], set(scenes)
    for name, names in own.items():
        if unknown := [scene for scene in dict.fromkeys(names) if scene not in known]:
            said.append(
                f"{len(unknown)} of the {len(set(names))} scenes of {name} in {source} are not in scene.json, "
                f"such as {unknown[0]}"
            )
    return said


def read_scene_names(path: Path, scenes: Collection[str]) -> list[str]:
    """The names of scenes in a text file, one a line; empty lines and those that begin with # do not count.

    Raises:
        DatasetError: it cannot be read, holds no name, or one that is not among `scenes`.
    """
    refuse_special_file(path, "the file")
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except OSError as error:
        raise DatasetError(
            f"the scene list {path} cannot be read: {error.strerror or error}; check --val-scenes."
        ) from None
    except UnicodeDecodeError:
        raise DatasetError(f"the scene list {path} is not UTF-8 text; expected the name of a scene a line.") from None
    names = list(dict.fromkeys(line for line in lines if line and not line.startswith("#")))
    if not names:
        raise DatasetError(
            f"the scene list {path} names no scene; expected the names of the validation scenes, one a line."
        )
    known = set(scenes)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise DatasetError(
            f"{len(unknown)} of the {len(names)} scenes in {path} are not in scene.json, such as {unknown[0][:100]!r}; "
            f"its scenes are called {', '.join(list(scenes)[:3]) or 'nothing'}, ...: mend the list."
        )
    return names


def _read_lists(path: Path) -> dict[str, list[str]]:
    refuse_special_file(path, "the file")
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        if path.is_symlink():
            raise DatasetError(f"{path} is a link to a file that is not there; mend or remove it.") from None
        return {}
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror or error}.") from None
    except (ValueError, RecursionError) as error:
        position = f" ({error.msg}, line {error.lineno})" if isinstance(error, json.JSONDecodeError) else ""
        raise DatasetError(f"{path} is not valid JSON{position}; expected {_EXPECTED}.") from None
    if not isinstance(values, dict):
        raise DatasetError(f"{path} is not an object of splits; expected {_EXPECTED}.")
    for name, names in values.items():
        if not name.strip():
            raise DatasetError(f"{path} has a split without a name; expected {_EXPECTED}.")
        if not isinstance(names, list) or not all(isinstance(scene, str) for scene in names):
            raise DatasetError(f"the split {name!r} in {path} is not a list of scene names; expected {_EXPECTED}.")
    return values
