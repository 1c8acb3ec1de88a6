"""What the worker processes of a stage have in common: they end quietly, with the process that started them."""

import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import parent_process
from multiprocessing.connection import wait


def start_worker() -> None:
    """Make a worker end quietly on Ctrl-C, and when the process that started it is gone."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def stop_workers(pool: ProcessPoolExecutor) -> None:
    """End the workers now instead of waiting for what they are at."""
    for worker in list((pool._processes or {}).values()):
        worker.terminate()
    pool.shutdown(wait=True, cancel_futures=True)


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
