"""What a run has written so far: names, sizes and checksums of its files, for whoever continues or finishes it.

The folder of an unfinished run holds a journal folder. Whatever is written atomically below it is entered there before
it gets its name, by every process into a file of its own. So a file without an entry is not the run's, and one that
differs from its entries was damaged.
"""

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from crkd_core.artifacts.manifest import MANIFEST_NAME, REQUEST_NAME, FileRecord, read_regular, record_file

JOURNAL_NAME = ".written"
_SUFFIX = ".jsonl"
# Files of a run lie at most this deep: logs/tensorboard/FILE.
_DEEPEST = 4
_own: dict[int, str] = {}


def start_journal(folder: Path) -> None:
    """Begin to keep a journal of what is written below `folder`."""
    (folder / JOURNAL_NAME).mkdir(exist_ok=True)


def claim(path: Path) -> None:
    """Enter the name of a file that is about to be written: it is the run's own, whatever becomes of it."""
    folder = _folder_of(path)
    if folder is not None:
        _enter(folder, path, {})


def record_written(temporary: Path, path: Path) -> None:
    """Enter what is about to be renamed from `temporary` to `path`."""
    folder = _folder_of(path)
    if folder is not None:
        _enter(folder, path, record_file(temporary).model_dump())


def read_journal(folder: Path) -> dict[str, list[FileRecord]]:
    """Every file that was entered, relative to `folder`, with what it may hold; [] where that was not recorded."""
    entries: dict[str, list[FileRecord]] = {}
    for path in sorted((folder / JOURNAL_NAME).glob(f"*{_SUFFIX}")):
        for line in read_regular(path).decode("utf-8", errors="replace").splitlines():
            # A line that a kill or a full disk cut is of a file that never got its name.
            with suppress(ValueError, KeyError, TypeError, ValidationError):
                values = json.loads(line)
                records = entries.setdefault(str(values.pop("file")), [])
                if values:
                    records.append(FileRecord.model_validate(values))
    return entries


def remove_journal(folder: Path) -> None:
    """End the journal."""
    journal = folder / JOURNAL_NAME
    for path in journal.glob(f"*{_SUFFIX}"):
        path.unlink()
    with suppress(OSError):
        journal.rmdir()


def is_journal(relative: Path) -> bool:
    """Whether a file, relative to a run's folder, is of its journal."""
    return len(relative.parts) == 2 and relative.parts[0] == JOURNAL_NAME and relative.suffix == _SUFFIX


def damaged_files(folder: Path, entries: dict[str, list[FileRecord]]) -> Iterator[str]:
    """The entered files below `folder` that are there and not what was entered."""
    for relative, records in entries.items():
        path = folder / relative
        if records and os.path.lexists(path):
            try:
                is_whole = path.stat().st_size in {record.size for record in records} and record_file(path) in records
            except OSError:
                is_whole = False
            if not is_whole:
                yield relative


def _folder_of(path: Path) -> Path | None:
    """The folder above `path` that keeps a journal."""
    if path.name in (MANIFEST_NAME, REQUEST_NAME):
        return None
    return next((folder for folder in list(path.parents)[:_DEEPEST] if (folder / JOURNAL_NAME).is_dir()), None)


def _enter(folder: Path, path: Path, values: dict[str, Any]) -> None:
    process = os.getpid()
    if process not in _own:  # a forked process must not write into its parent's file
        _own[process] = secrets.token_hex(8)
    line = json.dumps({"file": path.relative_to(folder).as_posix(), **values}) + "\n"
    with (folder / JOURNAL_NAME / f"{_own[process]}{_SUFFIX}").open("ab") as stream:
        stream.write(line.encode())
        stream.flush()
        if values:  # a checksum must not be lost where its file is not
            os.fsync(stream.fileno())
