"""Ending a process before any one of its steps in the file system, looking on between two of them; stopping a stage."""

import json
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

from crkd_core.progress import SilentProgress

_CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.link", "os.symlink"}
_KILLED = 77


def run_until(step: int, action: Callable[[], object], below: Path) -> bool:
    """Run `action` in a process that ends, as if killed, before its `step`-th change below a folder.

    Returns whether it came to its end before that.
    """

    def end(number: int) -> None:
        if number == step:
            os._exit(_KILLED)

    code = _in_child(action, below, end)
    assert code in (0, _KILLED), "the action failed"
    return code == 0


def run_watched(action: Callable[[], object], look: Callable[[], object], below: Path) -> None:
    """Run `action` in a process that calls `look` before each of its changes below a folder; both must succeed."""
    is_looking: list[bool] = []

    def watch(_: int) -> None:
        if not is_looking:
            is_looking.append(True)
            look()
            is_looking.clear()

    assert _in_child(action, below, watch) == 0, "the action or the reader failed"


def _in_child(action: Callable[[], object], below: Path, before_change: Callable[[int], None]) -> int:
    process = os.fork()
    if process:
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    try:
        _call_before_changes(below, before_change)
        action()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def _call_before_changes(below: Path, before_change: Callable[[int], None]) -> None:
    number = [0]

    def hook(event: str, details: tuple) -> None:
        is_change = event in _CHANGES
        if event == "open" and isinstance(details[2], int):
            is_change = bool(details[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        if is_change and str(details[0]).startswith(str(below)):
            number[0] += 1
            before_change(number[0])

    sys.addaudithook(hook)


def tree(root: Path) -> dict[str, object]:
    """Every path below a folder with its contents; manifests without time, command, checksum."""
    contents: dict[str, object] = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            contents[name] = path.readlink()
        elif path.is_dir():
            contents[name] = None
        elif path.name == "manifest.json" and b'"created"' in path.read_bytes():
            values = json.loads(path.read_text())
            contents[name] = {key: values[key] for key in values if key not in ("created", "command", "checksum")}
        elif path.name != ".verified.json":
            contents[name] = path.read_bytes()
    return contents


class KillingProgress(SilentProgress):
    """Stops the stage after a number of reported steps, as Ctrl-C would."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    @contextmanager
    def task(self, description, total=None, unit="", done=0):
        yield self

    def advance(self, steps=1, **fields):
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
