"""Writing files so that nobody ever sees half of one: temporary name in the same folder, flush, rename."""

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from crkd_core.artifacts.journal import claim, record_written
from crkd_core.errors import WriteError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
TEMPORARY_SUFFIX = ".writing"


@contextmanager
def explain_write_errors(path: Path) -> Iterator[None]:
    """Turn an operating system error of a write to `path` into one clear sentence.

    Raises:
        WriteError: the disk is full, or the path cannot be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise WriteError(
                f"{path} could not be written: no space is left on the disk; what was there before is unchanged. "
                "Free some space and run the same command again: it continues."
            ) from error
        raise WriteError(
            f"{path} could not be written: {error.strerror or error}; check the path and its permissions."
        ) from error


@contextmanager
def atomic_path(path: Path, is_shared: bool = False) -> Iterator[Path]:
    """A temporary path to write to, which becomes `path` when the block ends without an error.

    Below the folder of an unfinished run it is entered in the run's journal.

    Args:
        is_shared: commands that run side by side may write the same file, of which the last one stays.

    Raises:
        WriteError: the disk is full, or the path cannot be written; `path` is what it was before.
    """
    writer = f".{os.getpid()}" if is_shared else ""
    temporary = path.with_name(path.name + writer + TEMPORARY_SUFFIX)
    with explain_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        claim(path)
        try:
            yield temporary
            _flush(temporary)
            record_written(temporary, path)
            os.replace(temporary, path)
            _flush(path.parent)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def write_bytes(path: Path, data: bytes) -> None:
    """Replace `path` by `data`, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Replace `path` by UTF-8 `text`, whole or not at all."""
    write_bytes(path, text.encode("utf-8"))


def keep_text(path: Path, text: str) -> None:
    """Write UTF-8 `text` to `path`, which commands that run side by side may do, unless that is what it holds."""
    with suppress(OSError, ValueError):
        if path.read_text(encoding="utf-8") == text:
            return
    with atomic_path(path, is_shared=True) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any) -> None:
    """Replace `path` by indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
