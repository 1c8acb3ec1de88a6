"""Commands in what was printed, taken apart as a shell would when they are pasted."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

_COMMANDS = (
    "prepare|train-teacher|extract-teacher|distill|evaluate|visualize|status|compare|ablate|import-weights|"
    "export-weights|demo|simulate"
)
# A word, or quoted text; a command ends where the sentence goes on.
_WORD = r"(?:'[^']*'|\"[^\"]*\"|[^\s'\"();])+"
_COMMAND = re.compile(rf"crkd (?:{_COMMANDS})(?: {_WORD})*")
# Words that follow a command without belonging to it.
_PROSE = re.compile(r" (?:and|or|which|needs|with|on|to|for|is)\b.*$")


def printed_commands(text: str) -> list[str]:
    """Commands that a message tells to run: behind a colon, in its order."""
    commands = []
    for line in text.splitlines():
        for match in _COMMAND.finditer(line):
            before = line[: match.start()]
            # Not the subject of a sentence ("error: crkd distill needs ...").
            if before.endswith(": ") and before not in ("error: ", "warning: "):
                commands.append(_PROSE.sub("", match.group()).rstrip(".:,"))
    return commands


def pasted(text: str, folder: Path) -> list[str]:
    """The arguments that a real shell in `folder` hands to ``crkd``."""
    script = f"crkd() {{ printf '%s\\0' \"$@\"; }}\n{text}\n"
    done = subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.split("\0")[:-1]


def follow(crkd: Callable, folder: Path, first: list[object], **places: object) -> list[str]:
    """Runs a command and, as long as it is refused, what it says to run; returns all that was pasted.

    Args:
        places: what stands for words in capital letters (``DIR="/data"``).
    """
    done: list[str] = []
    for _ in range(8):
        ended = crkd(*first)
        if ended.code == 0:
            return done
        advice = printed_commands(ended.err.splitlines()[-1])
        assert advice, f"no command in {ended.err}"
        done.append(paste(crkd, folder, advice[0], **places))
    raise AssertionError(f"still refused after {done}")


def paste(crkd: Callable, folder: Path, command: str, **places: object) -> str:
    """Runs a printed command, which must work."""
    for word, value in places.items():
        command = re.sub(rf"\b{word}\b", str(value), command)
    ended = crkd(*pasted(command, folder))
    assert ended.code == 0, f"{command}\n{ended.err}"
    return command
