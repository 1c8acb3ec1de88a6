"""The workspace: finding finished artifacts, and writing new ones so that nothing is lost or half-written."""

import json
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from crkd_core.artifacts.atomic import TEMPORARY_SUFFIX, explain_write_errors, write_json, write_text
from crkd_core.artifacts.command import Command
from crkd_core.artifacts.difference import MadeOf, difference, warn_of_difference
from crkd_core.artifacts.manifest import (
    MANIFEST_NAME,
    InputRef,
    Manifest,
    fingerprint_of,
    read_manifest,
    record_file,
)
from crkd_core.artifacts.remedy import own_command, remedy, staleness
from crkd_core.artifacts.unfinished import PARTIAL_SUFFIX, REQUEST_NAME, RunRequest, continuation, read_request
from crkd_core.errors import (
    DamagedArtifactError,
    MissingArtifactError,
    StaleArtifactError,
    UsageError,
    WriteError,
)

_VERIFIED_NAME = ".verified.json"
LOCK_NAME = ".lock"
_UNLISTED = {MANIFEST_NAME, REQUEST_NAME, _VERIFIED_NAME, LOCK_NAME}
_REPLACED = ".replaced"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class Artifact:
    """One finished artifact on disk."""

    path: Path
    manifest: Manifest

    @property
    def stage(self) -> str:
        return self.manifest.stage

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def label(self) -> str:
        """How messages call it: ``stage/name``."""
        return f"{self.stage}/{self.name}"

    def reference(self) -> InputRef:
        """How a manifest names this artifact as an input."""
        return InputRef(stage=self.stage, name=self.name, digest=self.manifest.digest)

    def file(self, relative: str) -> Path:
        """Path of one of its files."""
        return self.path / relative

    def damaged(self, relative: str, problem: str) -> DamagedArtifactError:
        """The error to raise when a file cannot be used."""
        return DamagedArtifactError(f"{self.path / relative} is damaged ({problem}); {self.advice()}")

    @property
    def root(self) -> Path:
        """Of its workspace."""
        return self.path.parent.parent

    def advice(self) -> str:
        """What to do about it where it is stale or damaged: the end of a message."""
        chosen = remedy(self.root, self.manifest)
        if chosen.label == self.label:
            return f"make it again with: {chosen.command}"
        return f"first make {chosen.label}, which it was made from, again with: {chosen.command}"

    def remake_command(self, **options: str | int) -> str:
        """The command that makes it again, to be pasted; `options` (``lidar_sweeps=2``) differ from those of then."""
        command = Command.parse(own_command(self.root, self.manifest))
        if command is None:
            return f"{self.manifest.command} --force"
        command = command.moved(self.root)
        for option, value in options.items():
            command = command.setting(f"--{option.replace('_', '-')}", value)
        return command.setting("--force").text(self.root)

    def verify(self, thorough: bool = False) -> None:
        """Check that every file is there with the recorded size and checksum.

        A file whose size and modification time are those of its last successful check is not read again,
        unless `thorough`.

        Raises:
            DamagedArtifactError: naming the first file that is not what the manifest says.
        """
        stamp_path = self.path / _VERIFIED_NAME
        stamps: dict[str, Any] = {}
        if stamp_path.exists() and not thorough:
            try:
                stamps = json.loads(stamp_path.read_text(encoding="utf-8"))
            except (ValueError, OSError):
                stamps = {}
        fresh: dict[str, Any] = {}
        for relative, record in self.manifest.files.items():
            try:
                status = (self.path / relative).stat()
            except OSError:
                raise self.damaged(relative, "the file is missing") from None
            if status.st_size != record.size:
                raise self.damaged(relative, f"expected {record.size} bytes, found {status.st_size}")
            fresh[relative] = [status.st_mtime_ns, status.st_size, record.sha256]
            if stamps.get(relative) != fresh[relative] and self._checksum(relative) != record.sha256:
                raise self.damaged(relative, "its checksum differs from the manifest")
        if fresh != stamps:
            # A stamp only saves time: where it cannot be written, the next check reads the files again.
            with suppress(WriteError):
                write_json(stamp_path, fresh)

    def _checksum(self, relative: str) -> str:
        try:
            return record_file(self.path / relative).sha256
        except OSError as error:
            raise self.damaged(relative, f"it cannot be read: {error.strerror or error}") from None


@dataclass
class ArtifactWriter:
    """An artifact under construction in a folder beside its final place."""

    workspace: "Workspace"
    stage: str
    name: str
    path: Path
    command: Command | str
    settings: dict[str, Any]
    inputs: dict[str, InputRef]
    resumed: bool
    finished: Artifact | None = None
    _protected: set[str] = field(default_factory=set)

    @property
    def recorded_command(self) -> str:
        """As the manifest holds it."""
        if isinstance(self.command, Command):
            return self.command.text(self.workspace.root, explicit=True)
        return self.command

    def finish(self, facts: dict[str, Any] | None = None, scratch: Collection[str] = ()) -> Artifact:
        """Record every file, write the manifest and move the folder to its place, replacing an older one at once.

        Args:
            scratch: names of files that only an unfinished run needs; they are removed last, so that a run that fails
                before still has them.
        """
        for leftover in self.path.rglob(f"*{TEMPORARY_SUFFIX}"):
            leftover.unlink()
        files = {
            str(path.relative_to(self.path)): record_file(path)
            for path in sorted(self.path.rglob("*"))
            if path.is_file() and path.name not in _UNLISTED and path.name not in scratch
        }
        manifest = Manifest(
            stage=self.stage,
            name=self.name,
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            command=self.recorded_command,
            settings=self.settings,
            inputs=self.inputs,
            facts=facts or {},
            files=files,
            follows=self.command.follows if isinstance(self.command, Command) else None,
        )
        write_text(self.path / MANIFEST_NAME, manifest.model_dump_json(indent=2) + "\n")
        final = self.workspace.folder(self.stage, self.name)
        with explain_write_errors(final):
            (self.path / REQUEST_NAME).unlink(missing_ok=True)
            (self.path / LOCK_NAME).unlink(missing_ok=True)
            replaced = final.with_name(final.name + _REPLACED)
            if final.exists():
                shutil.rmtree(replaced, ignore_errors=True)
                os.replace(final, replaced)
            os.replace(self.path, final)
            shutil.rmtree(replaced, ignore_errors=True)
            for name in scratch:
                (final / name).unlink(missing_ok=True)
        self.finished = Artifact(final, manifest)
        return self.finished


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
        if not _NAME.fullmatch(name) or name.endswith((PARTIAL_SUFFIX, _REPLACED)):
            raise UsageError(
                f"{name!r} cannot name a run: expected at most 100 letters (a-z), digits, '-', '_' and '.', the first "
                "a letter or digit."
            )
        return self.root / stage / name

    def artifacts(self, stage: str) -> list[Artifact]:
        """Finished artifacts of a stage, oldest first."""
        self._recover(stage)
        found = []
        for path in sorted((self.root / stage).glob("*")) if (self.root / stage).is_dir() else []:
            if path.is_dir() and not path.name.endswith((PARTIAL_SUFFIX, _REPLACED)):
                manifest = read_manifest(path)
                if manifest is not None:
                    found.append(Artifact(path, manifest))
        return sorted(found, key=lambda artifact: artifact.manifest.created)

    def partial_names(self, stage: str) -> list[str]:
        """Names of unfinished runs of a stage."""
        return sorted(
            p.name.removesuffix(PARTIAL_SUFFIX) for p in (self.root / stage).glob(f"*{PARTIAL_SUFFIX}") if p.is_dir()
        )

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
        artifact.verify()
        problem = self.staleness(artifact)
        if problem:
            raise StaleArtifactError(f"{artifact.label} is stale: {problem}; {artifact.advice()}")
        return artifact

    def finished(self, stage: str, name: str | None = None) -> Artifact | None:
        """The named, or the latest, finished artifact of a stage; None where there is none.

        Raises:
            DamagedArtifactError: its manifest, or for the latest any of the stage, cannot be read.
        """
        if name is None:
            return next(reversed(self.artifacts(stage)), None)
        self._recover(stage)
        path = self.root / stage / name
        manifest = read_manifest(path) if _NAME.fullmatch(name) else None
        return None if manifest is None else Artifact(path, manifest)

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

        An input that was deleted does not make it stale: what was made from it is still what it was.
        """
        return staleness(self.root, artifact.manifest)

    @contextmanager
    def write(
        self,
        stage: str,
        name: str,
        *,
        command: Command | str,
        settings: dict[str, Any],
        inputs: dict[str, InputRef] | None = None,
        force: bool = False,
        resume: bool = True,
        replace: bool = False,
        warn: Callable[[str], None] | None = None,
    ) -> Iterator[ArtifactWriter]:
        """Open an artifact for writing; :attr:`ArtifactWriter.finished` is set where an equal one exists already.

        What an earlier, killed run with the same settings and inputs left is kept (`resume`) for the stage to continue
        from. When the block ends without :meth:`ArtifactWriter.finish`, the unfinished folder stays for the next run.

        Args:
            force: make it anew whatever exists.
            replace: a finished artifact of other settings or inputs may be replaced without `force` (for what is
                cheap to make again).
            warn: is told, before anything is made, how that differs from what it replaces.

        Raises:
            StaleArtifactError: a finished or unfinished artifact of other settings is in the way.
            WriteError: the folder cannot be written.
            UsageError: another process is writing it.
        """
        inputs = inputs or {}
        self._recover(stage)
        final = self.folder(stage, name)
        fingerprint = fingerprint_of(stage, settings, inputs)
        partial = final.with_name(final.name + PARTIAL_SUFFIX)
        writer = ArtifactWriter(self, stage, name, partial, command, settings, inputs, resumed=False)
        existing = _read_replaced(final) if force else read_manifest(final)
        if existing is not None and not force:
            if existing.fingerprint == fingerprint:
                artifact = Artifact(final, existing)
                artifact.verify()
                writer.finished = artifact
                yield writer
                return
            if not replace:
                changed = difference(MadeOf(existing.settings, existing.inputs), MadeOf(settings, inputs))
                raise StaleArtifactError(
                    f"{stage}/{name} exists and was made with other settings or inputs: {changed}; choose another "
                    "--name, or replace it with --force."
                )
        with explain_write_errors(partial):
            partial.mkdir(parents=True, exist_ok=True)
        with locked(partial):
            replaced = MadeOf(existing.settings, existing.inputs) if existing else read_request(partial).made_of
            if warn is not None and replaced is not None:
                warn_of_difference(warn, f"{stage}/{name}", replaced, MadeOf(settings, inputs), force)
            writer.resumed = self._prepare_partial(writer, fingerprint, discard=force or not resume, replace=replace)
            if isinstance(command, Command):
                for path, text in command.configurations:
                    _keep(path, text)
            yield writer

    def _prepare_partial(self, writer: ArtifactWriter, fingerprint: str, discard: bool, replace: bool) -> bool:
        left = read_request(writer.path).fingerprint if (writer.path / REQUEST_NAME).exists() else None
        if left == fingerprint and not discard:
            return True
        if left is not None and not discard and not replace:
            raise StaleArtifactError(
                f"an unfinished {writer.stage}/{writer.name} with other settings or inputs is in {writer.path}; "
                "continue it with its own settings, choose another --name, or discard it with --force."
            )
        with explain_write_errors(writer.path):
            for path in writer.path.iterdir():
                if path.name != LOCK_NAME:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
        made_of = MadeOf(writer.settings, writer.inputs)
        RunRequest(fingerprint, writer.recorded_command, made_of).write(writer.path)
        return False

    def _recover(self, stage: str) -> None:
        # A kill between the two renames of `finish` leaves the old folder aside: put it back.
        for replaced in (self.root / stage).glob(f"*{_REPLACED}") if (self.root / stage).is_dir() else []:
            final = replaced.with_name(replaced.name.removesuffix(_REPLACED))
            if not final.exists():
                with explain_write_errors(final):
                    os.replace(replaced, final)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from writing a folder; the lock ends with the block, or with the process.

    Raises:
        UsageError: another process holds it.
        WriteError: the folder cannot be written.
    """
    try:
        import fcntl
    except ImportError:  # not a POSIX system: no advisory locks
        yield
        return
    with explain_write_errors(folder):
        stream = (folder / LOCK_NAME).open("w")
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"another process is writing {folder}; wait for it, or choose another --name or folder."
            ) from None
        yield


def _read_replaced(folder: Path) -> Manifest | None:
    # What is replaced may be damaged: that is why it is.
    with suppress(DamagedArtifactError):
        return read_manifest(folder)
    return None


def _keep(path: Path, text: str) -> None:
    try:
        if path.read_text(encoding="utf-8") == text:
            return
    except (OSError, ValueError):
        pass
    write_text(path, text)
