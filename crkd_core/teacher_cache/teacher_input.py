"""The teacher's side of a distillation run: finding it and checking that it belongs to the run."""

from collections.abc import Sequence
from typing import Literal

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
from crkd_core.datasets.prepared.source import split_slug
from crkd_core.errors import ConfigError, StaleArtifactError, UsageError
from crkd_core.teacher_cache.settings import STAGE as EXTRACT_STAGE
from crkd_core.teacher_cache.settings import input_difference, target_settings
from crkd_core.training.steps import FrozenTeacher, StoredTargets, TargetSource
from crkd_core.training.trained import load_trained

# Which views are stored, and how precisely, is the targets' own affair: a student replays the recorded ones.
_FREE_SETTINGS = {"losses", "views", "storage", "seed"}


class TeacherInput:
    """Where the teacher's side of the losses comes from: stored targets or the live teacher.

    Attributes:
        online: the live teacher.
        artifact: the targets, or the live teacher's run; `input_role` is what the student's manifest calls it.
        shards, views: the stored targets and the number of their views, the mirrored ones included; None with the live
            teacher.
        flips: whether stored views are also shown mirrored.
    """

    def __init__(
        self,
        source: Literal["cache", "online"],
        name: str | None,
        config: Config,
        workspace: Workspace,
        split: str = TRAIN,
        command: Command | None = None,
    ) -> None:
        self.online = source == "online"
        self._config = config
        self._workspace = workspace
        self._command = command
        self.shards: TensorShards | None = None
        self.views: int | None = None
        self.flips = False
        needed_for = "crkd distill"
        if self.online:
            self.input_role = "teacher"
            self.artifact = workspace.find("train-teacher", name, needed_for=needed_for, make="crkd train-teacher")
            return
        if "teacher_train_mode" in config.distill.released_quirks:
            raise UsageError("the quirk teacher_train_mode needs the live teacher; add --teacher online.")
        self.input_role = "targets"
        name = name or _latest_fitting(config, workspace, split)
        self.artifact = workspace.find(EXTRACT_STAGE, name, needed_for=needed_for, make=f"crkd {EXTRACT_STAGE}")
        self.shards = TensorShards(self.artifact)
        self.flips = config.distill.targets.flips
        self.views = int(self.artifact.manifest.facts["views"]) * (MIRRORINGS if self.flips else 1)

    @property
    def detector_config(self) -> DetectorConfig:
        """The teacher's detector, also where only its targets are at hand."""
        return read_detector_config(self.artifact) if self.online else self._config.teacher

    def with_own(self, modalities: tuple[Modality, ...]) -> tuple[Modality, ...]:
        """The student's modalities, and the live teacher's."""
        return tuple(dict.fromkeys((*modalities, *(self.detector_config.modalities if self.online else ()))))

    def check_fits(self, prepared: PreparedData, tokens: Sequence[str], split: str) -> None:
        """Refuse what does not belong to this run.

        Args:
            tokens: the samples of the run, those of `split`.

        Raises:
            StaleArtifactError: the targets or the teacher belong to other data, another grid or other loss settings, or
                lack some of the samples.
            ConfigError: stored views cannot be mirrored on this grid.
        """
        stored = self.artifact.manifest
        # An imported teacher was made from no prepared data of this workspace.
        made_from = stored.inputs.get("prepared")
        if made_from is not None and made_from != prepared.artifact.reference() and not self._same_tables(prepared):
            raise StaleArtifactError(
                f"{self.artifact.label} was made from {made_from.name}, and this run uses "
                f"{prepared.artifact.label}; add --prepared {made_from.name}, or make it again with: "
                f"{self.artifact.remake_command(prepared=prepared.artifact.name)}"
            )
        if self.online:
            wanted, found = self._config.data.grid.model_dump(mode="json"), stored.settings["data"]["grid"]
            if wanted != found:
                another = command_like(self._command, "crkd train-teacher --name NEW", self.artifact.root)
                raise StaleArtifactError(
                    f"the teacher {self.artifact.label} has another BEV grid: expected "
                    f"{_first_difference(wanted, found)}; {self._use_configuration_of(self.artifact)}, or train "
                    f"another one with: {another}"
                )
            return
        problem = settings_problem(self._config, self.artifact)
        if problem is not None:
            raise StaleArtifactError(f"{problem}; {self._remedy()}")
        self._check_covers(tokens, split)
        grid = self._config.data.grid
        if self.flips and not all(lower == -upper for lower, upper in (grid.x_range_m, grid.y_range_m)):
            raise ConfigError(
                "distill.targets.flips mirrors the BEV grid about x = 0 and y = 0, so its ranges must be symmetric, "
                f"found x from {grid.x_range_m[0]} to {grid.x_range_m[1]} m and y from {grid.y_range_m[0]} to "
                f"{grid.y_range_m[1]} m; set it to false, or change data.grid"
            )

    def _same_tables(self, prepared: PreparedData) -> bool:
        """Whether stored targets are of the same nuScenes tables, of which other files are at hand here.

        A live teacher needs no such thing: it sees what is prepared here.
        """
        if self.online:
            return False
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
        views = int(self.artifact.manifest.facts["views"])
        shards = self.shards
        absent = [
            token for token in tokens if any(shards is None or ItemKey(token, v) not in shards for v in range(views))
        ]
        if absent:
            raise StaleArtifactError(
                f"{self.artifact.label} lacks {len(absent)} of the {len(tokens)} samples of {split}, such as "
                f"{absent[0]}; extract targets of them with: {self._extract(split)}"
            )

    def _extract(self, split: str) -> str:
        own = Command.parse(self.artifact.manifest.command) or Command(EXTRACT_STAGE)
        own = own.moved(self.artifact.root).setting("--split", split)
        return own.setting("--name", f"{self.artifact.name}-{split_slug(split)}").text(self.artifact.root)

    def _remedy(self) -> str:
        """What to do about stored targets of other settings."""
        made_of, root = self.artifact.manifest.inputs["teacher"], self.artifact.root
        teacher = Workspace(root).finished(made_of.stage, made_of.name)
        if teacher is not None and input_difference(read_run_config(teacher), self._config) is not None:
            return f"{self._use_configuration_of(teacher)}, or another teacher"
        own = Command.parse(self.artifact.manifest.command) or Command(EXTRACT_STAGE)
        again = own.moved(root).without("--preset", "--config", "--set").setting("--force")
        for option, value in self._command.options if self._command is not None else ():
            if option in CONFIG_OPTIONS and value is not None:
                again = again.adding(option, value)
        # The losses are the student's option, not part of its configuration.
        losses = dict.fromkeys((*self.artifact.manifest.settings["losses"], *self._config.distill.losses))
        again = again.adding("--set", f"distill.losses=[{', '.join(losses)}]")
        return f"use those settings, or make it again with: {again.text(root)}"

    def _use_configuration_of(self, teacher: Artifact) -> str:
        return f"use the configuration of {teacher.label} (--config {quoted(teacher.file(CONFIG_NAME))})"

    def source(self, device: torch.device) -> TargetSource:
        """What gives the training step its teacher targets."""
        if not self.online:
            return StoredTargets(device)
        teacher = load_trained(self.artifact, device)
        quirk = "teacher_train_mode" in self._config.distill.released_quirks
        return FrozenTeacher(teacher.detector, self._config.data.grid.build(), self._config.distill, train_mode=quirk)


def settings_problem(config: Config, targets: Artifact) -> str | None:
    """Why stored targets do not serve a student of this configuration; None where they do."""
    wanted, stored = target_settings(config), targets.manifest.settings
    absent = [loss for loss in wanted["losses"] if loss not in stored["losses"]]
    if absent:
        return (
            f"{targets.label} holds nothing for the losses {', '.join(absent)} (it has {', '.join(stored['losses'])})"
        )
    for key, value in wanted.items():
        if key not in _FREE_SETTINGS and stored.get(key) != value:
            return (
                f"{targets.label} was made with other settings of {key}: expected "
                f"{_first_difference(value, stored.get(key))}"
            )
    return None


def _latest_fitting(config: Config, workspace: Workspace, split: str) -> str | None:
    """Where there are several targets, such as those of an ablation, the latest that serve this student.

    Those of the very split come before others, which may cover it too.
    """
    newest_last = list(workspace.newest_first(EXTRACT_STAGE))[::-1]
    fitting = [targets for targets in newest_last if settings_problem(config, targets) is None]
    of_split = [found for found in fitting if _plain(found.manifest.settings.get("split", TRAIN)) == _plain(split)]
    return (of_split or fitting)[-1].name if fitting else None


def _plain(split: str) -> str:
    return split.removeprefix("mini_")


def _first_difference(expected: object, found: object, path: str = "") -> str:
    if isinstance(expected, dict) and isinstance(found, dict):
        for key in sorted(expected.keys() | found.keys(), key=str):
            if expected.get(key) != found.get(key):
                return _first_difference(expected.get(key), found.get(key), f"{path}.{key}" if path else str(key))
    return f"{path + ' = ' if path else ''}{expected}, found {found}"
