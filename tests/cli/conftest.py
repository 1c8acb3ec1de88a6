"""Driving the real entry point in this process, and hand-made workspaces."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from crkd_cli.app import main
from crkd_cli.progress import _PlainTask
from crkd_core.artifacts import atomic
from crkd_core.artifacts.atomic import write_text
from crkd_core.artifacts.manifest import InputRef
from crkd_core.artifacts.prepared_format import FORMAT
from crkd_core.artifacts.workspace import Artifact, Workspace
from crkd_core.artifacts.writer import ArtifactRequest
from crkd_core.processes import LAUNCH_VARIABLES
from crkd_core.progress import SilentProgress
from crkd_core.stages.evaluate import EvaluateRequest, evaluate
from crkd_core.stages.visualize import VisualizeRequest, visualize
from tests.support.chain import Chain
from tests.support.checkout import ROOT
from tests.support.faults import Runner
from tests.support.refusals import Refused, make_refused


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def crkd(capsys, monkeypatch, tmp_path) -> Callable[..., Outcome]:
    """Runs ``crkd ARGUMENTS`` in an empty folder, through the console script's own function."""
    monkeypatch.chdir(tmp_path)
    for name in ("CRKD_WORKSPACE", "FORCE_COLOR", "TORCHELASTIC_RUN_ID", *LAUNCH_VARIABLES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments: object) -> Outcome:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Outcome(int(ended.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture
def start_python(tmp_path) -> Callable[..., subprocess.Popen]:
    """Starts a Python process of this checkout whose Ctrl-C works even where the test run ignores it."""

    def start(*arguments: str, **options) -> subprocess.Popen:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "80"}
        return subprocess.Popen(
            [sys.executable, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=tmp_path,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            **options,
        )

    return start


@pytest.fixture
def interrupt(monkeypatch):
    """``interrupt({"file": NAME})``, ``{"made": NAME}`` or ``{"step": N}``: Ctrl-C when such a file is written and not
    yet renamed to its name, when it is, or when that many steps were reported.
    """
    old = signal.signal(signal.SIGINT, signal.default_int_handler)
    flush, advance, trigger, written = atomic._flush, _PlainTask.advance, {}, [""]

    def press() -> None:
        trigger.clear()
        os.kill(os.getpid(), signal.SIGINT)

    def flush_and_press(path):
        flush(path)
        if not path.is_dir():
            written[0] = path.name
        key = "made" if path.is_dir() else "file"
        if key in trigger and trigger[key] in written[0]:
            press()

    def advance_and_press(self, steps=1, **fields):
        advance(self, steps, **fields)
        if "step" in trigger:
            trigger["step"] -= steps
            if trigger["step"] <= 0:
                press()

    monkeypatch.setattr(atomic, "_flush", flush_and_press)
    monkeypatch.setattr(_PlainTask, "advance", advance_and_press)
    yield trigger.update
    signal.signal(signal.SIGINT, old)


@pytest.fixture
def refused(crkd, tmp_path) -> Refused:
    """Runs a command that must be refused with a status and words, and must leave the folder of the test as it was."""
    return make_refused(crkd, tmp_path)


@pytest.fixture
def runner(tmp_path) -> Runner:
    """Runs commands in processes of their own, with faults."""
    return Runner(tmp_path)


@pytest.fixture(scope="session")
def evaluated(chain, tmp_path_factory) -> Chain:
    """The chain with the distilled student evaluated, and one picture. Copy what is to be changed."""
    copy = chain.copy(tmp_path_factory.mktemp("evaluated"))
    progress = SilentProgress()
    evaluate(EvaluateRequest(model="crkd", workers=0), copy.workspace, progress)
    visualize(VisualizeRequest(samples=1), copy.workspace, progress)
    return copy


MakeArtifact = Callable[..., Artifact]


@pytest.fixture
def workspace(tmp_path, monkeypatch) -> Workspace:
    """The one that commands use by themselves in the folder of the test, so that they need not name it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CRKD_WORKSPACE", raising=False)
    return Workspace(tmp_path / "crkd-workspace")


@pytest.fixture
def make(workspace) -> MakeArtifact:
    """Writes one finished artifact by hand: ``make(stage, name, inputs={role: artifact}, facts=..., text=...)``."""

    def write(stage: str, name: str, inputs=None, facts=None, text: str = "contents", force: bool = False) -> Artifact:
        references: dict[str, InputRef] = {role: made.reference() for role, made in (inputs or {}).items()}
        settings = {"text": text, "format": FORMAT}
        request = ArtifactRequest(stage, name, f"crkd {stage} --name {name}", settings, references, force=force)
        with workspace.write(request) as writer:
            write_text(writer.path / "file.txt", text)
            return writer.finish(facts)

    return write
