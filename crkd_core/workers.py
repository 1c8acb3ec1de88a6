"""Worker processes of a stage: they end quietly, at once, and with the process that started them."""

import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

from crkd_core.errors import CrkdError
from crkd_core.interrupts import interrupts_held
from crkd_core.processes import end_with_parent


class Workers:
    """Spawned processes that work side by side."""

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self._pool = pool

    def submit(self, function: Callable[..., Any], jobs: Iterable[tuple]) -> list[Future]:
        """Have `function` called with the arguments of every job."""
        with interrupts_held():
            return [self._pool.submit(_work, function, *job) for job in jobs]


@contextmanager
def workers(processes: int, prepare: Callable[..., None] | None = None, *arguments: Any) -> Iterator[Workers]:
    """Processes for the length of the block; whatever ends the block early ends them at once.

    Args:
        prepare: called with `arguments` in every process before its first job.

    Raises:
        CrkdError: a process was killed.
    """
    context = get_context("spawn")
    with ProcessPoolExecutor(processes, context, initializer=_start, initargs=(prepare, arguments)) as pool:
        try:
            yield Workers(pool)
        except BrokenProcessPool:
            raise CrkdError(
                "a worker process was ended from outside (out of memory?); run the same command again with fewer "
                "--processes: it continues from the last finished scene."
            ) from None
        except BaseException:
            for worker in list((pool._processes or {}).values()):
                worker.terminate()
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _work(function: Callable[..., Any], *job: Any) -> Any:
    try:
        return function(*job)
    except SystemExit:  # The pool would take it for a result and hand out the next job.
        os._exit(1)


def _start(prepare: Callable[..., None] | None, arguments: tuple) -> None:
    # A process told to end removes what it is writing, as it does after any error.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    end_with_parent()
    if prepare is not None:
        prepare(*arguments)
