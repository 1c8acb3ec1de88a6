"""The command line's listeners of long work: bars on a terminal, plain lines in a file or pipe."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.progress import BarColumn, Progress, ProgressColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Task as RichTaskState
from rich.text import Text

from crkd_core.progress import SilentProgress, format_seconds

PLAIN_SHARE = 0.05
PLAIN_SHORTEST_S = 2.0
PLAIN_LONGEST_S = 30.0


def sum_families(values: Mapping[str, float]) -> dict[str, float]:
    """``a/b`` and ``a/c`` as their sum ``a``: a dozen terms, one per head task, are more than a line can show."""
    sums: dict[str, float] = {}
    for name, value in values.items():
        family = name.partition("/")[0]
        sums[family] = sums.get(family, 0.0) + value
    return sums


def _fields_text(fields: Mapping[str, object]) -> str:
    terms = {name: float(str(value)) for name, value in fields.items() if "/" in name and _is_number(value)}
    texts = {name: value for name, value in fields.items() if name not in terms}
    sums = {name: f"{value:.2f}" for name, value in sum_families(terms).items()}
    return "  ".join(f"{name} {text}" for name, text in {**sums, **texts}.items())


def _is_number(value: object) -> bool:
    try:
        float(str(value))
    except ValueError:
        return False
    return True


def _count(done: int, total: int | None, unit: str) -> str:
    last = total if total is not None else done
    words = f" {unit}{'' if last == 1 or unit.endswith('s') else 's'}" if unit else ""
    return f"{done}/{total}{words}" if total is not None else f"{done}{words}"


class QuietProgress(SilentProgress):
    """Shows warnings only."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def warning(self, text: str) -> None:
        self._stream.write(f"warning: {text}\n")
        self._stream.flush()


class _PlainTask:
    def __init__(self, owner: "PlainProgress", description: str, total: int | None, unit: str, done: int) -> None:
        self._owner = owner
        self._description, self._total, self._unit = description, total, unit
        self._first = self._done = self._shown = done
        self._started = self._shown_at = self._going_at = owner.clock()
        self._advances = 0
        self._fields: dict[str, object] = {}

    def advance(self, steps: int = 1, **fields: object) -> None:
        self._done += steps
        self._advances += 1
        self._fields.update(fields)
        waited = self._owner.clock() - self._shown_at
        share = (self._done - self._shown) / self._total if self._total else 0.0
        if waited >= PLAIN_LONGEST_S or (waited >= PLAIN_SHORTEST_S and share >= PLAIN_SHARE):
            self._show()
        if self._advances == 1:
            # Until the first steps are done, processes start and files are opened: that says nothing of the others.
            self._first, self._going_at = self._done, self._owner.clock()

    def start(self) -> None:
        continued = f", continuing after {self._done}" if self._done else ""
        size = f": {_count(self._total, None, self._unit)}" if self._total is not None else ""
        self._owner.line(f"{self._description}{size}{continued}")

    def finish(self) -> None:
        fields = f", {_fields_text(self._fields)}" if self._fields else ""
        took = format_seconds(self._owner.clock() - self._started)
        self._owner.line(f"{self._description}: done, {_count(self._done, None, self._unit)} in {took}{fields}")

    def _show(self) -> None:
        now = self._owner.clock()
        self._shown, self._shown_at = self._done, now
        elapsed = now - self._started
        parts = [_count(self._done, self._total, self._unit)]
        if self._total:
            parts[0] += f" ({self._done / self._total:.0%})"
        if self._fields:
            parts.append(_fields_text(self._fields))
        parts.append(f"{format_seconds(elapsed)} elapsed")
        if self._total and self._done > self._first:
            left = (now - self._going_at) * max(self._total - self._done, 0) / (self._done - self._first)
            parts.append(f"{format_seconds(left)} left")
        self._owner.line(f"{self._description}: {', '.join(parts)}")


class PlainProgress:
    """One line now and then, without escape codes: at the start, at the end, and in between every 5% but not more often
    than every 2 s nor less often than every 30 s.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self.clock = clock

    def line(self, text: str) -> None:
        """Write one line at once."""
        self._stream.write(text + "\n")
        self._stream.flush()

    @contextmanager
    def task(self, description: str, total: int | None = None, unit: str = "", done: int = 0) -> Iterator[_PlainTask]:
        task = _PlainTask(self, description, total, unit, done)
        task.start()
        yield task
        task.finish()

    def message(self, text: str) -> None:
        self.line(text)

    def warning(self, text: str) -> None:
        self.line(f"warning: {text}")


class _CountColumn(ProgressColumn):
    def render(self, task: RichTaskState) -> Text:
        total = int(task.total) if task.total is not None else None
        return Text(_count(int(task.completed), total, task.fields["unit"]), style="cyan")


class _LeftColumn(ProgressColumn):
    max_refresh = 0.5

    def render(self, task: RichTaskState) -> Text:
        if task.time_remaining is None or task.finished:
            return Text("")
        return Text(f"{format_seconds(task.time_remaining)} left", style="dim")


class _Bars(Progress):
    """Each task's bar with its facts on the line below, where long ones have room to wrap."""

    def get_renderables(self) -> Iterator[RenderableType]:
        rows: list[RenderableType] = []
        for task in self.tasks:
            rows.append(self.make_tasks_table([task]))
            if task.fields["facts"]:
                rows.append(Padding(Text(_fields_text(task.fields["facts"]), style="dim"), (0, 0, 0, 2)))
        yield Group(*rows)


class _RichTask:
    def __init__(self, bars: _Bars, number: TaskID) -> None:
        self._bars, self._number = bars, number
        self.facts: dict[str, object] = {}

    def advance(self, steps: int = 1, **fields: object) -> None:
        self.facts = {**self.facts, **fields}
        self._bars.update(self._number, advance=steps, facts=self.facts)


class RichProgress:
    """Bars with elapsed time, time left and facts; a finished task leaves one line."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars: _Bars | None = None

    @contextmanager
    def task(self, description: str, total: int | None = None, unit: str = "", done: int = 0) -> Iterator[_RichTask]:
        outermost = self._bars is None
        bars = self._bars if self._bars is not None else self._start()
        number = bars.add_task(description, total=total, completed=done, unit=unit, facts={})
        started = time.monotonic()
        task = _RichTask(bars, number)
        try:
            yield task
            state = next(state for state in bars.tasks if state.id == number)
            self._leave(description, _count(int(state.completed), None, unit), time.monotonic() - started, task.facts)
        finally:
            bars.remove_task(number)
            if outermost:
                bars.stop()
                self._bars = None

    def message(self, text: str) -> None:
        self._console.print(Text(text))

    def warning(self, text: str) -> None:
        self._console.print(Text(f"warning: {text}", style="yellow"))

    def _start(self) -> _Bars:
        self._bars = _Bars(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            _CountColumn(),
            TimeElapsedColumn(),
            _LeftColumn(),
            console=self._console,
            transient=True,
            expand=True,
            refresh_per_second=5,
        )
        self._bars.start()
        return self._bars

    def _leave(self, description: str, count: str, seconds: float, facts: dict[str, object]) -> None:
        line = Text.assemble(("✓ ", "green"), description, (f"  {count}  {format_seconds(seconds)}", "cyan"))
        if facts:
            line.append(f"  {_fields_text(facts)}", style="dim")
        self._console.print(line)
