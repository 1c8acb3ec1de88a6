"""Every failure is one message and its own exit status; a traceback only with --debug."""

import os
import signal

import pytest

from crkd_core import errors
from crkd_core.config import loading


@pytest.mark.parametrize("command", ["train-teacher", "extract-teacher", "distill"])
def test_a_mistyped_key_is_refused_with_a_suggestion(crkd, command):
    result = crkd(command, "--preset", "tiny", "--set", "train.seeed=1")
    assert result.code == 2
    assert result.out == ""
    assert result.err.startswith("error: the config has no key 'train.seeed'; did you mean 'seed'?")
    assert result.err.count("\n") == 1


def test_a_wrong_type_names_key_and_value(crkd):
    result = crkd("train-teacher", "--set", "train.teacher.epochs=many")
    assert result.code == 2
    assert "train.teacher.epochs" in result.err
    assert "'many'" in result.err


def test_an_unknown_preset_lists_those_there_are(crkd):
    result = crkd("distill", "--preset", "tinny")
    assert result.code == 2
    assert "'tiny'" in result.err


def test_a_missing_config_file(crkd):
    result = crkd("distill", "--config", "absent.yaml")
    assert result.code == 2
    assert "absent.yaml" in result.err


def test_a_broken_config_file_names_the_line(crkd, tmp_path):
    (tmp_path / "mine.yaml").write_text("train:\n  seed: [1\n")
    result = crkd("distill", "--config", "mine.yaml")
    assert result.code == 2
    assert "mine.yaml" in result.err
    assert "line" in result.err


def test_unknown_options_and_commands_exit_2(crkd):
    for arguments in (("train-teacher", "--lr", "1"), ("trane-teacher",), ("demo", "--scenes", "none")):
        result = crkd(*arguments)
        assert result.code == 2
        assert "Traceback" not in result.err


@pytest.mark.parametrize("losses", ["csrd,mfsd", "", "csrd,csrd", "none,csrd"])
def test_wrong_losses_are_refused(crkd, losses):
    result = crkd("distill", "--preset", "tiny", "--losses", losses)
    assert result.code == 2
    assert "--losses" in result.err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.CrkdError("said"), 1),
        (errors.UsageError("said"), 2),
        (errors.ConfigError("said"), 2),
        (errors.DatasetError("said"), 3),
        (errors.MissingArtifactError("said"), 4),
        (errors.StaleArtifactError("said"), 4),
        (errors.DamagedArtifactError("said"), 4),
        (errors.WriteError("said"), 5),
        (errors.TrainingError("said"), 6),
        (KeyboardInterrupt(), 130),
    ],
)
def test_exit_codes(crkd, monkeypatch, error, code):
    monkeypatch.setattr(loading, "preset_names", _raiser(error))
    result = crkd("presets")
    assert result.code == code
    assert result.out == ""
    assert "Traceback" not in result.err
    if code != 130:
        assert result.err == "error: said\n"


def test_an_unexpected_exception_is_called_a_bug(crkd, monkeypatch):
    monkeypatch.setattr(loading, "preset_names", _raiser(ZeroDivisionError("of cells")))
    result = crkd("presets")
    assert result.code == 1
    assert "bug" in result.err
    assert "ZeroDivisionError: of cells" in result.err
    assert "Traceback" not in result.err


@pytest.mark.parametrize("arguments", [("--debug", "presets"), ("presets", "--debug")])
def test_debug_shows_the_traceback_and_the_message(crkd, monkeypatch, arguments):
    monkeypatch.setattr(loading, "preset_names", _raiser(errors.DatasetError("said")))
    result = crkd(*arguments)
    assert result.code == 3
    assert "Traceback" in result.err
    assert "error: said" in result.err


def test_only_the_first_process_says_at_once_what_all_ran_into(crkd, monkeypatch):
    waited = []
    monkeypatch.setattr("crkd_cli.session.time.sleep", waited.append)
    for name, value in (("RANK", "1"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "localhost"), ("MASTER_PORT", "29500")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(loading, "preset_names", _raiser(errors.TrainingError("said")))
    result = crkd("presets")
    assert (result.code, len(waited)) == (6, 1)
    assert result.err == "process 1 of 2:\nerror: said\n"


def test_ctrl_c_is_calm(start_python):
    script = (
        "import sys, time\n"
        "from crkd_core.config import loading\n"
        "def wait():\n    sys.stderr.write('waiting\\n')\n    sys.stderr.flush()\n    time.sleep(60)\n"
        "loading.preset_names = wait\n"
        "from crkd_cli.app import main\n"
        "main(['presets'])\n"
    )
    process = start_python("-c", script)
    assert process.stderr is not None
    assert process.stderr.readline() == "waiting\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out == ""
    assert err == "Stopped. What was finished is kept; the same command continues: crkd presets\n"


def test_ctrl_c_in_a_real_stage_and_its_processes(start_python, tmp_path):
    arguments = ("simulate", "--out", "world", "--scenes", "2", "--samples", "40", "--processes", "2")
    process = start_python("-m", "crkd_cli", *arguments, start_new_session=True)
    assert process.stderr is not None
    assert process.stderr.readline().startswith("simulating")
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.splitlines()[-1].startswith("Stopped. What was finished is kept")
    assert "Traceback" not in err
    assert not (tmp_path / "world").exists()


def test_a_closed_pipe_is_no_error(start_python):
    reader, writer = os.pipe()
    os.close(reader)
    script = "from crkd_cli.app import main\nmain(['presets', 'tiny'])\n"
    process = start_python("-c", f"import os, sys\nos.dup2({writer}, 1)\n{script}", pass_fds=(writer,))
    os.close(writer)
    _, err = process.communicate(timeout=30)
    assert err == ""
    assert process.returncode == 1


def _raiser(error: BaseException):
    def fail():
        raise error

    return fail
