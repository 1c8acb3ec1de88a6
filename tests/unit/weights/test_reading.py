"""Opening checkpoint files, and telling what they hold."""

import os
import subprocess
import sys
from collections import OrderedDict

import pytest
import safetensors.torch
import torch

from crkd_core.errors import UsageError
from crkd_core.weights.checkpoint_files import read_checkpoint_file


class Malicious:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("wrapped", [
    lambda state: state,
    lambda state: {"state_dict": state, "meta": {"epoch": 20, "iter": 300}, "optimizer": {"state": {}}},
    lambda state: {"model": {f"module.{key}": value for key, value in state.items()}},
    lambda state: {"state_dict": {"module": state}},
])  # fmt: skip
@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_are_found_in_every_wrapper(tmp_path, wrapped, zipped):
    state = OrderedDict(a=torch.ones(2), b=torch.arange(3))
    values = wrapped(state)
    torch.save(values, tmp_path / "file.pth", _use_new_zipfile_serialization=zipped)
    file = read_checkpoint_file(tmp_path / "file.pth")
    assert list(file.state) == ["a", "b"]
    assert torch.equal(file.state["b"], state["b"])
    assert (file.epochs, file.steps) == ((20, 300) if "meta" in values else (None, None))


def test_safetensors_are_read(tmp_path):
    safetensors.torch.save_file({"a": torch.ones(2)}, tmp_path / "file.safetensors")
    assert torch.equal(read_checkpoint_file(tmp_path / "file.safetensors").state["a"], torch.ones(2))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_that_would_run_code_is_refused_and_does_not_run_it(tmp_path, zipped):
    path, trace = tmp_path / "evil.pth", tmp_path / "trace"
    values = {"state_dict": {"a": torch.ones(1)}, "meta": Malicious(f"touch {trace}")}
    torch.save(values, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UsageError, match="would execute code") as caught:
        read_checkpoint_file(path)
    assert "\n" not in str(caught.value)
    assert not trace.exists()
    # The file does what it is said to do where nobody takes care.
    script = f"import torch; torch.load({str(path)!r}, weights_only=False)"
    subprocess.run([sys.executable, "-c", script], check=True, env={**os.environ, "PYTHONPATH": ""})
    assert trace.exists()


def test_whole_modules_and_torchscript_are_refused(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pth")
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "script.pt")
    for name in ("module.pth", "script.pt"):
        with pytest.raises(UsageError, match="would execute code"):
            read_checkpoint_file(tmp_path / name)


def test_other_contents_are_explained(tmp_path):
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(UsageError, match="holds no named tensors"):
        read_checkpoint_file(tmp_path / "list.pth")
    with pytest.raises(UsageError, match="no checkpoint file"):
        read_checkpoint_file(tmp_path / "none.pth")
