"""An artifact to be made, and its folder while it is being written."""

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from crkd_core.artifacts.artifact import Artifact
from crkd_core.artifacts.atomic import write_text
from crkd_core.artifacts.command import Command
from crkd_core.artifacts.difference import MadeOf
from crkd_core.artifacts.journal import read_journal
from crkd_core.artifacts.manifest import MANIFEST_NAME, InputRef, Manifest, fingerprint_of, record_file
from crkd_core.artifacts.run_folder import RunFolder
from crkd_core.artifacts.unfinished import continuation
from crkd_core.errors import DamagedArtifactError
from crkd_core.progress import Progress


@dataclass(frozen=True)
class ArtifactRequest:
    """An artifact to be made: what determines its contents, and what may happen to what is there.

    Attributes:
        stage, name: where it will live.
        command: what makes it.
        settings: what of the configuration and options determines its contents (JSON values).
        inputs: artifacts it is made from, by role.
        force: make it anew whatever exists; a stopped run that was itself forced, and is to replace what stands there
            now, is continued.
        resume: continue what an earlier, stopped run of the same settings and inputs left.
        replace: a finished artifact of other settings or inputs may be replaced without `force` (for what is cheap to
            make again).
        irreplaceable: files of an unfinished run without which all of it would be lost; others that are damaged are
            removed, so that they are made again.
        misfit: of the settings of a stopped run whose inputs are these: "" where it can be continued all the same (its
            artifact then has these settings), else why not in one sentence; None: they are just others.
    """

    stage: str
    name: str
    command: Command | str
    settings: Mapping[str, Any]
    inputs: Mapping[str, InputRef] = field(default_factory=dict)
    force: bool = False
    resume: bool = True
    replace: bool = False
    irreplaceable: frozenset[str] = frozenset()
    misfit: Callable[[Mapping[str, Any]], str | None] = lambda _: None

    @property
    def made_of(self) -> MadeOf:
        """What determines its contents."""
        return MadeOf(self.settings, self.inputs)

    @property
    def fingerprint(self) -> str:
        """Equal ones make equal artifacts."""
        return fingerprint_of(self.stage, self.settings, self.inputs)


@dataclass
class ArtifactWriter:
    """An artifact under construction in a folder beside its final one.

    Attributes:
        finished: the artifact, once it is; at once where an equal one exists.
        resumed: whether an earlier, stopped run left something to continue from.
        remade: files of it that were damaged and are to be made again.
        set_aside: where a folder with a damaged manifest, which this artifact replaces, is now.
        is_being_remade: whether a stopped remake of what is finished waits to be continued.
        discarded: the command of an unfinished run that ``--force`` discards; empty where there is none.
        difference: how it differs from what it is about to replace, where that may surprise; empty otherwise.
    """

    run: RunFolder
    request: ArtifactRequest
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
        command = self.request.command
        return command.text(self._root, explicit=True) if isinstance(command, Command) else command

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
        """Record every file, write the manifest and give the folder its final name, replacing an older one at once.

        Args:
            scratch: names of files that only an unfinished run needs, or patterns of them (``part-*.parquet``); they
                are removed last, so that a run that fails before still has them.

        Raises:
            DamagedArtifactError: a file is no longer what was written.
            UsageError: something in the way is not the run's.
        """
        files = {}
        for relative, records in sorted(read_journal(self.path).items(), key=lambda entry: Path(entry[0])):
            path = self.path / relative
            is_scratch = any(fnmatchcase(path.name, pattern) for pattern in scratch)
            if is_scratch or not (records or path.exists()):
                continue
            with suppress(OSError):
                files[relative] = record_file(path)
            if relative not in files or (records and files[relative] not in records):
                raise DamagedArtifactError(
                    f"{path} changed after it was written; run the same command again: it is made again."
                )
        command = self.request.command
        manifest = Manifest(
            stage=self.run.stage,
            name=self.run.name,
            created=datetime.now(timezone.utc).isoformat(timespec="microseconds"),
            command=self.recorded_command,
            settings=dict(self.request.settings),
            inputs=dict(self.request.inputs),
            facts=facts or {},
            files=files,
            follows=command.follows if isinstance(command, Command) else None,
        ).sealed()
        write_text(self.path / MANIFEST_NAME, manifest.model_dump_json(indent=2) + "\n")
        self.run.put_in_place()
        self.finished = Artifact(self.run.final, manifest)
        return self.finished
