"""Opening checkpoint files without running what is inside them."""

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from crkd_core.errors import UsageError
from crkd_core.weights.containers import choose_weights
from crkd_core.weights.matching import StateDict
from crkd_core.weights.signatures import NEEDS_CODE, checkpoint_format, damaged

# What torch says about an intact file that asks for more than tensors and plain values.
_REFUSED_BY_TORCH = ("nsupported global", "nsupported GLOBAL", "nsupported class", "Can only", "TorchScript")
_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")
_TOO_LARGE = ("allocate", "not enough memory")
_CAFFE = re.compile(r"""style\s*=\s*['"]caffe['"]""")


@dataclass(frozen=True)
class CheckpointFile:
    """What a checkpoint file holds.

    Attributes:
        state: the model's tensors, out of containers such as ``state_dict`` and without the components that wrappers
            such as DataParallel add to names.
        epochs, steps: how long the model was trained; None where the file does not say.
        caffe_style: the recipe stored in the file builds its ResNets as Caffe did: the same names and shapes, with the
            stride on another convolution.
        notes: what its reader should know of the choice of tensors.
    """

    state: StateDict
    epochs: int | None
    steps: int | None
    caffe_style: bool = False
    notes: tuple[str, ...] = ()


def read_checkpoint_file(path: Path, averaged: bool = False) -> CheckpointFile:
    """The tensors of a file written by ``torch.save`` or safetensors, whatever it is called.

    Args:
        averaged: take the averaged weights (EMA) that the file keeps beside the plain ones.

    Raises:
        UsageError: there is no such file, it is damaged or no checkpoint, loading it would execute code, it holds no
            weights (or no averaged ones), or tensors that are not plain ones in memory.
    """
    is_torch = checkpoint_format(path) == "torch"
    values = _read_torch(path) if is_torch else _read_safetensors(path)
    chosen = choose_weights(values, averaged, str(path))
    meta = values.get("meta") if isinstance(values, Mapping) else None
    recipe = meta.get("config") if isinstance(meta, Mapping) else None
    return CheckpointFile(
        chosen.state,
        _count(meta, "epoch"),
        _count(meta, "iter"),
        isinstance(recipe, str) and _CAFFE.search(recipe) is not None,
        chosen.notes,
    )


def _read_safetensors(path: Path) -> Any:
    try:
        return safetensors.torch.load_file(path)
    except Exception as error:  # whatever a damaged header makes the reader stumble over
        raise damaged(path, f"safetensors: {_first_line(error)}") from None


def _read_torch(path: Path) -> Any:
    try:
        # Given a path torch would go by its suffix.
        with path.open("rb") as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old formats, which are no worse
            return torch.load(stream, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or hostile pickle can make it fail in any way
        text = str(error)
        if any(sign in text for sign in _REFUSED_BY_TORCH):
            name = _GLOBAL.search(text)
            asked_for = f" ({name[1]})" if name else ""
            raise UsageError(f"{path}{asked_for} {NEEDS_CODE}") from None
        if isinstance(error, MemoryError) or any(sign in text for sign in _TOO_LARGE):
            raise UsageError(
                f"{path} declares tensors that do not fit into memory; give a file with the weights alone"
            ) from None
        raise damaged(path) from None


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _count(meta: Any, key: str) -> int | None:
    value = meta.get(key) if isinstance(meta, Mapping) else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None
