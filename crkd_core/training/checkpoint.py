"""Checkpoints of a run under way: one safetensors file, replaced whole, no pickle."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from crkd_core.artifacts.shards import write_tensors
from crkd_core.errors import DamagedArtifactError
from crkd_core.training.division import Division
from crkd_core.training.kept_weights import KeptWeights

CHECKPOINT_NAME = "checkpoint.safetensors"


@dataclass(frozen=True)
class TrainingState:
    """Where a run stands: `step` optimiser steps are done; the gradient scaler's state for fp16.

    Attributes:
        divisions: how the samples of its steps were divided; () of an earlier version.
    """

    step: int
    scaler: dict
    divisions: tuple[Division, ...] = ()


def write_checkpoint(
    path: Path, module: nn.Module, optimizer: torch.optim.Optimizer, state: TrainingState, kept: KeptWeights
) -> None:
    """Write weights, buffers, optimiser moments, the weights kept beside them, and the position of a run."""
    tensors = {f"model/{name}": tensor for name, tensor in module.state_dict().items()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{name}": torch.as_tensor(value) for name, value in moments.items()}
    metadata = {
        "step": str(state.step),
        "scaler": json.dumps(state.scaler),
        "divisions": json.dumps([asdict(division) for division in state.divisions]),
        "best_epoch": json.dumps(kept.facts()),
    }
    write_tensors(path, tensors | kept.tensors(), metadata)


def read_checkpoint(
    path: Path, module: nn.Module, optimizer: torch.optim.Optimizer, kept: KeptWeights
) -> TrainingState:
    """Restore a run into `module`, `optimizer` and `kept`.

    Raises:
        DamagedArtifactError: the file cannot be read or belongs to another model.
    """
    try:
        tensors = safetensors.torch.load_file(path)
        with safe_open(path, framework="pt") as handle:
            metadata = handle.metadata()
        module.load_state_dict(
            {name.removeprefix("model/"): t for name, t in tensors.items() if name.startswith("model/")}
        )
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("optimizer/"):
                _, index, key = name.split("/")
                moments.setdefault(int(index), {})[key] = tensor
        optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
        _lay_out_as_parameters(optimizer)
        kept.restore(tensors, json.loads(metadata.get("best_epoch", "null")))
        return TrainingState(
            step=int(metadata["step"]),
            scaler=json.loads(metadata["scaler"]),
            divisions=tuple(Division(**values) for values in json.loads(metadata.get("divisions", "[]"))),
        )
    except (SafetensorError, OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise DamagedArtifactError(
            f"the checkpoint {path} cannot be used ({str(error).splitlines()[0]}); start the run afresh "
            f"with --no-resume."
        ) from None


def _lay_out_as_parameters(optimizer: torch.optim.Optimizer) -> None:
    """Give moments the memory layout of their parameters: a fused step goes through the memory of both alike."""
    for parameter, moments in optimizer.state.items():
        for name, moment in moments.items():
            if moment.shape == parameter.shape:
                moments[name] = torch.empty_like(parameter).copy_(moment)
