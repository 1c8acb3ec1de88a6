"""Opening the sensor files that tables name."""

import os
import stat
from pathlib import Path
from typing import BinaryIO

from crkd_core.datasets.nuscenes.regular_files import kind_of_file
from crkd_core.errors import DatasetError

# Without O_NONBLOCK, opening a pipe waits for somebody to write into it.
_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_SMALL_BYTES = 1 << 16


def open_sensor_file(path: Path, kind: str) -> BinaryIO:
    """Open an ordinary file for reading bytes; a pipe or device is refused, never waited for.

    Args:
        kind: "radar file", "LiDAR file" or "image", for messages.

    Raises:
        DatasetError: the file is missing, not an ordinary file, or cannot be opened.
    """
    return os.fdopen(_open(path, kind), "rb")


def read_small_file(path: Path | str, kind: str) -> bytes:
    """All bytes of an ordinary file of some kilobytes, of which there are a million: with as few calls as can be.

    Raises:
        DatasetError: the file is missing, not an ordinary file, or cannot be read.
    """
    descriptor = _open(path, kind)
    try:
        parts = [os.read(descriptor, _SMALL_BYTES)]
        while len(parts[-1]) == _SMALL_BYTES:
            parts.append(os.read(descriptor, _SMALL_BYTES))
    except OSError as error:
        raise _unreadable(path, kind, error) from None
    finally:
        os.close(descriptor)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def read_sensor_file(path: Path, kind: str) -> bytearray:
    """All bytes of an ordinary file.

    Raises:
        DatasetError: the file is missing, not an ordinary file, or cannot be read.
    """
    with os.fdopen(_open(path, kind), "rb", buffering=0) as stream:
        data = bytearray(os.fstat(stream.fileno()).st_size)
        try:
            del data[stream.readinto(data) :]
        except OSError as error:
            raise _unreadable(path, kind, error) from None
    return data


def _open(path: Path | str, kind: str) -> int:
    try:
        descriptor = os.open(path, _READ)
    except (FileNotFoundError, NotADirectoryError):
        raise DatasetError(
            f"the {kind} {path} is missing; unpack the archive it belongs to, or say with --nuscenes DIR "
            "where the data set is now."
        ) from None
    except OSError as error:
        raise _unreadable(path, kind, error) from None
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise DatasetError(
            f"the {kind} {path} is {kind_of_file(mode)} and not a regular file; put the real file there."
        )
    return descriptor


def _unreadable(path: Path | str, kind: str, error: OSError) -> DatasetError:
    return DatasetError(f"the {kind} {path} cannot be read: {error.strerror or error}.")
