"""How many processes are worth starting on this machine."""

import os

from crkd_core.errors import UsageError
from crkd_core.progress import Progress

_PER_CORE = 2
_ALWAYS = 4
_RANKS_PER_CORE = 4


def cores() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)) or 1
    return os.cpu_count() or 1


def most_helpers() -> int:
    """Processes beyond which more of them only cost memory: some wait for the disk while others compute."""
    return max(_PER_CORE * cores(), _ALWAYS)


def helpers(asked: int, jobs: int, unit: str, progress: Progress) -> int:
    """Processes to start of those asked for, where their number changes nothing but the time; told if it is lower.

    Args:
        jobs: what there is to share out; `unit` is one of them.
    """
    usable = max(min(asked, most_helpers(), jobs), 1)
    if usable < asked:
        reason = f"{_count(cores(), 'core')} and {_count(jobs, unit)}"
        progress.message(f"using {usable} of the {asked} processes asked for: there are {reason}")
    return usable


def note_loaders(asked: int, progress: Progress) -> None:
    """Say it where fewer processes will read sensor files than were asked for."""
    if asked > most_helpers():
        progress.message(
            f"reading sensor files in {most_helpers()} of the {asked} processes asked for: there are "
            f"{_count(cores(), 'core')}"
        )


def _count(number: int, unit: str) -> str:
    return f"{number} {unit}{'' if number == 1 else 's'}"


def check_ranks(processes: int) -> None:
    """Refuse more processes than can share the machine, where their number changes what is trained.

    Raises:
        UsageError: there are too few cores.
    """
    most = max(_RANKS_PER_CORE * cores(), 2 * _ALWAYS)
    if processes > most:
        raise UsageError(
            f"--processes {processes} was asked for, and this machine has {cores()} CPU cores; use at most {most}, or "
            "--gpus N."
        )
