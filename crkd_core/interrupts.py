"""Ctrl-C, and being told to end, while processes are started."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_HELD = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Ctrl-C and SIGTERM wait until the block ends, and Ctrl-C never reaches the processes that are started in it.

    Python forgets a KeyboardInterrupt that strikes in the hooks that run around a fork: the work would go on as if
    nobody had pressed anything. And Ctrl-C goes to every process of a terminal: those started here inherit that it is
    held back, so they show no traceback, not even while they still import; who started them ends them.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "pthread_sigmask"):
        yield
        return
    arrived: list[int] = []
    handlers = {
        number: signal.signal(number, lambda came, _: arrived.append(came))
        for number in _HELD
        if number == signal.SIGINT or callable(signal.getsignal(number))
    }
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in handlers.items():
            signal.signal(number, handler or signal.SIG_DFL)
    if arrived:
        signal.raise_signal(arrived[0])
