"""What a workspace holds, what of it can no longer be trusted and why, and which command comes next."""

import json
import shlex
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from crkd_core.artifacts.manifest import MANIFEST_NAME, Manifest, read_manifest
from crkd_core.artifacts.workspace import Artifact, Workspace
from crkd_core.errors import ArtifactError, DamagedArtifactError
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

_PARTIAL = ".partial"
_REPLACED = ".replaced"


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
    others = [
        path.parent.parent.name for path in root.glob(f"*/*/{MANIFEST_NAME}") if path.parent.parent.name not in CHAIN
    ]
    return [*CHAIN, *sorted(set(others))]


def _stage_status(workspace: Workspace, stage: str, thorough: bool) -> list[ArtifactStatus]:
    folder = workspace.root / stage
    found = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if not path.is_dir() or path.name.startswith(".") or path.name.endswith(_REPLACED):
            continue
        if path.name.endswith(_PARTIAL):
            found.append(_unfinished(stage, path))
        elif (path / MANIFEST_NAME).exists():
            found.append(_finished(workspace, stage, path, thorough))
    return sorted(found, key=lambda status: status.when)


def _unfinished(stage: str, path: Path) -> ArtifactStatus:
    command = CHAIN.get(stage, f"crkd {stage}")
    with suppress(OSError, ValueError, KeyError, TypeError):
        command = json.loads((path / "request.json").read_text(encoding="utf-8"))["command"]
    return ArtifactStatus(
        stage=stage,
        name=path.name.removesuffix(_PARTIAL),
        state="running" if _is_locked(path / ".lock") else "unfinished",
        reason="",
        when=_changed(path),
        size_bytes=_folder_size(path),
        command=command,
        path=path,
    )


def _finished(workspace: Workspace, stage: str, path: Path, thorough: bool) -> ArtifactStatus:
    try:
        manifest = read_manifest(path)
    except DamagedArtifactError:
        manifest = None
    if manifest is None:
        return ArtifactStatus(
            stage=stage,
            name=path.name,
            state="damaged",
            reason="its manifest is not readable",
            when=_changed(path),
            size_bytes=_folder_size(path),
            command=CHAIN.get(stage, f"crkd {stage}"),
            path=path,
        )
    state, reason = _judge(workspace, Artifact(path, manifest), thorough)
    return ArtifactStatus(
        stage=stage,
        name=path.name,
        state=state,
        reason=reason,
        when=manifest.created,
        size_bytes=sum(record.size for record in manifest.files.values()),
        command=manifest.command,
        path=path,
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
            problem = str(error).partition(" is damaged (")[2].partition(");")[0] or str(error)
    if problem is not None:
        return "damaged", problem
    try:
        stale = workspace.staleness(artifact)
    except ArtifactError as error:
        stale = f"what it was made from is damaged: {error}"
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


def _is_locked(path: Path) -> bool:
    try:
        import fcntl
    except ImportError:  # not a POSIX system: no advisory locks
        return False
    try:
        with path.open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _changed(path: Path) -> str:
    newest = max((entry.stat().st_mtime for entry in [path, *path.iterdir()]), default=path.stat().st_mtime)
    return datetime.fromtimestamp(newest, timezone.utc).isoformat(timespec="seconds")


def _folder_size(path: Path) -> int:
    return sum(entry.stat().st_size for entry in path.rglob("*") if entry.is_file())
