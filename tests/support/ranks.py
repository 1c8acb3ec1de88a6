"""Functions run on two processes of this machine that know each other, as a distributed run has them."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from crkd_core.training.distributed import ProcessGroup


def on_ranks(function: Callable[..., Any], folder: Path, *arguments: Any, size: int = 2) -> list[Any]:
    """What `function(processes, *arguments)` returns on each rank; the function is one of a module."""
    mp.spawn(_run, (size, str(folder), function, arguments), nprocs=size)
    return [torch.load(folder / f"rank-{rank}.pt", weights_only=True) for rank in range(size)]


def _run(rank: int, size: int, folder: str, function: Callable[..., Any], arguments: tuple) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=size)
    try:
        torch.save(function(ProcessGroup(rank, size, torch.device("cpu")), *arguments), f"{folder}/rank-{rank}.pt")
    finally:
        dist.destroy_process_group()
