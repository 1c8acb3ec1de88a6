"""`train.compile`: the trained detector is compiled after its first weights are in, and the run stays the same run."""

import pytest

from crkd_core.config.loading import load_config
from crkd_core.errors import ConfigError
from crkd_core.progress import SilentProgress
from crkd_core.stages.train_teacher import TrainTeacherRequest, train_teacher
from crkd_core.training import run as runs
from tests.support.chain import CHAIN_OVERRIDES

SILENT = SilentProgress()
COMPILED = load_config("tiny", None, [*CHAIN_OVERRIDES, "train.compile=true", "data.train_fraction=0.5"])


def test_a_run_compiles_its_detector(chain, tmp_path, monkeypatch):
    copy, compiled = chain.copy(tmp_path), []
    monkeypatch.setattr(runs, "check_compiler", lambda device: None)
    monkeypatch.setattr(runs, "compile_dense_parts", compiled.append)
    train_teacher(TrainTeacherRequest(COMPILED, name="compiled"), copy.workspace, SILENT)
    (detector,) = compiled
    assert detector.lidar is not None
    plain = COMPILED.model_copy(update={"train": COMPILED.train.model_copy(update={"compile": False})})
    assert train_teacher(TrainTeacherRequest(plain, name="compiled"), copy.workspace, SILENT).reused
    assert len(compiled) == 1


def test_without_a_compiler_nothing_begins(chain, monkeypatch):
    def fail(device):
        raise ConfigError("no compiler")

    monkeypatch.setattr(runs, "check_compiler", fail)
    with pytest.raises(ConfigError, match="no compiler"):
        train_teacher(TrainTeacherRequest(COMPILED, name="broken"), chain.workspace, SILENT)
    assert "broken" not in chain.workspace.partial_names("train-teacher")
