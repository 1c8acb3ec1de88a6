"""What a workspace holds, what of it can no longer be trusted and why, and which command comes next."""

import json
import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from crkd_core.artifacts.command import command_text
from crkd_core.artifacts.manifest import MANIFEST_NAME, read_manifest
from crkd_core.artifacts.remedy import first_command, wrong_size
from crkd_core.artifacts.unfinished import PARTIAL_SUFFIX, continuation, read_request
from crkd_core.artifacts.workspace import Artifact, Workspace
from crkd_core.errors import ArtifactError, DamagedArtifactError
from crkd_core.stages.next_step import CHAIN, ArtifactStatus, State, next_step

_REPLACED = ".replaced"


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
    command, reason = next_step(workspace, artifacts)
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
        if path.name.endswith(PARTIAL_SUFFIX):
            found.append(_unfinished(workspace.root, stage, path))
        elif (path / MANIFEST_NAME).exists():
            found.append(_finished(workspace, stage, path, thorough))
    return sorted(found, key=lambda status: status.when)


def _unfinished(root: Path, stage: str, path: Path) -> ArtifactStatus:
    name = path.name.removesuffix(PARTIAL_SUFFIX)
    request = read_request(path)
    inputs = request.made_of.inputs if request.made_of is not None else {}
    return ArtifactStatus(
        stage=stage,
        name=name,
        state="running" if _is_locked(path / ".lock") else "unfinished",
        reason="",
        when=_changed(path),
        size_bytes=_folder_size(path),
        command=continuation(root, stage, name),
        path=path,
        inputs={role: (f"{ref.stage}/{ref.name}", ref.digest) for role, ref in inputs.items()},
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
            command=command_text(
                _command_of_damaged(path) or first_command(stage, path.name), workspace.root, force=True
            ),
            path=path,
        )
    artifact = Artifact(path, manifest)
    state, reason = _judge(workspace, artifact, thorough)
    return ArtifactStatus(
        stage=stage,
        name=path.name,
        state=state,
        reason=reason,
        when=manifest.created,
        size_bytes=sum(record.size for record in manifest.files.values()),
        command=command_text(manifest.command, workspace.root) if state == "finished" else artifact.remake_command(),
        path=path,
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
            problem = str(error).partition(" is damaged (")[2].partition(");")[0] or str(error)
    if problem is not None:
        return "damaged", problem
    try:
        stale = workspace.staleness(artifact)
    except ArtifactError as error:
        stale = f"what it was made from is damaged: {error}"
    return ("stale", stale) if stale else ("finished", "")


def _command_of_damaged(folder: Path) -> str | None:
    """The command in a manifest that cannot be read as a whole."""
    with suppress(OSError, ValueError):
        text = (folder / MANIFEST_NAME).read_text(encoding="utf-8", errors="replace")
        recorded = re.search(r'^\s*"command": ("(?:[^"\\]|\\.)*")', text, re.MULTILINE)
        if recorded is not None:
            return str(json.loads(recorded.group(1)))
    return None


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
