"""What every refusal has in common, whatever was wrong."""

import hashlib
from collections.abc import Callable
from pathlib import Path

# Stamps of checks and unfinished runs may come and go; everything else has to stay as it was.
_FREE = (".verified.json", ".lock")


def snapshot(folder: Path) -> dict[str, str]:
    """Checksums of everything below a folder but unfinished runs."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(_FREE) and ".partial/" not in str(path.relative_to(folder))
    }


def damage(path: Path, kind: str) -> None:
    """Cut a file in half, turn one byte of it round, or remove it."""
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    if kind == "cut":
        path.write_bytes(data[:middle])
    elif kind == "flipped":
        data[middle] ^= 0xFF
        path.write_bytes(data)
    else:
        path.unlink()


def check_message(code: int, expected_code: int, out: str, err: str, words: tuple[str, ...]) -> None:
    """One sentence on stderr with the words, the right status, nothing on stdout and no trace of Python."""
    lines = err.splitlines()
    assert code == expected_code, err
    assert out == ""
    assert lines, "nothing was said"
    assert lines[-1].startswith("error: "), err
    assert sum(line.startswith("error: ") for line in lines) == 1, err
    for word in words:
        assert word in lines[-1], f"{word!r} is not in {lines[-1]!r}"
    for word in ("Traceback", "bug", "Exception", "Errno"):
        assert word not in err, err


Refused = Callable[..., str]


def make_refused(crkd, folder: Path) -> Refused:
    """``refused(code, words, *arguments)``: runs a command that must be refused and leave `folder` as it was."""

    def refused(code: int, words: tuple[str, ...], *arguments: object) -> str:
        before = snapshot(folder)
        result = crkd(*arguments)
        check_message(result.code, code, result.out, result.err, words)
        assert snapshot(folder) == before
        assert not list(folder.rglob("*.writing"))
        return result.err

    return refused
