"""How many processes are started."""

import pytest

from crkd_core import cores
from crkd_core.errors import UsageError
from crkd_core.progress import SilentProgress


class Heard(SilentProgress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def message(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def machine(monkeypatch):
    def of(count: int) -> None:
        monkeypatch.setattr(cores, "cores", lambda: count)

    return of


@pytest.mark.parametrize(
    ("count", "asked", "jobs", "started"),
    [
        (2, 1, 10, 1),
        (2, 4, 10, 4),
        (2, 100, 10, 4),
        (2, 100, 3, 3),
        (64, 100, 850, 100),
        (64, 1000, 850, 128),
        (1, 8, 1, 1),
    ],
)
def test_no_more_helpers_than_cores_and_jobs_bear(machine, count, asked, jobs, started):
    machine(count)
    heard = Heard()
    assert cores.helpers(asked, jobs, "scene", heard) == started
    assert bool(heard.lines) == (started < asked)
    assert all(f"{started} of the {asked} processes asked for" in line for line in heard.lines)


def test_the_note_of_loaders(machine):
    heard = Heard()
    machine(8)
    cores.note_loaders(16, heard)
    assert heard.lines == []
    machine(1)
    cores.note_loaders(16, heard)
    assert heard.lines == ["reading sensor files in 4 of the 16 processes asked for: there are 1 core"]


def test_ranks_are_refused_and_not_lowered(machine):
    machine(2)
    cores.check_ranks(8)
    with pytest.raises(
        UsageError, match="--processes 9 was asked for, and this machine has 2 CPU cores; use at most 8"
    ):
        cores.check_ranks(9)
    machine(32)
    cores.check_ranks(128)


def test_this_machine_has_a_core():
    assert cores.cores() >= 1
    assert cores.most_helpers() >= 4
