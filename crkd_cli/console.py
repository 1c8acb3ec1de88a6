"""What people see: results on stdout; progress, notes and errors on stderr, with colour only on a terminal."""

import os
import sys
from collections.abc import Iterable, Sequence
from typing import TextIO

from rich import box
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from crkd_cli.progress import PlainProgress, QuietProgress, RichProgress
from crkd_core.progress import Progress, SilentProgress

_PLAIN_WIDTH = 80


def is_terminal(stream: TextIO) -> bool:
    """Whether a stream is a screen that understands escape codes."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def stdout() -> Console:
    """The console of results."""
    return _console(sys.stdout)


def stderr() -> Console:
    """The console of everything else."""
    return _console(sys.stderr)


def _console(stream: TextIO) -> Console:
    if is_terminal(stream):
        return Console(file=stream, highlight=False)
    return Console(
        file=stream, force_terminal=False, no_color=True, highlight=False, width=_PLAIN_WIDTH, soft_wrap=False
    )


def choose_progress(silent: bool = False, quiet: bool = False) -> Progress:
    """Bars on a terminal, plain lines elsewhere; warnings only if `quiet`, nothing if `silent`."""
    if silent:
        return SilentProgress()
    if quiet:
        return QuietProgress(sys.stderr)
    if is_terminal(sys.stderr):
        return RichProgress(stderr())
    return PlainProgress(sys.stderr)


def show_error(message: str) -> None:
    """One panel; one line where there is no terminal."""
    _panel(message, "Error")


def show_bug(error: Exception, command_line: str, hint: bool) -> None:
    """An exception nobody meant to raise."""
    text = str(error).strip().splitlines()
    lines = [
        f"This is a bug in crkd, not in what you did: {type(error).__name__}{': ' + text[0] if text else ''}",
        f"Command: {command_line}",
        "Please report it, with the output of the same command and --debug." if hint else "Please report it.",
    ]
    _panel("\n".join(lines), "Bug")


def show_note(message: str) -> None:
    """One line on stderr."""
    if is_terminal(sys.stderr):
        stderr().print(Text(message, style="yellow"))
    else:
        sys.stderr.write(message + "\n")
        sys.stderr.flush()


def show_step(text: str) -> None:
    """A heading on stderr, one line that is never cut."""
    if is_terminal(sys.stderr):
        stderr().print(Text(text, style="bold"), soft_wrap=True)
    else:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


def _panel(message: str, title: str) -> None:
    if is_terminal(sys.stderr):
        stderr().print(Panel(Text(message), title=title, title_align="left", border_style="red"))
    else:
        sys.stderr.write(f"{title.lower()}: {message}\n")
        sys.stderr.flush()


def print_lines(*lines: str) -> None:
    """Results that must stay as they are: paths, YAML, JSON."""
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


def print_facts(facts: Iterable[tuple[str, object]]) -> None:
    """Name and value pairs, aligned; values are never cut."""
    pairs = [(name, str(value)) for name, value in facts]
    width = max((len(name) for name, _ in pairs), default=0)
    print_lines(*(f"{name:<{width}}  {value}" for name, value in pairs))


def make_table(columns: Sequence[str], numbers_from: int | None = None, wrap_last_only: bool = False) -> Table:
    """An empty table; the columns from `numbers_from` on are aligned to the right and never wrapped."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for index, name in enumerate(columns):
        number = numbers_from is not None and index >= numbers_from
        whole = number or (wrap_last_only and index < len(columns) - 1)
        table.add_column(name, justify="right" if number else "left", overflow="fold", no_wrap=whole)
    return table


def print_table(table: Table) -> None:
    """A table on stdout; no blanks at the ends of lines where scripts may read it."""
    if is_terminal(sys.stdout):
        stdout().print(table)
        return
    console = stdout()
    with console.capture() as captured:
        console.print(table)
    print_lines(*"\n".join(line.rstrip() for line in captured.get().splitlines()).strip("\n").splitlines(), "")
