"""Ctrl-C while processes are started."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Ctrl-C waits until the block ends, and never reaches the processes that are started in it.

    Python forgets a KeyboardInterrupt that strikes in the hooks that run around a fork: the work would go on as if
    nobody had pressed anything. And Ctrl-C goes to every process of a terminal: those started here inherit that it is
    held back, so they show no traceback, not even while they still import; who started them ends them.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "pthread_sigmask"):
        yield
        return
    pressed = []
    handler = signal.signal(signal.SIGINT, lambda *_: pressed.append(True))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, handler or signal.SIG_DFL)
    if pressed:
        signal.raise_signal(signal.SIGINT)
