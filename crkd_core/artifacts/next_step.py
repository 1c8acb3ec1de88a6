"""The next command of a workspace: one that works when it is pasted, and that brings the chain forward."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from crkd_core.artifacts.advice import DataAdvice
from crkd_core.artifacts.command import CONFIG_OPTIONS, Command, command_text, first_command
from crkd_core.artifacts.find_model import latest_model
from crkd_core.artifacts.manifest import Manifest
from crkd_core.artifacts.workspace import Workspace
from crkd_core.config.split_names import VAL
from crkd_core.errors import CrkdError, DamagedArtifactError

State = Literal["finished", "unfinished", "running", "stale", "damaged"]

CHAIN: dict[str, str] = {
    "prepare": "crkd prepare --nuscenes DIR",
    "train-teacher": "crkd train-teacher",
    "extract-teacher": "crkd extract-teacher",
    "distill": "crkd distill",
    "evaluate": "crkd evaluate",
    "visualize": "crkd visualize",
}
"""The six stages in order, with the command that runs each."""

_WHY = {
    "prepare": "nothing is prepared yet",
    "train-teacher": "there is no teacher yet",
    "extract-teacher": "the teacher's targets are not extracted yet",
    "distill": "no student was taught yet",
    "evaluate": "the latest taught student is not evaluated yet",
    "visualize": "there are no pictures of the latest evaluation yet",
}
_MOST_PANELS = 4


@dataclass(frozen=True)
class ArtifactStatus:
    """One artifact, finished or not.

    Attributes:
        reason: why it is stale or damaged; empty otherwise.
        when: time of completion, or of the last change of an unfinished one, ISO 8601 in UTC.
        size_bytes: of all its files on disk.
        command: what makes it (again), or continues it.
        facts: results its stage recorded.
        inputs: role to (label, digest) of what it was (or is being) made from.
        digest: of its contents; empty where it is not finished.
        is_misplaced: a folder that was copied or renamed by hand; no command means it.
    """

    stage: str
    name: str
    state: State
    reason: str
    when: str
    size_bytes: int
    command: str
    path: Path
    facts: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, tuple[str, str]] = field(default_factory=dict)
    digest: str = ""
    is_misplaced: bool = False

    @property
    def is_usable(self) -> bool:
        """Whether a stage would take it."""
        return self.state == "finished"

    @property
    def label(self) -> str:
        """``stage/name``."""
        return f"{self.stage}/{self.name}"


def next_step(workspace: Workspace, artifacts: Sequence[ArtifactStatus]) -> tuple[str | None, str]:
    """The command and why it, or None and why none.

    Args:
        artifacts: of all stages, the oldest first.
    """
    return _Chain(workspace, artifacts).next_step()


class _Chain:
    def __init__(self, workspace: Workspace, artifacts: Sequence[ArtifactStatus]) -> None:
        self._workspace = workspace
        self._artifacts = artifacts = [artifact for artifact in artifacts if not artifact.is_misplaced]
        self._whole = {artifact.label: artifact for artifact in artifacts if artifact.state != "unfinished"}
        prepared = [artifact for artifact in artifacts if artifact.stage == "prepare" and artifact.is_usable]
        self._advice = DataAdvice([data.facts for data in prepared if "samples_per_split" in data.facts])

    def next_step(self) -> tuple[str | None, str]:
        running = [artifact for artifact in self._artifacts if artifact.state == "running"]
        if running:
            return None, f"{running[-1].label} is being made right now"
        before: ArtifactStatus | None = None
        for stage in CHAIN:
            runs = self._runs(stage, before)
            if not self._advice.teachable and stage in ("train-teacher", "extract-teacher") and not runs:
                continue
            done = [run for run in runs if run.state != "unfinished"]
            if not done:
                return self._continue(runs[-1]) if runs else self._begin(stage, before)
            if not done[-1].is_usable:
                return self._repair(done[-1])
            before = done[-1]
        return None, "all six stages are done"

    def _runs(self, stage: str, before: ArtifactStatus | None) -> list[ArtifactStatus]:
        """Runs of a stage that go on from the one before."""
        runs = [artifact for artifact in self._artifacts if artifact.stage == stage]
        if stage == "distill" and (self._advice.teachable or before is None or before.stage != "prepare"):
            return [run for run in runs if run.state == "unfinished" or _is_taught(run)]
        if stage in ("evaluate", "visualize") and before is not None:
            return [run for run in runs if _is_made_from(run, before)]
        return runs

    def _continue(self, run: ArtifactStatus) -> tuple[str, str]:
        unusable = self._unusable_input(run)
        if unusable is not None:
            return unusable
        return run.command, f"{run.label} was stopped; this continues it"

    def _repair(self, run: ArtifactStatus) -> tuple[str, str]:
        """Make something again, first of all what it is made from where that is no better."""
        return self._unusable_input(run) or (run.command, f"{run.label} is {run.state}: {run.reason}")

    def _unusable_input(self, run: ArtifactStatus) -> tuple[str, str] | None:
        for label, _ in run.inputs.values():
            made_from = self._whole.get(label)
            if made_from is None:
                stage, _, name = label.partition("/")
                command = command_text(first_command(stage, name), self._workspace.root)
                return command, f"{label}, which {run.label} is made from, is gone"
            if not made_from.is_usable:
                return self._repair(made_from)
        return None

    def _begin(self, stage: str, before: ArtifactStatus | None) -> tuple[str, str]:
        command = Command.parse(CHAIN[stage])
        if command is None or before is None:
            return self._workspace.command(CHAIN[stage]), _WHY[stage]
        command, reason = self._advice.command(stage, command, before.facts.get("split"))
        if command.name != stage:
            return command.text(self._workspace.root), reason or _WHY[command.name]
        if stage == "train-teacher" or (stage == "distill" and before.stage == "prepare"):
            command = self._with_fitting_configuration(command, before)
        if stage in ("extract-teacher", "distill"):
            unusable = self._unusable_input(before)
            if unusable is not None and stage == "extract-teacher":
                return unusable
            command = self._with_same_data(command, before)
        if stage == "distill" and before.stage == "extract-teacher":
            command = self._with_same_configuration(command, before)
        if stage == "evaluate":
            command = self._of_model(command, before)
        if stage == "visualize":
            command = self._of_evaluation(command, before)
        return command.text(self._workspace.root), reason or _WHY[stage]

    def _with_fitting_configuration(self, command: Command, prepared: ArtifactStatus) -> Command:
        """With the preset that the data were prepared for, and no more sweeps than were prepared."""
        manifest = self._manifest(prepared)
        recorded = Command.parse(manifest.command) if manifest is not None else None
        if manifest is None or recorded is None:
            return command
        # Here, because they import torch: most of what status says needs none.
        from crkd_core.artifacts.run_config import read_run_config
        from crkd_core.config.loading import load_config

        preset = recorded.get("--preset")
        try:
            model = latest_model(self._workspace)
            config = load_config(preset) if preset is not None or model is None else read_run_config(model)
        except CrkdError:
            return command
        if preset is not None:
            command = command.setting("--preset", preset)
        for modality, sweeps in (("lidar", config.data.lidar.sweeps), ("radar", config.data.radar.sweeps)):
            prepared_sweeps = manifest.settings.get(f"{modality}_sweeps", sweeps)
            if prepared_sweeps < sweeps:
                command = command.adding("--set", f"data.{modality}.sweeps={prepared_sweeps}")
        return command

    def _with_same_data(self, command: Command, before: ArtifactStatus) -> Command:
        label, _ = before.inputs.get("prepared", ("", ""))
        latest = self._last("prepare")
        if not label or latest is None or latest.label == label:
            return command
        return command.setting("--prepared", label.partition("/")[2])

    def _with_same_configuration(self, command: Command, targets: ArtifactStatus) -> Command:
        """With the configuration of the targets, where it is not the one that a student has by itself."""
        manifest, model = self._manifest(targets), None
        with suppress(DamagedArtifactError):
            model = latest_model(self._workspace)
        recorded = Command.parse(manifest.command) if manifest is not None else None
        if manifest is None or recorded is None:
            return command
        is_inherited = model is not None and manifest.follows == model.reference()
        if is_inherited and not recorded.has("--set"):
            return command
        for option, value in recorded.moved(self._workspace.root).options:
            if option in CONFIG_OPTIONS and value is not None:
                command = command.adding(option, value)
        return command if targets == self._last("extract-teacher") else command.setting("--targets", targets.name)

    def _of_model(self, command: Command, student: ArtifactStatus) -> Command:
        if student == self._last("distill"):
            return command
        is_shared = f"train-teacher/{student.name}" in self._whole
        return command.setting("--model", student.label if is_shared else student.name)

    def _of_evaluation(self, command: Command, evaluation: ArtifactStatus) -> Command:
        manifest = self._manifest(evaluation)
        recorded = Command.parse(manifest.command) if manifest is not None else None
        split = recorded.get("--split") if recorded is not None else None
        if split is not None and split != VAL:
            command = command.setting("--split", split)
        others = [run for run in self._artifacts if run.stage == "evaluate" and run.is_usable]
        same_split = [run for run in others if run.facts.get("split") == evaluation.facts.get("split")]
        return command if len(same_split) <= _MOST_PANELS else command.setting("--model", evaluation.label)

    def _manifest(self, artifact: ArtifactStatus) -> Manifest | None:
        finished = self._workspace.finished(artifact.stage, artifact.name)
        return finished.manifest if finished is not None else None

    def _last(self, stage: str) -> ArtifactStatus | None:
        """The one that the next stage takes by itself."""
        of_stage = [artifact for artifact in self._whole.values() if artifact.stage == stage]
        return of_stage[-1] if of_stage else None


def _is_taught(student: ArtifactStatus) -> bool:
    if not student.inputs:
        return bool(student.facts.get("taught", True))
    return bool({"targets", "teacher"} & student.inputs.keys())


def _is_made_from(run: ArtifactStatus, other: ArtifactStatus) -> bool:
    """Whether it is, or should be again, made from what the other is now; where that cannot be told, it should."""
    if not run.inputs and not run.is_usable:
        return True
    return any(
        digest == other.digest or (label == other.label and not run.is_usable) for label, digest in run.inputs.values()
    )
