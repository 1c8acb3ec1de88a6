"""Locks that keep two processes from writing the same folder."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from crkd_core.artifacts.atomic import explain_write_errors
from crkd_core.errors import UsageError

try:
    import fcntl
except ImportError:  # not a POSIX system: no advisory locks
    fcntl = None  # type: ignore[assignment]


def lock_path(folder: Path) -> Path:
    """The file that is locked while `folder` is written: beside it, so that the folder can be renamed meanwhile."""
    return folder.with_name(f".{folder.name}.lock")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from writing a folder; the lock ends with the block, or with the process.

    Raises:
        UsageError: another process holds it, or something else stands where its file would be.
        WriteError: the file cannot be written.
    """
    path = lock_path(folder)
    if fcntl is None:
        yield
        return
    with explain_write_errors(folder):
        path.parent.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(path) and (path.is_symlink() or not path.is_file()):
            raise _in_way(path)
        descriptor = _acquire(path)
    if descriptor is None:
        raise UsageError(f"another process is writing {folder}; wait for it, or choose another --name or folder.")
    try:
        yield
    finally:
        # Removed while it is still held: whoever has it open looks again at what is there now.
        with suppress(OSError):
            path.unlink()
        os.close(descriptor)


def is_locked(folder: Path) -> bool:
    """Whether a process is writing `folder` right now."""
    if fcntl is None:
        return False
    try:
        descriptor = os.open(lock_path(folder), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def _acquire(path: Path) -> int | None:
    """A descriptor that holds the lock, None where another process does."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
        try:
            status = os.fstat(descriptor)
            if status.st_size:
                raise _in_way(path)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(status, path):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _in_way(path: Path) -> UsageError:
    return UsageError(f"{path} is in the way of a lock file of crkd, which is an empty file: move it away.")


def _is_at(status: os.stat_result, path: Path) -> bool:
    try:
        return os.path.samestat(status, path.lstat())
    except FileNotFoundError:
        return False
