"""Open files: loader processes need many, and systems allow some 256 or 1,024 to a process unless it asks for more."""

import errno
import os

from crkd_core.errors import UsageError

# Pipes to a loader process, its batches on the way, and what passing one on takes for a moment.
_PER_WORKER = 8
# A loader process's own sensor files and shards of targets; what the rest of a run opens now and then.
_RESERVE = 96
_TOO_MANY = (errno.EMFILE, errno.ENFILE)


def allow_open_files(workers: int, option: str) -> None:
    """Raise the number of files this process may open to what loader processes need.

    Args:
        option: how the user sets their number, for the message.

    Raises:
        UsageError: the system does not allow so many.
    """
    try:
        import resource
    except ImportError:  # not a POSIX system: no such limit
        return
    used = _open_files() + _RESERVE
    needed = used + workers * _PER_WORKER
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise UsageError(
            f"{workers} loader processes need up to {needed} open files, and this system allows {hard} (ulimit -Hn); "
            f"use {option}{max((hard - used) // _PER_WORKER, 0)}, or start it where ulimit -n is {_round_up(needed)}."
        )
    raised = _round_up(needed) if hard == resource.RLIM_INFINITY else min(_round_up(needed), hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
    except (ValueError, OSError):
        # Some systems refuse less than they say they allow; what then fails says so itself.
        return


def _round_up(number: int) -> int:
    return -(-2 * number // 1024) * 1024


def _open_files() -> int:
    try:
        return len(os.listdir("/dev/fd"))
    except OSError:
        return 64


def spare_descriptors(count: int) -> None:
    """Check that so many more files can be opened.

    Raises:
        OSError: they cannot.
    """
    opened = []
    try:
        for _ in range(count):
            opened.append(os.open(os.devnull, os.O_RDONLY))
    finally:
        for descriptor in opened:
            os.close(descriptor)


def is_about_open_files(error: BaseException) -> bool:
    """Whether a process that may open no more files was behind an error."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in _TOO_MANY:
            return True
        if any(words in str(seen) for words in ("ancdata", "Too many open files")):
            return True
        seen = seen.__cause__ or seen.__context__
    return False
