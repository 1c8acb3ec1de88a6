"""Standard streams that are closed or full: one sentence and its exit status, and no work is given up for them."""

import errno
import io
import os
import shlex
import signal
import subprocess
import sys

import pytest

from tests.support.checkout import ROOT
from tests.support.stopped_stages import Stage


def shell(folder, line: str) -> subprocess.CompletedProcess:
    """Runs a line of shell in which ``crkd`` is this checkout's."""
    command = f"{shlex.quote(sys.executable)} -m crkd_cli"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80"}
    words = ["bash", "-o", "pipefail", "-c", line.replace("crkd ", f"{command} ", 1)]
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


pytestmark = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")


@pytest.mark.parametrize(("stream", "reason"), [(">&-", "it is closed"), (">/dev/full", "no space left on device")])
@pytest.mark.parametrize("command", ["--help", "--version", "status --json"])
def test_results_that_can_not_be_written(tmp_path, command, stream, reason):
    ended = shell(tmp_path, f"crkd {command} {stream}")
    assert ended.returncode == 5, ended.stderr
    assert ended.stderr.splitlines() == [
        f"error: the results could not be written to stdout: {reason}; what was made is kept, and the same command "
        "shows it again elsewhere (> FILE)."
    ]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("crkd status 2>&-", 0),
        ("crkd status 2>/dev/full", 0),
        ("crkd status <&-", 0),
        ("crkd status --bad 2>&-", 2),
        ("crkd prepare --nuscenes nowhere 2>/dev/full", 3),
        ("crkd prepare --nuscenes nowhere <&- >&- 2>&-", 3),
        ("crkd status 2>&1 >&-", 5),
    ],
)
def test_streams_that_are_not_needed(tmp_path, line, code):
    ended = shell(tmp_path, line)
    assert ended.returncode == code, ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr
    assert "Exception" not in ended.stdout + ended.stderr


def test_a_reader_that_leaves_early_ends_the_command_quietly(tmp_path):
    ended = shell(tmp_path, "crkd presets paper-r50 | (exec <&-; sleep 3)")
    assert ended.stderr == ""
    assert ended.returncode == 1


def test_no_file_takes_the_number_of_a_closed_stream(tmp_path):
    program = (
        "import os, sys\n"
        "for number in (0, 1, 2): os.close(number)\n"
        "sys.stdin = sys.stdout = sys.stderr = None\n"
        "from crkd_cli.streams import guarded_streams\n"
        "with guarded_streams():\n"
        "    stream = open('data', 'w')\n"
        "    print('lost', file=sys.stderr)\n"
        "    stream.write(str(stream.fileno()))\n"
        "    stream.close()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, timeout=120, check=True)
    assert int((tmp_path / "data").read_text()) > 2


class _Full(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_work_goes_on_when_its_notes_can_not_be_written(crkd, evaluated, tmp_path, monkeypatch):
    stage = Stage(evaluated, tmp_path, "extract-teacher")
    with monkeypatch.context() as broken:
        broken.setattr(sys, "stderr", _Full())
        assert crkd(*stage.command).code == 0
    stage.check_result()


def test_what_is_made_stays_when_it_can_not_be_shown(crkd, evaluated, tmp_path, monkeypatch):
    stage = Stage(evaluated, tmp_path, "extract-teacher")
    with monkeypatch.context() as broken:
        broken.setattr(sys, "stdout", _Full())
        ended = crkd(*stage.command)
    assert ended.code == 5
    assert ended.err.splitlines()[-1].startswith("error: the results could not be written to stdout: no space left")
    stage.check_result()
    again = crkd(*stage.command)
    assert again.code == 0
    assert "extract-teacher/again" in again.out


def test_letters_that_the_encoding_does_not_know_are_replaced(tmp_path):
    name = "wörk"
    (tmp_path / name).mkdir()
    ended = shell(tmp_path, f"PYTHONUTF8=0 PYTHONIOENCODING=ascii:strict crkd status -w {name}")
    assert ended.returncode == 0, ended.stderr
    assert r"w\xf6rk is empty." in ended.stdout


def test_sigterm_ends_a_command_as_ctrl_c_does(crkd, evaluated, tmp_path, monkeypatch):
    stage = Stage(evaluated, tmp_path, "train-teacher")

    def ended_by_a_scheduler(*_, **__):
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as fault:
        fault.setattr("crkd_cli.progress._PlainTask.advance", ended_by_a_scheduler)
        ended = crkd(*stage.command)
    assert ended.code == 143
    assert ended.err.splitlines()[-1].startswith(
        "Stopped. What was finished is kept; the same command continues: crkd "
    )
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    stage.check_nothing_lost()
    assert crkd(*stage.command).code == 0
    stage.check_result()
