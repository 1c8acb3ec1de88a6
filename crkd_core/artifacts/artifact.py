"""One artifact on disk: finished, and while it is being written."""

import json
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from crkd_core.artifacts.atomic import write_json, write_text
from crkd_core.artifacts.command import Command
from crkd_core.artifacts.journal import read_journal
from crkd_core.artifacts.manifest import MANIFEST_NAME, InputRef, Manifest, read_regular, record_file
from crkd_core.artifacts.remedy import own_command, remedy
from crkd_core.artifacts.run_folder import VERIFIED_NAME, RunFolder
from crkd_core.artifacts.unfinished import continuation
from crkd_core.errors import DamagedArtifactError, WriteError
from crkd_core.progress import Progress


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
        return DamagedArtifactError(
            f"{self.path / relative} is damaged ({problem}); {self.advice()}",
            problem=problem,
            command=self.manifest.command,
        )

    @property
    def root(self) -> Path:
        """Of its workspace."""
        return self.path.parent.parent

    def advice(self) -> str:
        """What to do about it where it is stale or damaged: the end of a message."""
        chosen = remedy(self.root, self.manifest)
        if chosen.label == self.label:
            return f"make it again with: {chosen.command}"
        known = f" ({chosen.unknown})" if chosen.unknown else ""
        return f"first make {chosen.label}, which it was made from, again{known} with: {chosen.command}"

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
        stamp_path = self.path / VERIFIED_NAME
        stamps: Any = None
        if not thorough:
            with suppress(ValueError, OSError, RecursionError):
                stamps = json.loads(read_regular(stamp_path))
        stamps = stamps if isinstance(stamps, dict) else {}
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
    """An artifact under construction in a folder beside its final place.

    Attributes:
        resumed: whether an earlier, stopped run left something to continue from.
        remade: files of it that were damaged and are to be made again.
        set_aside: where a folder with a damaged manifest, which this artifact replaces, is now.
        is_being_remade: whether a stopped remake of what is finished waits to be continued.
        discarded: the command of an unfinished run that ``--force`` discards; empty where there is none.
        difference: how it differs from what it is about to replace, where that may surprise; empty otherwise.
    """

    run: RunFolder
    command: Command | str
    settings: dict[str, Any]
    inputs: dict[str, InputRef]
    resumed: bool = False
    finished: Artifact | None = None
    remade: tuple[str, ...] = ()
    set_aside: Path | None = None
    is_being_remade: bool = False
    difference: str = ""
    discarded: str = ""

    @property
    def _root(self) -> Path:
        return self.run.final.parent.parent

    @property
    def recorded_command(self) -> str:
        """As the manifest holds it."""
        if isinstance(self.command, Command):
            return self.command.text(self._root, explicit=True)
        return self.command

    @property
    def path(self) -> Path:
        """Where its files are written."""
        return self.run.partial

    def warn(self, progress: Progress) -> None:
        """Say what of an earlier run could not be used, and how what is to be made differs from what it replaces."""
        if self.discarded:
            progress.warning(f"the unfinished run in {self.path} ({self.discarded}) is discarded")
        if self.difference:
            progress.warning(f"{self.run.label} is replaced by one with other settings or inputs: {self.difference}")
        for relative in self.remade:
            progress.warning(f"{relative} of the unfinished {self.run.label} is damaged and is made again")
        if self.is_being_remade:
            progress.warning(
                f"a stopped remake of {self.run.label} is in {self.path}; continue it with: "
                f"{continuation(self._root, self.run.stage, self.run.name)}"
            )
        if self.set_aside is not None:
            progress.warning(f"the manifest of {self.run.final} was damaged; what was there is now at {self.set_aside}")

    def finish(self, facts: dict[str, Any] | None = None, scratch: Collection[str] = ()) -> Artifact:
        """Record every file, write the manifest and move the folder to its place, replacing an older one at once.

        Args:
            scratch: names of files that only an unfinished run needs; they are removed last, so that a run that fails
                before still has them.

        Raises:
            DamagedArtifactError: a file is no longer what was written.
            UsageError: something in the way is not the run's.
        """
        files = {}
        for relative, records in sorted(read_journal(self.path).items(), key=lambda entry: Path(entry[0])):
            path = self.path / relative
            if path.name in scratch or not (records or path.exists()):
                continue
            with suppress(OSError):
                files[relative] = record_file(path)
            if relative not in files or (records and files[relative] not in records):
                raise DamagedArtifactError(
                    f"{path} changed after it was written; run the same command again: it is made again."
                )
        manifest = Manifest(
            stage=self.run.stage,
            name=self.run.name,
            created=datetime.now(timezone.utc).isoformat(timespec="microseconds"),
            command=self.recorded_command,
            settings=self.settings,
            inputs=self.inputs,
            facts=facts or {},
            files=files,
            follows=self.command.follows if isinstance(self.command, Command) else None,
        ).sealed()
        write_text(self.path / MANIFEST_NAME, manifest.model_dump_json(indent=2) + "\n")
        self.run.put_in_place()
        self.finished = Artifact(self.run.final, manifest)
        return self.finished
