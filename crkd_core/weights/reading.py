"""Opening checkpoint files without running what is inside them."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from crkd_core.errors import UsageError
from crkd_core.weights.matching import StateDict

_WRAPPERS = ("state_dict", "model", "module")
_PARALLEL = "module."
# What torch says about an intact file that asks for more than tensors and plain values.
_NEEDS_CODE = ("nsupported global", "nsupported GLOBAL", "nsupported class", "Can only", "TorchScript")


@dataclass(frozen=True)
class CheckpointFile:
    """What a checkpoint file holds.

    Attributes:
        state: the model's tensors, out of wrappers such as ``state_dict`` and without a prefix ``module.``.
        epochs, steps: how long the model was trained; None where the file does not say.
    """

    state: StateDict
    epochs: int | None
    steps: int | None


def read_checkpoint_file(path: Path) -> CheckpointFile:
    """The tensors of a file written by ``torch.save`` or safetensors.

    Raises:
        UsageError: there is no such file, it is damaged or no checkpoint, or loading it would execute code.
    """
    if not path.is_file():
        raise UsageError(f"there is no checkpoint file {path}; give the path of a .pth, .pt or .safetensors file")
    values = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    meta = values.get("meta") if isinstance(values, Mapping) else None
    state = _unwrap(values)
    if not state:
        raise UsageError(f"{path} holds no named tensors; expected a state dict, found {type(values).__name__}")
    return CheckpointFile(state, _count(meta, "epoch"), _count(meta, "iter"))


def _read_safetensors(path: Path) -> Any:
    try:
        return safetensors.torch.load_file(path)
    except (SafetensorError, OSError) as error:
        raise UsageError(f"{path} cannot be read as safetensors ({error}); download or copy it again") from None


def _read_torch(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a TorchScript archive is refused below, in our own words
            return torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, OSError, EOFError, ValueError, LookupError) as error:
        if any(sign in str(error) for sign in _NEEDS_CODE):
            raise UsageError(
                f"{path} was not opened: it holds more than tensors and plain values, and loading that would execute "
                "code from the file; ask for a file with the state dict alone, or save one where you trust the code"
            ) from None
        raise UsageError(
            f"{path} is damaged, incomplete or no checkpoint of torch; download or copy it again, and give a .pth, .pt "
            "or .safetensors file"
        ) from None


def _unwrap(values: Any) -> StateDict:
    while isinstance(values, Mapping):
        inner = next((values[key] for key in _WRAPPERS if isinstance(values.get(key), Mapping)), None)
        if inner is None:
            break
        values = inner
    if not isinstance(values, Mapping):
        return {}
    state = {str(key): value for key, value in values.items() if isinstance(value, Tensor)}
    if all(key.startswith(_PARALLEL) for key in state):
        return {key.removeprefix(_PARALLEL): value for key, value in state.items()}
    return state


def _count(meta: Any, key: str) -> int | None:
    value = meta.get(key) if isinstance(meta, Mapping) else None
    return value if isinstance(value, int) else None
