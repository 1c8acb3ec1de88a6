"""The workspace: finding finished artifacts, and writing new ones so that nothing is lost or half-written."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from crkd_core.artifacts.artifact import Artifact
from crkd_core.artifacts.atomic import keep_text
from crkd_core.artifacts.command import Command, command_text
from crkd_core.artifacts.difference import MadeOf, difference, surprising_difference
from crkd_core.artifacts.location import PARTIAL, run_name
from crkd_core.artifacts.locks import is_locked, locked
from crkd_core.artifacts.manifest import MANIFEST_NAME, Manifest, owned_files, read_manifest
from crkd_core.artifacts.remedy import staleness
from crkd_core.artifacts.run_folder import RunFolder, is_run_name
from crkd_core.artifacts.unfinished import continuation, read_request
from crkd_core.artifacts.writer import ArtifactRequest, ArtifactWriter
from crkd_core.errors import (
    CrkdError,
    DamagedArtifactError,
    MisplacedArtifactError,
    MissingArtifactError,
    StaleArtifactError,
    UsageError,
)

__all__ = ["Artifact", "Workspace"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,119}")
# Evaluations are named after a model and a split, so they need longer names than a user may give to a run.
_LONGEST_GIVEN_NAME = 100


class Workspace:
    """One folder of artifacts: ``<root>/<stage>/<name>/``.

    A folder with a manifest is finished; ``<name>.partial`` beside it is under construction and never read by
    another stage.
    """

    def __init__(self, root: Path) -> None:
        in_the_way = next((path for path in (root, *root.parents) if os.path.lexists(path)), None)
        if in_the_way is not None and not in_the_way.is_dir():
            raise UsageError(
                f"the workspace {root} cannot be used: {in_the_way} is not a folder; choose another --workspace."
            )
        self.root = root

    def folder(self, stage: str, name: str) -> Path:
        """Where an artifact lives (or will live).

        Raises:
            UsageError: the name would not do as a folder's name and as a word of a command.
        """
        if not _is_name(name):
            raise _bad_name(name)
        return self.root / stage / name

    def names(self, stage: str) -> list[str]:
        """Names of the finished artifacts of a stage, damaged ones included."""
        folder = self.root / stage
        there = {
            run_name(path.name)
            for path in (folder.iterdir() if folder.is_dir() else ())
            if os.path.lexists(path / MANIFEST_NAME) and _is_name(run_name(path.name))
        }
        return sorted(there)

    def get(self, stage: str, name: str) -> Artifact | None:
        """One finished artifact, not verified; None where there is none.

        Raises:
            DamagedArtifactError: its manifest is damaged, or that of another artifact.
        """
        run = self._run(stage, name)
        for _ in range(2):  # a run that is finishing may be moved between the two looks
            folder = run.locate()
            manifest = read_manifest(folder) if folder is not None else None
            if folder is not None and manifest is not None:
                if (manifest.stage, manifest.name) != (stage, name):
                    label = f"{manifest.stage}/{manifest.name}"
                    raise MisplacedArtifactError(
                        f"{folder} is not {run.label}: its manifest is that of {label}, so it was copied or renamed "
                        f"by hand; give it its name back, or make {run.label} with a command of its own.",
                        problem=f"its manifest is that of {label}: it was copied or renamed by hand",
                    )
                return Artifact(folder, manifest)
        return None

    def artifacts(self, stage: str) -> list[Artifact]:
        """Finished artifacts of a stage, oldest first; damaged ones are left out."""
        return [entry for _, entry in self._survey(stage) if isinstance(entry, Artifact)]

    def damaged(self, stage: str) -> list[DamagedArtifactError]:
        """What is wrong with those that :meth:`artifacts` leaves out."""
        return [entry for _, entry in self._survey(stage) if isinstance(entry, DamagedArtifactError)]

    def newest_first(self, stage: str) -> Iterator[Artifact]:
        """Finished artifacts of a stage, for whoever wants the latest that will do.

        Raises:
            DamagedArtifactError: when a damaged one's turn has come: what it was cannot be known.
        """
        for _, entry in reversed(self._survey(stage)):
            if isinstance(entry, DamagedArtifactError):
                raise entry
            yield entry

    def _survey(self, stage: str) -> list[tuple[str, Artifact | DamagedArtifactError]]:
        """Time of completion and artifact, or what is wrong with it, oldest first."""
        entries: list[tuple[str, Artifact | DamagedArtifactError]] = []
        for name in self.names(stage):
            try:
                artifact = self.get(stage, name)
            except MisplacedArtifactError as error:
                entries.append(("", error))  # a copy made by hand is the last thing that anybody means
            except DamagedArtifactError as error:
                entries.append((self._last_change(stage, name), error))
            else:
                if artifact is not None:
                    entries.append((artifact.manifest.created, artifact))
        return sorted(entries, key=lambda entry: entry[0])

    def _last_change(self, stage: str, name: str) -> str:
        try:
            seconds = (self.root / stage / name / MANIFEST_NAME).lstat().st_mtime
        except OSError:
            seconds = 0.0
        return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="microseconds")

    def partial_names(self, stage: str) -> list[str]:
        """Names of unfinished runs of a stage."""
        return sorted(p.name.removesuffix(PARTIAL) for p in (self.root / stage).glob(f"*{PARTIAL}") if p.is_dir())

    def find(self, stage: str, name: str | None = None, *, needed_for: str, make: str) -> Artifact:
        """The named, or the latest, finished artifact of a stage, verified and not stale.

        Args:
            needed_for: what needs it, for the message.
            make: the command that makes it, for the message.

        Raises:
            MissingArtifactError: there is none.
            DamagedArtifactError: a file is not what the manifest says.
            StaleArtifactError: an artifact it was made from has been remade since.
        """
        artifact = self.finished(stage, name)
        if artifact is None:
            raise self._missing(stage, name, needed_for, make)
        artifact = self._settled(artifact)
        artifact.verify()
        problem = self.staleness(artifact)
        if problem:
            raise StaleArtifactError(f"{artifact.label} is stale: {problem}; {artifact.advice()}")
        return artifact

    def finished(self, stage: str, name: str | None = None) -> Artifact | None:
        """The named, or the latest, finished artifact of a stage, not verified; None where there is none.

        Raises:
            DamagedArtifactError: its manifest cannot be read, or is that of another artifact.
        """
        if name is None:
            return next(self.newest_first(stage), None)
        return self.get(stage, name) if _is_name(name) else None

    def _missing(self, stage: str, name: str | None, needed_for: str, make: str) -> MissingArtifactError:
        there = ", ".join(artifact.label for artifact in self.artifacts(stage))
        expected = f"{stage}/{name}" if name else f"a finished {stage} run"
        unfinished = [partial for partial in self.partial_names(stage) if name in (None, partial)]
        if unfinished:
            return MissingArtifactError(
                f"{needed_for} needs {expected}, and {stage}/{unfinished[-1]} is unfinished; continue it with: "
                f"{continuation(self.root, stage, unfinished[-1])}"
            )
        return MissingArtifactError(
            f"{needed_for} needs {expected}, and {self.root} has {f'only {there}' if there else 'none'}; "
            f"make it with: {self.command(make, name=name)}"
        )

    def command(self, text: str, **options: str | int | None) -> str:
        """A command to be pasted that works in this workspace; options that are None are left as they are."""
        command = Command.parse(text)
        if command is None:
            return text
        for option, value in options.items():
            if value is not None:
                command = command.setting(f"--{option.replace('_', '-')}", value)
        return command.text(self.root)

    def staleness(self, artifact: Artifact) -> str | None:
        """Why an artifact no longer matches what it was made from; None where it does.

        An input that was deleted or damaged does not make it stale: what was made from it is still what it was.
        """
        return staleness(self.root, artifact.manifest)

    @contextmanager
    def write(self, request: ArtifactRequest) -> Iterator[ArtifactWriter]:
        """Open an artifact for writing; :attr:`ArtifactWriter.finished` is set where an equal one exists already.

        What an earlier, killed run with the same settings and inputs left is kept (unless the request says otherwise)
        for the stage to continue from. When the block ends without :meth:`ArtifactWriter.finish`, the unfinished folder
        stays for the next run.

        Raises:
            StaleArtifactError: a finished or unfinished artifact of other settings is in the way.
            DamagedArtifactError: the manifest of what is there, or an irreplaceable file, is damaged.
            WriteError: the folder cannot be written.
            UsageError: another process is writing it, or something in the way is not the run's.
        """
        run = self._run(request.stage, request.name)
        if not request.replace and len(request.name) > _LONGEST_GIVEN_NAME:
            raise _bad_name(request.name)
        writer = ArtifactWriter(run, request)
        completed = self._settle(run)
        writer.finished = None if request.force else self._equal(writer)
        if writer.finished is not None:
            writer.is_being_remade = run.name in self.partial_names(run.stage) and not is_locked(run.partial)
            yield writer
            return
        with locked(run.partial):
            self._open(writer, run.settle() or completed)
            yield writer

    def _open(self, writer: ArtifactWriter, completed: dict[str, Any] | None) -> None:
        """Take what is finished, continue what is unfinished, or begin anew; call it under the lock.

        Args:
            completed: the request of a run that had ended but for its last steps, which were just made up for.
        """
        request, run = writer.request, writer.run
        existing = self._existing(writer)
        is_completed = completed is not None and completed.get("forced") and _is_equal(completed, request)
        if existing is not None and existing.fingerprint == request.fingerprint and (is_completed or not request.force):
            writer.finished = Artifact(run.final, existing)
            writer.finished.verify()
            return
        replaces = existing.digest if existing is not None else None
        left = self._left(run, discard_damaged=request.force) if request.resume else None
        continues = left is not None and _continues(left, request, replaces)
        if existing is not None and not (request.force or request.replace):
            raise self._refused(existing, writer, unfinished=continues)
        run.check_in_way()
        if left is not None and not continues:
            if not (request.force or request.replace):
                misfit = _misfit(left, request)
                if misfit:
                    raise StaleArtifactError(
                        f"{run.label} cannot be continued so: {misfit}; or discard it with --force."
                    )
                raise StaleArtifactError(
                    f"an unfinished {run.label} with other settings or inputs is in {run.partial}; "
                    "continue it with its own settings, choose another --name, or discard it with --force."
                )
            if request.force:
                writer.discarded = command_text(str(left.get("command", "")), self.root) or "of an earlier version"
        replaced = MadeOf(existing.settings, existing.inputs) if existing else read_request(run.partial).made_of
        if replaced is not None:
            writer.difference = surprising_difference(replaced, request.made_of, request.force)
        if continues:
            writer.resumed, writer.remade = True, tuple(run.resume(request.irreplaceable))
            if not _is_equal(left or {}, request):
                run.record(_recorded(writer, replaces))
        else:
            run.begin(_recorded(writer, replaces))
        for path, text in request.command.configurations if isinstance(request.command, Command) else ():
            keep_text(path, text)

    def _run(self, stage: str, name: str) -> RunFolder:
        return RunFolder(self.folder(stage, name), stage, name)

    def _settle(self, run: RunFolder) -> dict[str, Any] | None:
        """Complete what a stopped run began, where nobody else writes it and the workspace may be written."""
        if run.is_settled or is_locked(run.partial):
            return None
        with suppress(CrkdError), locked(run.partial):
            return run.settle()
        return None

    def _settled(self, artifact: Artifact) -> Artifact:
        self._settle(self._run(artifact.stage, artifact.name))
        return self.get(artifact.stage, artifact.name) or artifact

    def _equal(self, writer: ArtifactWriter) -> Artifact | None:
        """What exists and need not be made, verified."""
        artifact = self.get(writer.run.stage, writer.run.name)
        if artifact is None or artifact.manifest.fingerprint != writer.request.fingerprint:
            return None
        artifact.verify()
        return artifact

    def _left(self, run: RunFolder, discard_damaged: bool) -> dict[str, Any] | None:
        """What an unfinished run was asked to make."""
        try:
            return run.read_request(run.partial)
        except DamagedArtifactError:
            if not discard_damaged:
                raise
            return None

    def _existing(self, writer: ArtifactWriter) -> Manifest | None:
        """The manifest of what is there; with `force`, a folder whose manifest cannot be read is set aside."""
        run = writer.run
        try:
            artifact = self.get(run.stage, run.name)
            return artifact.manifest if artifact is not None else None
        except DamagedArtifactError:
            if not writer.request.force:
                raise
        run.check_real()
        if owned_files(run.final, run.stage, run.name) is None:
            writer.set_aside = run.set_aside()
        return None

    def _refused(self, existing: Manifest, writer: ArtifactWriter, unfinished: bool) -> StaleArtifactError:
        changed = difference(MadeOf(existing.settings, existing.inputs), writer.request.made_of)
        label = f"{writer.run.label} exists and was made with other settings or inputs: {changed}"
        if unfinished:
            return StaleArtifactError(
                f"{label}; its remake with yours is unfinished: continue it with --force, or choose another --name."
            )
        return StaleArtifactError(f"{label}; choose another --name, or replace it with --force.")


def _recorded(writer: ArtifactWriter, replaces: str | None) -> dict[str, Any]:
    """A request as JSON values; `replaces` is the digest of what it is to replace."""
    request = writer.request
    return {
        "fingerprint": request.fingerprint,
        "command": writer.recorded_command,
        "settings": request.settings,
        "inputs": {role: ref.model_dump() for role, ref in request.inputs.items()},
        "forced": request.force,
        "replaces": replaces,
    }


def _continues(left: dict[str, Any], request: ArtifactRequest, replaces: str | None) -> bool:
    """Whether a command continues the run that an earlier one began.

    One with --force continues only what was begun with --force too, and what was to replace the same as it: anything
    else is made anew, as it says.
    """
    if not _is_equal(left, request) and _misfit(left, request) != "":
        return False
    return not request.force or bool(left.get("forced") and left.get("replaces") == replaces)


def _is_equal(recorded: dict[str, Any], request: ArtifactRequest) -> bool:
    return bool(recorded["fingerprint"] == request.fingerprint)


def _misfit(recorded: dict[str, Any], request: ArtifactRequest) -> str | None:
    """Why a stopped run of other settings cannot be continued, see :attr:`ArtifactRequest.misfit`."""
    inputs = {role: ref.model_dump() for role, ref in request.inputs.items()}
    settings = recorded.get("settings")
    return request.misfit(settings) if isinstance(settings, dict) and recorded.get("inputs") == inputs else None


def _is_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None and is_run_name(name)


def _bad_name(name: str) -> UsageError:
    return UsageError(
        f"{name!r} cannot name a run: expected at most 100 letters (a-z), digits, '-', '_' and '.', the first "
        "a letter or digit."
    )
