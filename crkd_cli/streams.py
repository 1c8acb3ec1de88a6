"""Standard streams that are closed, full, or whose reader has left."""

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

from crkd_core.errors import WriteError

_DESCRIPTORS = {"stdin": 0, "stdout": 1, "stderr": 2}


class _Stream:
    """A stream of text; everything but writing is passed on."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as error:
            self._failed(error)
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._failed(error)

    def _failed(self, error: OSError) -> None:
        raise NotImplementedError

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Results(_Stream):
    """stdout: what was asked for, so that it must not get lost in silence."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._error: WriteError | None = None

    def write(self, text: str) -> int:
        if self._error is not None:
            raise self._error
        return super().write(text)

    def _failed(self, error: OSError) -> None:
        self._discard()
        if isinstance(error, BrokenPipeError):
            raise error
        reason = "it is closed" if error.errno == errno.EBADF else (error.strerror or str(error)).lower()
        self._error = WriteError(
            f"the results could not be written to stdout: {reason}; what was made is kept, and the same command shows "
            "it again elsewhere (> FILE)."
        )
        raise self._error from None

    def _discard(self) -> None:
        # What the stream still holds, Python would try to write once more when it ends.
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


class _Notes(_Stream):
    """stderr: progress and notes, for the want of which no work is given up."""

    def _failed(self, error: OSError) -> None:
        if isinstance(error, BrokenPipeError):
            raise error


@contextmanager
def guarded_streams() -> Iterator[None]:
    """Have failures of the standard streams told apart from others, for the length of the block.

    A stream that was closed is opened on nothing: otherwise the first file that the work opens would take its number,
    and whatever is written to the stream (by a library, or by a process that is started) would end up in that file.

    Raises:
        WriteError: what was written to stdout did not arrive.
        BrokenPipeError: whoever read stdout or stderr has left.
    """
    before = sys.stdout, sys.stderr
    for name, number in _DESCRIPTORS.items():
        if getattr(sys, name) is None:
            setattr(sys, name, _open_on_nothing(name, number))
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        # Better a substitute than no table, where the encoding does not know a letter.
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.stdout, sys.stderr = cast(TextIO, _Results(sys.stdout)), cast(TextIO, _Notes(sys.stderr))
    try:
        yield
    finally:
        try:
            sys.stdout.flush()
        finally:
            sys.stdout, sys.stderr = before


def _open_on_nothing(name: str, number: int) -> TextIO:
    # stdout is opened for reading, so that writing to it still fails.
    opened = os.open(os.devnull, os.O_WRONLY if name == "stderr" else os.O_RDONLY)
    if opened == number:
        os.set_inheritable(number, True)  # as the standard streams are
    return open(opened, "r" if name == "stdin" else "w", closefd=False)
