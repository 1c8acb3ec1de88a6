"""What a workspace holds, what of it can no longer be trusted and why, and which command comes next."""

import json
import shlex
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from crkd_core.artifacts.locks import is_locked
from crkd_core.artifacts.manifest import MANIFEST_NAME, REQUEST_NAME, Manifest, read_regular
from crkd_core.artifacts.run_folder import PARTIAL, is_run_name, run_name
from crkd_core.artifacts.workspace import Artifact, Workspace
from crkd_core.errors import DamagedArtifactError, MisplacedArtifactError, UsageError
from crkd_core.stages.advice import DataAdvice

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


@dataclass(frozen=True)
class ArtifactStatus:
    """One artifact, finished or not.

    Attributes:
        reason: why it is stale or damaged; empty otherwise.
        when: time of completion, or of the last change of an unfinished one, ISO 8601 in UTC.
        size_bytes: of all its files on disk.
        command: what makes it (again), or continues it.
        facts: results its stage recorded.
        inputs: role to (label, digest) of what it was made from.
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
    def label(self) -> str:
        """``stage/name``."""
        return f"{self.stage}/{self.name}"


@dataclass(frozen=True)
class WorkspaceStatus:
    """Everything in a workspace, in the order of the stages, the oldest first; and what to do now.

    Attributes:
        next_command: None where the chain is complete, or where something is running.
        next_reason: why that command, or why none.
    """

    root: Path
    artifacts: tuple[ArtifactStatus, ...]
    next_command: str | None
    next_reason: str

    def of_stage(self, stage: str) -> tuple[ArtifactStatus, ...]:
        """The artifacts of one stage."""
        return tuple(artifact for artifact in self.artifacts if artifact.stage == stage)


def workspace_status(workspace: Workspace, thorough: bool = False) -> WorkspaceStatus:
    """Look at every artifact of a workspace without changing anything.

    Args:
        thorough: read every file and compare its checksum, instead of existence and size only.
    """
    artifacts = tuple(
        status for stage in _stages(workspace.root) for status in _stage_status(workspace, stage, thorough)
    )
    command, reason = _next_step(artifacts)
    return WorkspaceStatus(workspace.root, artifacts, command, reason)


def _stages(root: Path) -> list[str]:
    # Stages outside the chain (an ablation, imported weights) come last, if they keep artifacts at all.
    found = [*root.glob(f"*/*/{MANIFEST_NAME}"), *root.glob(f"*/*{PARTIAL}/{REQUEST_NAME}")]
    return [*CHAIN, *sorted({path.parent.parent.name for path in found} - CHAIN.keys())]


def _stage_status(workspace: Workspace, stage: str, thorough: bool) -> list[ArtifactStatus]:
    folder, entries = workspace.root / stage, []
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    finished = {run_name(name) for name in names if (folder / name / MANIFEST_NAME).exists()}
    for name in sorted(filter(is_run_name, finished)):
        status = _finished(workspace, stage, name, thorough)
        if status is not None:
            entries.append(status)
    for name in names:
        path = folder / name
        # One that has a manifest is finished, and only not in its place yet.
        is_moving = (path / MANIFEST_NAME).exists() and not (folder / run_name(name)).exists()
        if name.endswith(PARTIAL) and path.is_dir() and not is_moving:
            entries.append(_unfinished(stage, path))
    return sorted(entries, key=lambda status: status.when)


def _unfinished(stage: str, path: Path) -> ArtifactStatus:
    return ArtifactStatus(
        stage=stage,
        name=run_name(path.name),
        state="running" if is_locked(path) else "unfinished",
        reason="",
        when=_changed(path),
        size_bytes=_folder_size(path),
        command=_recorded_command(path) or CHAIN.get(stage, f"crkd {stage}"),
        path=path,
    )


def _recorded_command(partial: Path) -> str | None:
    """The command that continues an unfinished run."""
    try:
        request = json.loads(read_regular(partial / REQUEST_NAME))
        command, is_forced = request["command"], request.get("forced", False)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    if not isinstance(command, str):
        return None
    return f"{command} --force" if is_forced and "--force" not in command.split() else command


def _finished(workspace: Workspace, stage: str, name: str, thorough: bool) -> ArtifactStatus | None:
    path = workspace.root / stage / name
    try:
        artifact = workspace.get(stage, name)
    except (DamagedArtifactError, UsageError) as error:
        command = error.command if isinstance(error, DamagedArtifactError) else None
        return ArtifactStatus(
            stage=stage,
            name=name,
            state="damaged",
            reason=(error.problem if isinstance(error, DamagedArtifactError) else "") or str(error),
            when=_changed(path),
            size_bytes=_folder_size(path),
            command=command or CHAIN.get(stage, f"crkd {stage}"),
            path=path,
            is_misplaced=isinstance(error, (MisplacedArtifactError, UsageError)),
        )
    if artifact is None:  # removed since the folder was listed
        return None
    manifest = artifact.manifest
    state, reason = _judge(workspace, artifact, thorough)
    return ArtifactStatus(
        stage=stage,
        name=name,
        state=state,
        reason=reason,
        when=manifest.created,
        size_bytes=sum(record.size for record in manifest.files.values()),
        command=manifest.command,
        path=artifact.path,
        facts=manifest.facts,
        inputs={role: (f"{ref.stage}/{ref.name}", ref.digest) for role, ref in manifest.inputs.items()},
        digest=manifest.digest,
    )


def _judge(workspace: Workspace, artifact: Artifact, thorough: bool) -> tuple[State, str]:
    problem = _first_wrong_size(artifact.path, artifact.manifest)
    if problem is None and thorough:
        try:
            artifact.verify(thorough=True)
        except DamagedArtifactError as error:
            problem = error.problem or str(error)
    if problem is not None:
        return "damaged", problem
    stale = workspace.staleness(artifact)
    return ("stale", stale) if stale else ("finished", "")


def _first_wrong_size(folder: Path, manifest: Manifest) -> str | None:
    for relative, record in manifest.files.items():
        try:
            size = (folder / relative).stat().st_size
        except OSError:
            return f"{relative} is missing"
        if size != record.size:
            return f"{relative} has {size} bytes instead of {record.size}"
    return None


def _next_step(artifacts: tuple[ArtifactStatus, ...]) -> tuple[str | None, str]:
    artifacts = tuple(artifact for artifact in artifacts if not artifact.is_misplaced)
    running = [artifact for artifact in artifacts if artifact.state == "running"]
    if running:
        return None, f"{running[-1].label} is being made right now"
    before: ArtifactStatus | None = None
    prepared = [found for found in artifacts if found.stage == "prepare" and found.state == "finished"]
    advice = DataAdvice([found.facts for found in prepared if "samples_per_split" in found.facts])
    for stage, command in CHAIN.items():
        runs = [artifact for artifact in artifacts if artifact.stage == stage]
        if not advice.teachable and stage in ("train-teacher", "extract-teacher") and not runs:
            continue
        if stage == "distill" and (advice.teachable or before is None or before.stage != "prepare"):
            runs = [run for run in runs if run.state == "unfinished" or _is_taught(run)]
        if stage in ("evaluate", "visualize") and before is not None:
            runs = [run for run in runs if run.state != "finished" or _was_made_from(run, before)]
        done = [run for run in runs if run.state != "unfinished"]
        if not done:
            waiting = [run for run in runs if run.state == "unfinished"]
            if waiting:
                return waiting[-1].command, f"{waiting[-1].label} was stopped; this continues it"
            if stage == "evaluate" and before is not None and before != _last(artifacts, "distill"):
                command += f" --model {before.name}"
            if stage == "visualize" and before is not None and not _is_usual(before):
                command += f" --split {shlex.quote(before.facts['split'])}"
            trained_on = before.facts.get("split") if before is not None else None
            command, reason = advice.command(stage, command, trained_on)
            return command, reason or _WHY[stage]
        if done[-1].state != "finished":
            return f"{done[-1].command} --force", f"{done[-1].label} is {done[-1].state}: {done[-1].reason}"
        before = done[-1]
    return None, "all six stages are done"


_WHY = {
    "prepare": "nothing is prepared yet",
    "train-teacher": "there is no teacher yet",
    "extract-teacher": "the teacher's targets are not extracted yet",
    "distill": "no student was taught yet",
    "evaluate": "the latest taught student is not evaluated yet",
    "visualize": "there are no pictures of the latest evaluation yet",
}


def _is_usual(evaluation: ArtifactStatus) -> bool:
    return evaluation.facts.get("split", "val") in ("val", "mini_val")


def _last(artifacts: tuple[ArtifactStatus, ...], stage: str) -> ArtifactStatus | None:
    """The one that the next stage takes by itself."""
    finished = [artifact for artifact in artifacts if artifact.stage == stage and artifact.state != "unfinished"]
    return finished[-1] if finished else None


def _is_taught(student: ArtifactStatus) -> bool:
    if not student.inputs:
        return student.facts.get("taught", True)
    return bool({"targets", "teacher"} & student.inputs.keys())


def _was_made_from(artifact: ArtifactStatus, other: ArtifactStatus) -> bool:
    return any(digest == other.digest for _, digest in artifact.inputs.values())


def _changed(path: Path) -> str:
    newest = max(_each(path, lambda entry: entry.lstat().st_mtime), default=0.0)
    return datetime.fromtimestamp(newest, timezone.utc).isoformat(timespec="seconds")


def _folder_size(path: Path) -> int:
    return int(sum(_each(path, lambda entry: 0 if entry.is_dir() else entry.lstat().st_size)))


def _each(folder: Path, measure: Callable[[Path], float]) -> Iterator[float]:
    """A measure of a folder and everything below it; what a running command removes meanwhile is left out."""
    with suppress(OSError):
        for path in [folder, *folder.rglob("*")]:
            with suppress(OSError):
                yield measure(path)
