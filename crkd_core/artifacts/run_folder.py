"""The folders of one run on disk, and the steps between an unfinished and a finished one.

``<name>.partial`` is under construction. Once it holds a manifest the run is finished, wherever the folder is: it is
then moved to ``<name>``, an older one to ``<name>.replaced`` and removed, and what only the unfinished run needed goes.
``request.json`` goes last. A kill in between leaves what :meth:`RunFolder.settle` completes.

Nothing is removed or replaced that does not belong to the run by its manifest or journal.
"""

import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crkd_core.artifacts.atomic import TEMPORARY_SUFFIX, explain_write_errors, write_json
from crkd_core.artifacts.journal import (
    JOURNAL_NAME,
    damaged_files,
    is_journal,
    read_journal,
    remove_journal,
    start_journal,
)
from crkd_core.artifacts.location import PARTIAL, REPLACED
from crkd_core.artifacts.locks import lock_path
from crkd_core.artifacts.manifest import (
    MANIFEST_NAME,
    REQUEST_NAME,
    owned_files,
    read_manifest,
    read_regular,
)
from crkd_core.errors import DamagedArtifactError, UsageError

VERIFIED_NAME = ".verified.json"
_EARLIER_LOCK_NAME = ".lock"
_SIDE_FILES = {MANIFEST_NAME, REQUEST_NAME, VERIFIED_NAME, _EARLIER_LOCK_NAME}
# What desktops leave in every folder that was looked at.
_CLUTTER = {".DS_Store", "Thumbs.db", "desktop.ini"}
_SET_ASIDE = re.compile(r"\.old-[0-9]+$")


def is_run_name(name: str) -> bool:
    """Whether a folder of that name in a stage's folder can be a finished run."""
    return not (name.startswith(".") or name.endswith((PARTIAL, REPLACED)) or _SET_ASIDE.search(name))


@dataclass(frozen=True)
class RunFolder:
    """Where the run `name` of `stage` is, or will be: ``final``."""

    final: Path
    stage: str
    name: str

    @property
    def label(self) -> str:
        """How messages call it: ``stage/name``."""
        return f"{self.stage}/{self.name}"

    @property
    def partial(self) -> Path:
        """Where it is made."""
        return self.final.with_name(self.name + PARTIAL)

    @property
    def replaced(self) -> Path:
        """Where an older one is while the new one replaces it."""
        return self.final.with_name(self.name + REPLACED)

    def locate(self) -> Path | None:
        """Where the finished run is now; None where there is none.

        Whoever only reads renames nothing: a finished run that has not reached its place is read where it is.
        """
        for folder in (self.final, self.partial, self.replaced, self.final):  # it may be moved between two looks
            if os.path.lexists(folder / MANIFEST_NAME) and (folder == self.final or self._owns(folder)):
                return folder
        return None

    @property
    def is_settled(self) -> bool:
        """Whether a stopped run left nothing to complete or to clear away."""
        left = (self.partial / MANIFEST_NAME, self.final / REQUEST_NAME, self.replaced, lock_path(self.partial))
        return not any(map(os.path.lexists, left))

    def settle(self) -> dict[str, Any] | None:
        """Complete what a stopped run began when it finished; its request where it did, None otherwise.

        Call it under the lock.

        Raises:
            UsageError: something in the way is not the run's.
            WriteError: the folder cannot be written.
        """
        with explain_write_errors(self.final):
            if os.path.lexists(self.partial / MANIFEST_NAME):
                self._check_real(self.partial)
                request = self._request_of_finished(self.partial)
                if not self._is_intact(self.partial):
                    if not os.path.lexists(self.partial / REQUEST_NAME):
                        raise self._in_way(self.partial, f"it has no {REQUEST_NAME} of an unfinished run")
                    (self.partial / MANIFEST_NAME).unlink()  # what is damaged is made again
                    return None
                self.put_in_place()
                return request
            if os.path.lexists(self.final / REQUEST_NAME) and self._owns(self.final):
                request = self._request_of_finished(self.final)
                self._tidy()
                return request
            if os.path.lexists(self.replaced) and not os.path.lexists(self.final):
                self._check_replaceable(self.replaced)
                os.replace(self.replaced, self.final)
            self._remove_replaced()
        return None

    def put_in_place(self) -> None:
        """Rename the finished folder to its final name, replacing an older run.

        Raises:
            UsageError: what is there is not the run's.
        """
        with explain_write_errors(self.final):
            self._check_replaceable(self.final)
            if self.final.is_dir() and any(self.final.iterdir()):
                self._remove_replaced()
                os.replace(self.final, self.replaced)
            os.replace(self.partial, self.final)
            self._tidy()

    def check_real(self) -> None:
        """Refuse a link or a file where the finished folder should be.

        Raises:
            UsageError: naming it.
        """
        self._check_real(self.final)

    def check_in_way(self) -> None:
        """Refuse whatever is not the run's where its folders are or will be.

        Raises:
            UsageError: naming it.
        """
        with explain_write_errors(self.final):
            self._check_replaceable(self.final)
            self._check_replaceable(self.replaced)
            self._check_unfinished()

    def set_aside(self) -> Path:
        """Move a finished folder whose manifest cannot be read out of the way; returns where it is now."""
        number = 1
        while os.path.lexists(aside := self.final.with_name(f"{self.name}.old-{number}")):
            number += 1
        with explain_write_errors(self.final):
            os.replace(self.final, aside)
        return aside

    def begin(self, request: dict[str, Any]) -> None:
        """An empty folder for a new run; what an earlier unfinished one left is removed."""
        with explain_write_errors(self.partial):
            self._check_unfinished()
            if self.partial.is_dir():
                self._remove_files(self.partial, set(read_journal(self.partial)), keep={REQUEST_NAME})
                (self.partial / REQUEST_NAME).unlink(missing_ok=True)
            self.partial.mkdir(parents=True, exist_ok=True)
            start_journal(self.partial)
        self.record(request)

    def record(self, request: dict[str, Any]) -> None:
        """Write down what the unfinished run is to be."""
        write_json(self.partial / REQUEST_NAME, request)

    def resume(self, irreplaceable: frozenset[str]) -> list[str]:
        """Check what an unfinished run left; damaged files are removed, so that they are made again, and returned.

        Raises:
            DamagedArtifactError: one of the `irreplaceable` files is damaged.
        """
        entries = read_journal(self.partial)
        damaged = sorted(damaged_files(self.partial, entries))
        for relative in damaged:
            if relative in irreplaceable:
                raise DamagedArtifactError(
                    f"{self.partial / relative} of the unfinished run cannot be used: its checksum is not the one it "
                    "was written with; start the run afresh with --no-resume."
                )
        with explain_write_errors(self.partial):
            for relative in damaged:
                (self.partial / relative).unlink()
            for path in list(_files_below(self.partial)):
                if path.name.endswith(TEMPORARY_SUFFIX):
                    path.unlink()
        return damaged

    def read_request(self, folder: Path) -> dict[str, Any] | None:
        """What the run in a folder was asked to make; None where nothing says so.

        Raises:
            DamagedArtifactError: the file that says so is damaged.
        """
        path = folder / REQUEST_NAME
        try:
            values: dict[str, Any] = json.loads(read_regular(path))
            if isinstance(values["fingerprint"], str):
                return values
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            pass
        raise DamagedArtifactError(
            f"{path} is damaged: expected what the unfinished {self.label} is to be; remove {folder}, "
            "or start afresh with --no-resume or --force."
        )

    def _request_of_finished(self, folder: Path) -> dict[str, Any] | None:
        with suppress(DamagedArtifactError):  # what it asked for is there
            return self.read_request(folder)
        return None

    def _is_intact(self, folder: Path) -> bool:
        try:
            manifest = read_manifest(folder)
        except DamagedArtifactError:
            return False
        if manifest is None or (manifest.stage, manifest.name) != (self.stage, self.name):
            return False
        records = {relative: [record] for relative, record in manifest.files.items()}
        is_complete = all(os.path.lexists(folder / relative) for relative in records)
        return is_complete and not list(damaged_files(folder, records))

    def _owns(self, folder: Path) -> bool:
        return folder.is_dir() and not folder.is_symlink() and self._own_files(folder) is not None

    def _own_files(self, folder: Path) -> set[str] | None:
        return owned_files(folder, self.stage, self.name)

    def _tidy(self) -> None:
        """Remove what only the unfinished run needed, the request last."""
        self._remove_replaced()
        listed = self._own_files(self.final) or set()
        for relative in sorted(set(read_journal(self.final)) - listed):
            for path in (self.final / relative, _temporary(self.final / relative)):
                path.unlink(missing_ok=True)
        remove_journal(self.final)
        (self.final / _EARLIER_LOCK_NAME).unlink(missing_ok=True)
        (self.final / REQUEST_NAME).unlink(missing_ok=True)

    def _remove_replaced(self) -> None:
        if os.path.lexists(self.replaced):
            self._check_replaceable(self.replaced)
            own = (self._own_files(self.replaced) or set()) | set(read_journal(self.replaced))
            self._remove_files(self.replaced, own, keep={MANIFEST_NAME})
            (self.replaced / MANIFEST_NAME).unlink(missing_ok=True)
            self.replaced.rmdir()

    def _check_replaceable(self, folder: Path) -> None:
        """Refuse a folder that is neither absent, empty nor a finished run with nothing else in it."""
        if not os.path.lexists(folder):
            return
        self._check_real(folder)
        own = self._own_files(folder)
        if own is None and any(folder.iterdir()):
            raise self._in_way(folder, "it has no manifest of this run")
        self._check_no_strangers(folder, (own or set()) | set(read_journal(folder)))

    def _check_unfinished(self) -> None:
        """Refuse a folder that is neither absent, empty nor an unfinished run with nothing else in it."""
        if not os.path.lexists(self.partial):
            return
        self._check_real(self.partial)
        if not os.path.lexists(self.partial / REQUEST_NAME) and self._strangers(self.partial, set()):
            raise self._in_way(self.partial, f"it has no {REQUEST_NAME} of an unfinished run")
        if self._strangers(self.partial, set()) and not (self.partial / JOURNAL_NAME).is_dir():
            raise self._in_way(self.partial, "an earlier version of crkd began it, and its files cannot be checked")
        self._check_no_strangers(self.partial, set(read_journal(self.partial)))

    def _check_real(self, folder: Path) -> None:
        if folder.is_symlink():
            raise self._in_way(folder, "it is a link")
        if not folder.is_dir():
            raise self._in_way(folder, "it is no folder")

    def _check_no_strangers(self, folder: Path, own: set[str]) -> None:
        strangers = self._strangers(folder, own)
        if strangers:
            raise UsageError(
                f"{strangers[0]} is not a file of {self.label} and would be lost: move it away, then run "
                "the same command again."
            )

    def _in_way(self, folder: Path, reason: str) -> UsageError:
        return UsageError(f"{folder} is in the way of {self.label} ({reason}): move it away, or choose another --name.")

    def _strangers(self, folder: Path, own: set[str]) -> list[Path]:
        return [path for path in _files_below(folder) if not _belongs(path.relative_to(folder), own)]

    def _remove_files(self, folder: Path, own: set[str], keep: set[str]) -> None:
        """Remove the run's own files and the folders that are empty then."""
        self._check_no_strangers(folder, own)
        # The journal goes last: until then it says whose the other files are.
        for path in sorted(_files_below(folder), key=lambda path: is_journal(path.relative_to(folder))):
            if str(path.relative_to(folder)) not in keep:
                path.unlink()
        for path in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
            path.rmdir()


def _belongs(relative: Path, own: set[str]) -> bool:
    name = relative.as_posix()
    is_side = name.removesuffix(TEMPORARY_SUFFIX) in _SIDE_FILES or relative.name in _CLUTTER
    return is_side or name in own or name.removesuffix(TEMPORARY_SUFFIX) in own or is_journal(relative)


def _temporary(path: Path) -> Path:
    return path.with_name(path.name + TEMPORARY_SUFFIX)


def _files_below(folder: Path) -> Iterator[Path]:
    """Everything below a folder that is not a folder, links to folders included, in order."""
    for parent, folders, files in os.walk(folder):
        links = [name for name in folders if (Path(parent) / name).is_symlink()]
        folders[:] = sorted(set(folders) - set(links))
        yield from (Path(parent) / name for name in sorted(files + links))
