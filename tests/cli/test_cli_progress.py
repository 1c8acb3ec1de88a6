"""Progress on a terminal and in a file."""

import io
import re

import pytest
from rich.console import Console

from crkd_cli import console
from crkd_cli.progress import PlainProgress, RichProgress
from crkd_core.progress import format_seconds, format_size


class Clock:
    """Time that passes when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


def test_plain_lines_hold_counts_facts_and_times(stream):
    clock = Clock()
    with PlainProgress(stream, clock).task("training", total=100, unit="steps", done=20) as task:
        clock.now = 10.0
        task.advance(20, loss="1.25")
    lines = stream.getvalue().splitlines()
    assert lines[0] == "training: 100 steps, continuing after 20"
    assert lines[1] == "training: 40/100 steps (40%), loss 1.25, 0:10 elapsed, 0:30 left"
    assert lines[2] == "training: done, 40 steps in 0:10, loss 1.25"


def test_time_left_does_not_count_the_start_of_the_workers(stream):
    clock = Clock()
    with PlainProgress(stream, clock).task("radar", total=1000) as task:
        clock.now = 25.0  # processes start
        task.advance(1)
        for _ in range(100):
            clock.now += 0.1
            task.advance(1)
    line = stream.getvalue().splitlines()[1]
    assert line == "radar: 50/1000 (5%), 0:30 elapsed, 1:35 left"


def test_plain_lines_come_neither_too_often_nor_too_seldom(stream):
    clock = Clock()
    with PlainProgress(stream, clock).task("training", total=10_000) as task:
        for _ in range(80):  # quick steps: a line every 2 s at most
            clock.now += 0.125
            task.advance(100)
        quick = len(stream.getvalue().splitlines()) - 1
        for _ in range(10):  # slow steps: one every 30 s
            clock.now += 30.0
            task.advance(1)
        slow = len(stream.getvalue().splitlines()) - 1 - quick
    assert quick == 5
    assert slow == 10


def test_plain_lines_without_a_total(stream):
    clock = Clock()
    with PlainProgress(stream, clock).task("reading", unit="files") as task:
        clock.now = 40.0
        task.advance(3)
    assert stream.getvalue().splitlines()[1] == "reading: 3 files, 0:40 elapsed"


def test_a_failed_task_is_not_called_done(stream):
    with pytest.raises(ValueError), PlainProgress(stream).task("reading", total=2):
        raise ValueError
    assert "done" not in stream.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_rich_bars_survive_nesting_messages_and_odd_text(stream, terminal):
    progress = RichProgress(Console(file=stream, force_terminal=terminal, width=80))
    with progress.task("outer [bold", total=2, unit="runs") as outer:
        with progress.task("inner", total=3) as inner:
            inner.advance(3, loss="[/red]")
        progress.message("kept [x]")
        progress.warning("look")
        outer.advance(2)
    with progress.task("later", total=1) as later:
        later.advance()
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", stream.getvalue())
    for expected in ("outer [bold", "inner  3", "loss [/red]", "kept [x]", "warning: look", "2 runs", "later  1"):
        assert expected in text


def test_a_stopped_bar_leaves_the_terminal_usable(stream):
    progress = RichProgress(Console(file=stream, force_terminal=True, width=80))
    with pytest.raises(KeyboardInterrupt), progress.task("outer", total=2):
        raise KeyboardInterrupt
    assert stream.getvalue().count("\x1b[?25l") == stream.getvalue().count("\x1b[?25h") > 0


def test_no_escape_codes_without_a_terminal(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    progress = console.choose_progress()
    with progress.task("training", total=2) as task:
        task.advance(2, loss="1")
    progress.warning("look")
    console.show_error("wrong")
    console.show_note("note")
    console.show_step("step")
    table = console.make_table(["a", "b"])
    table.add_row("1", "[red]2")
    console.print_table(table)
    captured = capsys.readouterr()
    assert "\x1b" not in captured.out + captured.err
    assert "training: done" in captured.err
    assert "training" not in captured.out


def test_quiet_keeps_warnings(capsys):
    progress = console.choose_progress(quiet=True)
    progress.message("fact")
    with progress.task("training"):
        pass
    progress.warning("look")
    assert capsys.readouterr().err == "warning: look\n"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0:00"), (59.6, "1:00"), (3599.4, "59:59"), (3723, "1:02:03"), (90000, "25:00:00")]
)
def test_format_seconds(seconds, text):
    assert format_seconds(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1234, "1.2 kB"), (250_000, "250 kB"), (3.2e9, "3.2 GB"), (4e12, "4.0 TB")],
)
def test_format_size(size, text):
    assert format_size(size) == text


def test_terms_of_one_family_are_shown_as_their_sum(stream):
    with PlainProgress(stream).task("training", unit="step") as task:
        task.advance(2, **{"epoch": "1/8", "heatmap/car": "1.25", "heatmap/bus": "2.50", "odd/name": "x", "total": "9"})
    assert "done, 2 steps in 0:00, heatmap 3.75  epoch 1/8  odd/name x  total 9" in stream.getvalue()
