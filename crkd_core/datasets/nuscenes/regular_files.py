"""Pipes, devices and folders are refused before they are opened: reading a pipe would wait for ever."""

import os
import stat
from pathlib import Path

from crkd_core.errors import DatasetError

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


def refuse_special_file(path: Path, called: str) -> None:
    """Refuse what is there and is no regular file; what is missing or cannot be looked at is left to the reader.

    Args:
        called: what the file is, for the message, such as ``the table``.

    Raises:
        DatasetError: it is a folder, pipe, device or socket; links to regular files are fine.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return
    if not stat.S_ISREG(mode):
        raise DatasetError(f"{called} {path} is {kind_of_file(mode)} and not a regular file; put the real file there.")


def kind_of_file(mode: int) -> str:
    """What a file is that is not a regular one, in words, by its mode."""
    return next((name for is_kind, name in _KINDS if is_kind(mode)), "something special")
