"""How long work reports what it is doing, without knowing who listens.

Library and notebook users get :class:`TqdmProgress`; the command line brings its own (rich bars or plain lines);
tests and workers use :class:`SilentProgress`.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, runtime_checkable


@runtime_checkable
class Task(Protocol):
    """One piece of work that is under way."""

    def advance(self, steps: int = 1, **fields: object) -> None:
        """Report `steps` more units done; `fields` are short facts to show beside the bar (``loss="1.23"``)."""


@runtime_checkable
class Progress(Protocol):
    """Where stages report to."""

    def task(
        self, description: str, total: int | None = None, unit: str = "", done: int = 0
    ) -> AbstractContextManager[Task]:
        """Open a task of `total` units (None: unknown), of which `done` were finished by an earlier run."""

    def message(self, text: str) -> None:
        """Say one line that stays (a fact, a decision, a path)."""

    def warning(self, text: str) -> None:
        """Say one line that stays and that the user should not miss."""


def format_size(size: int | float) -> str:
    """Bytes with a decimal unit: ``1.2 GB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def format_count(number: int, one: str, several: str = "") -> str:
    """``1 epoch``, ``2 epochs``; `several` is the plural where that is not just an s (``boxes have``)."""
    return f"{number} {one if number == 1 else several or one + 's'}"


_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def in_words(number: int) -> str:
    """``ten``; above twelve in figures."""
    return _WORDS[number] if number < len(_WORDS) else str(number)


def format_seconds(seconds: int | float) -> str:
    """``1:02:03`` or ``2:03``."""
    minutes, second = divmod(int(seconds + 0.5), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


class _SilentTask:
    def advance(self, steps: int = 1, **fields: object) -> None:
        pass


class SilentProgress:
    """Reports to nobody."""

    @contextmanager
    def task(self, description: str, total: int | None = None, unit: str = "", done: int = 0) -> Iterator[Task]:
        yield _SilentTask()

    def message(self, text: str) -> None:
        pass

    def warning(self, text: str) -> None:
        pass


class _TqdmTask:
    def __init__(self, bar) -> None:
        self._bar = bar

    def advance(self, steps: int = 1, **fields: object) -> None:
        if fields:
            self._bar.set_postfix(fields, refresh=False)
        self._bar.update(steps)


class TqdmProgress:
    """Reports through tqdm bars, for library and notebook users."""

    @contextmanager
    def task(self, description: str, total: int | None = None, unit: str = "", done: int = 0) -> Iterator[Task]:
        from tqdm.auto import tqdm

        with tqdm(total=total, desc=description, unit=f" {unit}" if unit else "it", initial=done) as bar:
            yield _TqdmTask(bar)

    def message(self, text: str) -> None:
        from tqdm.auto import tqdm

        tqdm.write(text)

    def warning(self, text: str) -> None:
        self.message(f"warning: {text}")
