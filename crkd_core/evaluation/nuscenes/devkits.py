"""The official devkits: nuScenes', and that of TruckScenes, which was made from it. Nothing else imports them.

Each opens the tables of its data set and runs its own detection evaluation, without its console output.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar
from unittest.mock import patch

from crkd_core.config.description import DatasetDescription
from crkd_core.config.description_files import known_description
from crkd_core.errors import UsageError

_CUSTOM = " (samples)"
"""Ends the name of what is no official split, so that the devkit cannot take it for one."""


class Devkit(ABC):
    """One official devkit.

    Attributes:
        data_set: name of the description of the data set as the devkit scores it.
        protocol: its name of the detection configuration, whose numbers that description has.
        name: as texts write it.
        install: the command that adds it.
    """

    data_set: ClassVar[str]
    protocol: ClassVar[str]
    name: ClassVar[str]
    install: ClassVar[str]

    @property
    def description(self) -> DatasetDescription:
        """The data set as the devkit scores it."""
        return known_description(self.data_set)

    @abstractmethod
    def load(self) -> None:
        """Import it; raises ImportError where it is not installed."""

    @abstractmethod
    def open(self, dataroot: Path, version: str) -> Any:
        """The tables of a version."""

    @abstractmethod
    def config(self) -> Any:
        """Its detection configuration."""

    @abstractmethod
    def evaluation(
        self, tables: Any, split: str, tokens: Sequence[str] | None
    ) -> AbstractContextManager[tuple[type, Any, str]]:
        """Its class ``DetectionEval``, and the tables and the name of the split to give it.

        Args:
            tokens: the samples to score, for what is no official split or only a part of one: it then takes these
                samples for those that it would look up.
        """

    @abstractmethod
    def metrics(self, summary: Any) -> Any:
        """Its ``DetectionMetrics`` of what its evaluation returned first."""


class NuScenesDevkit(Devkit):
    """``nuscenes-devkit``."""

    data_set = "nuscenes"
    protocol = "detection_cvpr_2019"
    name = "nuScenes devkit"
    # It runs with numpy 2, which the versions that it pins do not say.
    install = "pip install cachetools pyquaternion scikit-learn && pip install --no-deps nuscenes-devkit"

    def load(self) -> None:
        import nuscenes.eval.detection.evaluate  # noqa: F401

    def open(self, dataroot: Path, version: str) -> Any:
        from nuscenes import NuScenes

        return NuScenes(version=version, dataroot=str(dataroot), verbose=False)

    def config(self) -> Any:
        from nuscenes.eval.common.config import config_factory

        return config_factory(self.protocol)

    @contextmanager
    def evaluation(self, tables: Any, split: str, tokens: Sequence[str] | None) -> Iterator[tuple[type, Any, str]]:
        from nuscenes.eval.common import loaders
        from nuscenes.eval.detection import evaluate

        with _quiet(loaders):
            if tokens is None:
                yield evaluate.DetectionEval, tables, split
                return
            if not hasattr(evaluate, "get_samples_of_custom_split"):
                raise UsageError(
                    "this nuscenes-devkit scores whole official splits only; install one that knows others: "
                    "pip install 'nuscenes-devkit>=1.2'"
                )
            with patch.object(evaluate, "get_samples_of_custom_split", lambda **_: list(tokens)):
                yield evaluate.DetectionEval, tables, f"{split}{_CUSTOM}"

    def metrics(self, summary: Any) -> Any:
        return summary


class TruckScenesDevkit(Devkit):
    """``truckscenes-devkit``."""

    data_set = "truckscenes"
    protocol = "detection_cvpr_2024"
    name = "TruckScenes devkit"
    install = "pip install truckscenes-devkit (Python below 3.12)"

    def load(self) -> None:
        import truckscenes.eval.detection.evaluate  # noqa: F401

    def open(self, dataroot: Path, version: str) -> Any:
        from truckscenes import TruckScenes

        return TruckScenes(version=version, dataroot=str(dataroot), verbose=False)

    def config(self) -> Any:
        from truckscenes.eval.common.config import config_factory

        return config_factory(self.protocol)

    @contextmanager
    def evaluation(self, tables: Any, split: str, tokens: Sequence[str] | None) -> Iterator[tuple[type, Any, str]]:
        from truckscenes.eval.common import loaders
        from truckscenes.eval.detection import evaluate

        with _quiet(loaders):
            if tokens is None:
                yield evaluate.DetectionEval, tables, split
                return
            # It knows official splits only: these samples are given to it as all that there are, and all as of val.
            scenes = {"val": [scene["name"] for scene in tables.scene]}
            with patch.object(loaders, "create_splits_scenes", lambda: scenes):
                yield evaluate.DetectionEval, _SomeSamples(tables, tokens), "val"

    def metrics(self, summary: Any) -> Any:
        # By scene tag; `all` is no tag.
        return summary["all"]


class _SomeSamples:
    """The tables of a devkit with some of their samples, in this order, as a version that has the split val."""

    version = "v1.2-trainval"

    def __init__(self, tables: Any, tokens: Sequence[str]) -> None:
        self._tables = tables
        self.sample = [tables.get("sample", token) for token in tokens]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tables, name)


DEVKITS: tuple[Devkit, ...] = (NuScenesDevkit(), TruckScenesDevkit())


def devkit_of(description: DatasetDescription) -> Devkit:
    """The devkit that scores a data set as it is described.

    Raises:
        UsageError: there is none, or it scores something else.
    """
    title = description.text_name
    for devkit in DEVKITS:
        if devkit.protocol == description.evaluation.protocol:
            difference = _scored_otherwise(description, devkit.description)
            if difference is None:
                return devkit
            raise UsageError(
                f"--official cannot agree on {title}: the {devkit.name} has other {difference} than its description; "
                "leave out --official."
            )
    raise UsageError(f"--official needs the devkit of a benchmark, and {title} is described without; leave it out.")


def _scored_otherwise(first: DatasetDescription, second: DatasetDescription) -> str | None:
    """What two descriptions score differently; None where nothing."""
    if first.class_names != second.class_names:
        return "classes"
    for field in ("categories", "range_m", "unscored", "half_turn"):
        if any(getattr(first.classes[name], field) != getattr(second.classes[name], field) for name in first.classes):
            return f"{field} of classes"
    for field in ("ignored_inside", "evaluation", "reference"):
        if getattr(first, field) != getattr(second, field):
            return field
    return None


@contextmanager
def _quiet(loaders: ModuleType) -> Iterator[None]:
    # `verbose=False` does not reach the progress bar of the devkits' ground-truth loaders.
    def plain(items: Iterable, **_: object) -> Iterable:
        return items

    with patch.object(loaders, "tqdm", SimpleNamespace(tqdm=plain)):
        yield
