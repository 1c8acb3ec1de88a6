"""Processes of one run: which of a launched run this one is, and that none outlives the one that started it."""

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.connection import wait

from crkd_core.errors import UsageError

LAUNCH_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
_POLL_S = 0.5
_LARGEST_PORT = 65535


@dataclass(frozen=True)
class LaunchedRank:
    """One of the processes that a launcher (torchrun, or ``crkd --processes``) started for one run.

    Attributes:
        rank: its number, 0 to `size` - 1; `local_rank`: its number on this machine, None where the launcher gives none.
        address: host and port where the processes meet.
    """

    rank: int
    size: int
    local_rank: int | None
    address: str


def launched_rank() -> LaunchedRank | None:
    """This process among those of a launched run; None where no launcher started it.

    Raises:
        UsageError: the launcher's variables are incomplete, or no launcher could have set them so.
    """
    values = {name: os.environ[name].strip() for name in LAUNCH_VARIABLES if os.environ.get(name, "").strip()}
    if "RANK" not in values and values.get("WORLD_SIZE", "1") == "1":
        return None  # an address alone is what clusters set for everybody
    missing = [name for name in LAUNCH_VARIABLES if name not in values and name != "LOCAL_RANK"]
    if missing:
        raise _left_over(values, f"without {', '.join(missing)}")
    rank, size = _whole(values, "RANK"), _whole(values, "WORLD_SIZE")
    if size < 1:
        raise _left_over(values, "expected a WORLD_SIZE of at least 1")
    if not 0 <= rank < size:
        raise _left_over(values, f"expected RANK from 0 to WORLD_SIZE - 1 = {size - 1}")
    if not 0 < _whole(values, "MASTER_PORT") <= _LARGEST_PORT:
        raise _left_over(values, f"expected MASTER_PORT from 1 to {_LARGEST_PORT}")
    local_rank = _whole(values, "LOCAL_RANK") if "LOCAL_RANK" in values else None
    if local_rank is not None and not 0 <= local_rank < size:
        raise _left_over(values, f"expected LOCAL_RANK from 0 to WORLD_SIZE - 1 = {size - 1}")
    return LaunchedRank(rank, size, local_rank, f"{values['MASTER_ADDR']}:{values['MASTER_PORT']}")


def _whole(values: dict[str, str], name: str) -> int:
    try:
        return int(values[name])
    except ValueError:
        raise _left_over(values, f"expected {name} to be a whole number") from None


def _left_over(values: dict[str, str], problem: str) -> UsageError:
    shown = ", ".join(f"{name}={value}" for name, value in values.items() if name != "MASTER_ADDR")
    return UsageError(
        f"the environment of a launched process is set ({shown}), {problem}; use torchrun or --processes, or forget "
        f"what is left over: {how_to_unset()}"
    )


def how_to_unset() -> str:
    """The command that makes a shell forget an earlier launch."""
    return f"unset {' '.join(LAUNCH_VARIABLES)}"


def end_with_parent(parent: int | None = None) -> None:
    """From now on, end this process at once when the one that started it has ended, however that ended.

    Args:
        parent: id of the process that started this one, where this process was told; it may have ended already.
    """
    started_by = parent_process()
    if started_by is not None:
        sentinel = started_by.sentinel
        _end_after(lambda: wait([sentinel]))
        return
    expected = os.getppid() if parent is None else parent

    def gone() -> None:
        while os.getppid() == expected:
            time.sleep(_POLL_S)

    _end_after(gone)


def _end_after(waiting: Callable[[], object]) -> None:
    def end() -> None:
        waiting()
        # Nothing is lost by that: every file is written under another name first.
        os._exit(1)

    threading.Thread(target=end, daemon=True).start()
