"""Compiled dense parts give what the plain ones give, and keep the names of their weights."""

import os
import subprocess
import sys

import pytest
import torch

from crkd_core.errors import ConfigError
from crkd_core.models import compiling
from crkd_core.models.detector import build_detector
from tests.support.checkout import ROOT
from tests.support.described import TASKS
from tests.support.tiny_detector import TINY_DATA, tiny_config

LIMIT_S = 240


def compare(backend: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "tests" / "support" / "compiled_detector.py"), backend]
    result = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, env=environment, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout.strip()


def test_all_dense_parts_become_one_graph_each_and_compute_the_same():
    assert compare("aot_eager") == "equal"


def test_a_part_compiled_to_machine_code_computes_the_same():
    try:
        outcome = compare("inductor")
    except subprocess.TimeoutExpired:
        pytest.skip(f"the compiler took longer than {LIMIT_S} s")
    if outcome.startswith("no compiler"):
        pytest.skip(outcome)
    assert outcome == "equal"


@pytest.mark.parametrize(("modalities", "parts"), [(("camera", "radar"), 5), (("camera",), 4), (("lidar",), 2)])
def test_every_detector_has_dense_parts(modalities, parts):
    detector = build_detector(tiny_config(modalities), TINY_DATA, TASKS)
    dense = compiling.dense_parts(detector)
    assert len(dense) == parts
    assert dense[-2:] == [detector.decoder, detector.head]


def test_a_missing_compiler_is_explained(monkeypatch):
    def broken(*arguments, **options):
        raise RuntimeError("no g++ here\nand a long story")

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(ConfigError, match=r"RuntimeError: no g\+\+ here; .* train\.compile=false"):
        compiling.check_compiler(torch.device("cpu"))
