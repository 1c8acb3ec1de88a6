"""Processes that a command has started: which they are, and waiting for what becomes of them."""

import time
from collections.abc import Callable
from pathlib import Path

LONG_S = 120.0


def children(process: int) -> list[int]:
    """Ids of the processes that a process has started."""
    tasks = Path(f"/proc/{process}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def is_dead(process: int) -> bool:
    """Whether a process has ended, even if nobody has asked for its status yet."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until something has come true, and fail where it takes too long."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < LONG_S
        time.sleep(0.02)
