"""Which implementation computes sparse convolutions; that both agree needs a GPU (test_ops_on_gpu)."""

import pytest
import torch

from crkd_core.errors import ConfigError
from crkd_core.ops import sparse_triton
from crkd_core.ops.sparse_triton import SWITCH, chosen_for

CUDA, CPU, CUBE = torch.device("cuda"), torch.device("cpu"), (3, 3, 3)


@pytest.fixture
def library(monkeypatch):
    """Pretends that the library is installed, or not."""

    def pretend(installed: bool, choice: str | None = None) -> None:
        monkeypatch.setattr(sparse_triton, "_installed", lambda: installed)
        monkeypatch.delenv(SWITCH, raising=False)
        if choice is not None:
            monkeypatch.setenv(SWITCH, choice)

    return pretend


def test_the_library_is_taken_on_a_gpu_where_it_is_installed(library):
    library(installed=True)
    assert chosen_for(CUDA, 10, CUBE)
    assert not chosen_for(CPU, 10, CUBE)
    assert not chosen_for(CUDA, 0, CUBE)
    assert not chosen_for(CUDA, 10, (1, 1, 1))
    library(installed=False)
    assert not chosen_for(CUDA, 10, CUBE)


def test_the_switch_forces_torch(library):
    library(installed=True, choice="torch")
    assert not chosen_for(CUDA, 10, CUBE)


def test_asking_for_a_library_that_is_missing_names_what_to_install(library):
    library(installed=False, choice="triton")
    with pytest.raises(ConfigError, match=r"pip install crkd\[gpu\]"):
        chosen_for(CUDA, 10, CUBE)
    assert not chosen_for(CPU, 10, CUBE)


def test_an_unknown_choice_is_refused_everywhere(library):
    library(installed=True, choice="cuda")
    with pytest.raises(ConfigError, match="expected one of auto, torch, triton, found 'cuda'"):
        chosen_for(CPU, 10, CUBE)
