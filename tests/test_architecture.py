"""The house: floors import only downwards, shapes are really checked, and nothing reads a pickle."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from jaxtyping import TypeCheckError

from crkd_core.geometry.grid import BEVGrid

ROOT = Path(__file__).parent.parent


def test_import_contract():
    done = subprocess.run([str(Path(sys.executable).parent / "lint-imports")], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_a_wrong_shape_raises_while_testing():
    grid = BEVGrid((0.0, 8.0), (0.0, 8.0), (0.0, 1.0), 1.0)
    with pytest.raises(TypeCheckError):
        grid.to_cells(torch.zeros(4, 3))


PICKLE = re.compile(
    r"\bimport pickle|pickle\.load|(?<!safetensors\.)torch\.load\((?!.*weights_only=True)|allow_pickle=True"
)


def test_no_pickle_is_read():
    offenders = [
        f"{path.name}: {line.strip()}"
        for package in ("crkd_core", "crkd_cli")
        for path in (ROOT / package).rglob("*.py")
        for line in path.read_text().splitlines()
        if PICKLE.search(line)
    ]
    assert offenders == []


def test_only_the_official_evaluation_imports_the_devkit():
    importers = {
        path.relative_to(ROOT).as_posix()
        for package in ("crkd_core", "crkd_cli")
        for path in (ROOT / package).rglob("*.py")
        if re.search(r"^\s*(from|import) (nuscenes|pyquaternion)\b", path.read_text(), re.M)
    }
    assert importers == {"crkd_core/evaluation/nuscenes/official.py"}
