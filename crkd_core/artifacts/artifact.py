"""One finished artifact on disk."""

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crkd_core.artifacts.atomic import write_json
from crkd_core.artifacts.command import Command
from crkd_core.artifacts.manifest import InputRef, Manifest, read_regular, record_file
from crkd_core.artifacts.remedy import own_command, remedy
from crkd_core.artifacts.run_folder import VERIFIED_NAME
from crkd_core.errors import DamagedArtifactError, WriteError


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
