"""Worker processes end at once and leave nothing half-written."""

import time
from pathlib import Path

import pytest

from crkd_core.artifacts.atomic import atomic_path
from crkd_core.workers import workers

_LONG_S = 60.0


def _write_slowly(path: Path) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"half")
        time.sleep(_LONG_S)


def test_workers_that_are_ended_remove_what_they_write_and_begin_nothing_more(tmp_path):
    began = time.monotonic()

    def fail_while_one_writes() -> None:
        with workers(1) as pool:
            pool.submit(_write_slowly, [(tmp_path / name,) for name in ("first", "second", "third")])
            while not list(tmp_path.glob("first.*")):
                assert time.monotonic() - began < _LONG_S / 2
                time.sleep(0.01)
            raise RuntimeError("the stage failed")

    with pytest.raises(RuntimeError, match="the stage failed"):
        fail_while_one_writes()
    assert not list(tmp_path.iterdir())
    assert time.monotonic() - began < _LONG_S
