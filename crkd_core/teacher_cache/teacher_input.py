"""The teacher's side of a distillation run: finding it, and checking that it belongs to the run."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from crkd_core.artifacts.command import CONFIG_OPTIONS, Command, command_like
from crkd_core.artifacts.location import quoted
from crkd_core.artifacts.run_config import CONFIG_NAME, read_detector_config, read_run_config
from crkd_core.artifacts.shards import ItemKey, TensorShards
from crkd_core.artifacts.workspace import Artifact, Workspace
from crkd_core.config.models import DetectorConfig, Modality
from crkd_core.config.schema import Config
from crkd_core.config.split_names import TRAIN
from crkd_core.data.augmentation import MIRRORINGS
from crkd_core.datasets.prepared.prepared_data import PreparedData
from crkd_core.datasets.prepared.same_data_set import require_same_data_set, require_targets_of_data_set
from crkd_core.datasets.prepared.source import split_slug
from crkd_core.distillation.losses import lacking_parts
from crkd_core.errors import ConfigError, StaleArtifactError, UsageError
from crkd_core.teacher_cache.settings import STAGE as EXTRACT_STAGE
from crkd_core.teacher_cache.settings import first_difference, input_difference, settings_problem
from crkd_core.teacher_cache.sources import FrozenTeacher, StoredTargets
from crkd_core.training.steps import TargetSource
from crkd_core.training.trained import load_trained


@dataclass(frozen=True)
class TeacherChoice:
    """Which teacher a student asks for.

    Attributes:
        source: stored targets, or the live teacher in every step.
        name: of the targets or the teacher's run; None for the latest that fits.
        split: the samples of the run.
        command: of the run, as it was given; None where there was none.
    """

    source: Literal["cache", "online"]
    name: str | None = None
    split: str = TRAIN
    command: Command | None = None


def find_teacher(choice: TeacherChoice, config: Config, workspace: Workspace) -> "TeacherInput":
    """The chosen teacher.

    Raises:
        MissingArtifactError: there are no targets, or no teacher.
        UsageError: a quirk of the configuration needs the live teacher.
    """
    needed_for = "crkd distill"
    if choice.source == "online":
        run = workspace.find("train-teacher", choice.name, needed_for=needed_for, make="crkd train-teacher")
        return LiveTeacher(run, config, workspace, choice.command)
    if "teacher_train_mode" in config.distill.released_quirks:
        raise UsageError("the quirk teacher_train_mode needs the live teacher; add --teacher online.")
    name = choice.name or _latest_fitting(config, workspace, choice.split)
    targets = workspace.find(EXTRACT_STAGE, name, needed_for=needed_for, make=f"crkd {EXTRACT_STAGE}")
    return StoredTeacher(targets, config, workspace, choice.command)


class TeacherInput(ABC):
    """A finished artifact from which the teacher's side of the losses comes.

    Attributes:
        input_role: what the student's manifest calls it.
        artifact: stored targets, or the live teacher's run.
        shards, views: the stored targets and the number of their views, the mirrored ones included; None with a live
            teacher.
        flips: whether stored views are also shown mirrored.
    """

    input_role: ClassVar[str]
    shards: TensorShards | None = None
    views: int | None = None
    flips: bool = False

    def __init__(
        self, artifact: Artifact, config: Config, workspace: Workspace, command: Command | None = None
    ) -> None:
        self.artifact = artifact
        self._config = config
        self._workspace = workspace
        self._command = command

    @property
    @abstractmethod
    def detector_config(self) -> DetectorConfig:
        """The teacher's detector, also where only its targets are at hand."""

    @abstractmethod
    def with_own(self, modalities: tuple[Modality, ...]) -> tuple[Modality, ...]:
        """The student's modalities, and those that the teacher needs of every sample."""

    @abstractmethod
    def pin(self, command: Command) -> Command:
        """The command of the run, with this teacher named in it."""

    @abstractmethod
    def source(self, device: torch.device) -> TargetSource:
        """What gives the training step its teacher targets."""

    @abstractmethod
    def check_fits(self, prepared: PreparedData, tokens: Sequence[str], split: str) -> None:
        """Refuse what does not belong to this run.

        Args:
            tokens: the samples of the run, those of `split`.

        Raises:
            StaleArtifactError: the targets or the teacher belong to other data, another grid or other loss settings, or
                lack some of the samples.
            ConfigError: stored views cannot be mirrored on this grid.
        """

    def _check_made_from(self, prepared: PreparedData, same_tables: bool = False) -> None:
        # An imported teacher was made from no prepared data of this workspace.
        made_from = self.artifact.manifest.inputs.get("prepared")
        if made_from is not None and made_from != prepared.artifact.reference() and not same_tables:
            raise StaleArtifactError(
                f"{self.artifact.label} was made from {made_from.name}, and this run uses "
                f"{prepared.artifact.label}; add --prepared {made_from.name}, or make it again with: "
                f"{self.artifact.remake_command(prepared=prepared.artifact.name)}"
            )


class LiveTeacher(TeacherInput):
    """A teacher that sees what the student sees, in every step."""

    input_role = "teacher"

    @property
    def detector_config(self) -> DetectorConfig:
        return read_detector_config(self.artifact)

    def with_own(self, modalities: tuple[Modality, ...]) -> tuple[Modality, ...]:
        return tuple(dict.fromkeys((*modalities, *self.detector_config.modalities)))

    def pin(self, command: Command) -> Command:
        return command.setting("--teacher", f"online:{self.artifact.name}")

    def source(self, device: torch.device) -> TargetSource:
        teacher = load_trained(self.artifact, device)
        quirk = "teacher_train_mode" in self._config.distill.released_quirks
        return FrozenTeacher(teacher.detector, self._config.data.grid.build(), self._config.distill, train_mode=quirk)

    def check_fits(self, prepared: PreparedData, tokens: Sequence[str], split: str) -> None:
        require_same_data_set(self.artifact, prepared)
        self._check_made_from(prepared)
        expected, trained = (
            self._config.data.grid.model_dump(mode="json"),
            self.artifact.manifest.settings["data"]["grid"],
        )
        if expected != trained:
            another = command_like(self._command, "crkd train-teacher --name NEW", self.artifact.root)
            raise StaleArtifactError(
                f"the teacher {self.artifact.label} has another BEV grid: expected "
                f"{first_difference(expected, trained)}; {_use_configuration_of(self.artifact)}, or train "
                f"another one with: {another}"
            )


class StoredTeacher(TeacherInput):
    """What a teacher said of every sample, in several views."""

    input_role = "targets"

    def __init__(
        self, artifact: Artifact, config: Config, workspace: Workspace, command: Command | None = None
    ) -> None:
        super().__init__(artifact, config, workspace, command)
        self.shards: TensorShards = TensorShards(artifact)
        self.flips = config.distill.targets.flips
        self.views = self._stored_views * (MIRRORINGS if self.flips else 1)

    @property
    def _stored_views(self) -> int:
        return int(self.artifact.manifest.facts["views"])

    @property
    def detector_config(self) -> DetectorConfig:
        return self._config.teacher

    def with_own(self, modalities: tuple[Modality, ...]) -> tuple[Modality, ...]:
        return modalities

    def pin(self, command: Command) -> Command:
        return command.setting("--targets", self.artifact.name)

    def source(self, device: torch.device) -> TargetSource:
        return StoredTargets(device)

    def check_fits(self, prepared: PreparedData, tokens: Sequence[str], split: str) -> None:
        self._check_made_from(prepared, same_tables=self._is_of_tables(prepared))
        require_targets_of_data_set(self.artifact, prepared)
        problem = settings_problem(self._config, self.artifact)
        if problem is not None:
            raise StaleArtifactError(f"{problem}; {self._remedy()}")
        self._check_covers(tokens, split)
        self._check_parts(tokens[0])
        grid = self._config.data.grid
        if self.flips and not all(lower == -upper for lower, upper in (grid.x_range_m, grid.y_range_m)):
            raise ConfigError(
                "distill.targets.flips mirrors the BEV grid about x = 0 and y = 0, so its ranges must be symmetric, "
                f"found x from {grid.x_range_m[0]} to {grid.x_range_m[1]} m and y from {grid.y_range_m[0]} to "
                f"{grid.y_range_m[1]} m; set it to false, or change data.grid"
            )

    def _is_of_tables(self, prepared: PreparedData) -> bool:
        """Whether they are of the same nuScenes tables, of which other files are at hand here.

        A live teacher needs no such thing: it sees what is prepared here.
        """
        tables = prepared.artifact.manifest.settings["tables_sha256"]
        made_from = self.artifact.manifest.inputs["prepared"]
        recorded = self.artifact.manifest.facts.get("tables_sha256")
        of_targets = [recorded] + [
            artifact.manifest.settings["tables_sha256"]
            for artifact in self._workspace.artifacts(made_from.stage)
            if artifact.reference() == made_from
        ]
        return tables in of_targets

    def _check_covers(self, tokens: Sequence[str], split: str) -> None:
        keys = {token: [ItemKey(token, view) for view in range(self._stored_views)] for token in tokens}
        absent = [token for token, views in keys.items() if any(key not in self.shards for key in views)]
        if absent:
            raise StaleArtifactError(
                f"{self.artifact.label} lacks {len(absent)} of the {len(tokens)} samples of {split}, such as "
                f"{absent[0]}; extract targets of them with: {self._extract(split)}"
            )

    def _check_parts(self, token: str) -> None:
        # A weight of 0 keeps a part out of the targets, and is none of the settings that the manifest holds.
        lacking = lacking_parts(self.shards.read(ItemKey(token)), self._config.distill)
        if lacking:
            raise StaleArtifactError(
                f"{self.artifact.label} holds no {', no '.join(lacking)}, whose weight was 0 when it was made; "
                f"{self._remedy()}"
            )

    def _own_command(self) -> Command:
        own = Command.parse(self.artifact.manifest.command) or Command(EXTRACT_STAGE)
        return own.moved(self.artifact.root)

    def _extract(self, split: str) -> str:
        own = self._own_command().setting("--split", split)
        return own.setting("--name", f"{self.artifact.name}-{split_slug(split)}").text(self.artifact.root)

    def _remedy(self) -> str:
        """What to do about stored targets of other settings."""
        made_of, root = self.artifact.manifest.inputs["teacher"], self.artifact.root
        teacher = Workspace(root).finished(made_of.stage, made_of.name)
        if teacher is not None and input_difference(read_run_config(teacher), self._config) is not None:
            return f"{_use_configuration_of(teacher)}, or another teacher"
        again = self._own_command().without("--preset", "--config", "--set").setting("--force")
        for option, value in self._command.options if self._command is not None else ():
            if option in CONFIG_OPTIONS and value is not None:
                again = again.adding(option, value)
        # The losses are the student's option, not part of its configuration.
        losses = dict.fromkeys((*self.artifact.manifest.settings["losses"], *self._config.distill.losses))
        again = again.adding("--set", f"distill.losses=[{', '.join(losses)}]")
        return f"use those settings, or make it again with: {again.text(root)}"


def _use_configuration_of(teacher: Artifact) -> str:
    return f"use the configuration of {teacher.label} (--config {quoted(teacher.file(CONFIG_NAME))})"


def _latest_fitting(config: Config, workspace: Workspace, split: str) -> str | None:
    """Where there are several targets, such as those of an ablation, the latest that serve this student.

    Those of the very split come before others, which may cover it too.
    """
    newest_last = list(workspace.newest_first(EXTRACT_STAGE))[::-1]
    fitting = [targets for targets in newest_last if settings_problem(config, targets) is None]
    of_split = [
        targets for targets in fitting if _plain(targets.manifest.settings.get("split", TRAIN)) == _plain(split)
    ]
    return (of_split or fitting)[-1].name if fitting else None


def _plain(split: str) -> str:
    return split.removeprefix("mini_")
