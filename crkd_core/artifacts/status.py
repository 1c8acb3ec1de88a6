"""Status of a workspace: its artifacts, what of them can no longer be trusted and why, and the next command."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from crkd_core.artifacts.artifact import Artifact
from crkd_core.artifacts.command import command_text, first_command
from crkd_core.artifacts.location import PARTIAL, run_name
from crkd_core.artifacts.locks import is_locked
from crkd_core.artifacts.manifest import MANIFEST_NAME, REQUEST_NAME
from crkd_core.artifacts.next_step import CHAIN, ArtifactStatus, State, next_step
from crkd_core.artifacts.prepared_format import format_problem
from crkd_core.artifacts.remedy import wrong_size
from crkd_core.artifacts.run_folder import is_run_name
from crkd_core.artifacts.unfinished import continuation, read_request
from crkd_core.artifacts.workspace import Workspace
from crkd_core.errors import DamagedArtifactError, MisplacedArtifactError, UsageError


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
    """The status of every artifact of a workspace; nothing is changed.

    Args:
        thorough: read every file and compare its checksum, instead of existence and size only.
    """
    artifacts = tuple(
        status for stage in _stages(workspace.root) for status in _stage_status(workspace, stage, thorough)
    )
    command, reason = next_step(workspace, artifacts)
    return WorkspaceStatus(workspace.root, artifacts, command, reason)


def _stages(root: Path) -> list[str]:
    # Stages outside the chain (an ablation, imported weights) come last, if they keep artifacts at all.
    runs = [*root.glob(f"*/*/{MANIFEST_NAME}"), *root.glob(f"*/*{PARTIAL}/{REQUEST_NAME}")]
    return [*CHAIN, *sorted({path.parent.parent.name for path in runs} - CHAIN.keys())]


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
            entries.append(_unfinished(workspace.root, stage, path))
    return sorted(entries, key=lambda status: status.when)


def _unfinished(root: Path, stage: str, path: Path) -> ArtifactStatus:
    name, request = run_name(path.name), read_request(path)
    inputs = request.made_of.inputs if request.made_of is not None else {}
    return ArtifactStatus(
        stage=stage,
        name=name,
        state="running" if is_locked(path) else "unfinished",
        reason="",
        when=_changed(path),
        size_bytes=_folder_size(path),
        command=continuation(root, stage, name),
        path=path,
        inputs={role: (f"{ref.stage}/{ref.name}", ref.digest) for role, ref in inputs.items()},
    )


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
            command=command_text(command or first_command(stage, name), workspace.root, force=True),
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
        command=command_text(manifest.command, workspace.root) if state == "finished" else artifact.remake_command(),
        path=artifact.path,
        facts=manifest.facts,
        inputs={role: (f"{ref.stage}/{ref.name}", ref.digest) for role, ref in manifest.inputs.items()},
        digest=manifest.digest,
    )


def _judge(workspace: Workspace, artifact: Artifact, thorough: bool) -> tuple[State, str]:
    problem = wrong_size(artifact.path, artifact.manifest)
    if problem is None and thorough:
        try:
            artifact.verify(thorough=True)
        except DamagedArtifactError as error:
            problem = error.problem or str(error)
    if problem is not None:
        return "damaged", problem
    older = format_problem(artifact.manifest) if artifact.stage == "prepare" else None
    stale = f"it was {older}" if older else workspace.staleness(artifact)
    return ("stale", stale) if stale else ("finished", "")


def _changed(path: Path) -> str:
    newest = max(_each(path, lambda entry: entry.lstat().st_mtime), default=0.0)
    return datetime.fromtimestamp(newest, timezone.utc).isoformat(timespec="microseconds")


def _folder_size(path: Path) -> int:
    return int(sum(_each(path, lambda entry: 0 if entry.is_dir() else entry.lstat().st_size)))


def _each(folder: Path, measure: Callable[[Path], float]) -> Iterator[float]:
    """A measure of a folder and everything below it; what a running command removes meanwhile is left out."""
    with suppress(OSError):
        for path in [folder, *folder.rglob("*")]:
            with suppress(OSError):
                yield measure(path)
