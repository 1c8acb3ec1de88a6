"""Several processes for one run: torch's own elastic launcher and process groups, nothing home-made."""

import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist

from crkd_core.errors import TrainingError, UsageError, quoted

_TIMEOUT = timedelta(minutes=60)
_DEVICE = re.compile(r"cpu|cuda(:(0|[1-9][0-9]{0,2}))?")


@dataclass(frozen=True)
class ProcessGroup:
    """This process among those of a run.

    Attributes:
        rank: number of this process, 0 for the one that writes and reports.
        size: number of processes.
        device: where this process computes.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def barrier(self) -> None:
        """Wait until every process is here."""
        if self.size > 1:
            dist.barrier()

    def broadcast(self, value: object) -> object:
        """The first process's JSON-like value, on every process."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]


def under_launcher() -> bool:
    """Whether this process was started by torch's elastic launcher."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ and "MASTER_ADDR" in os.environ


def is_first_process() -> bool:
    """Whether this process writes and reports."""
    return int(os.environ.get("RANK", "0")) == 0


def choose_device(name: str = "auto") -> torch.device:
    """The device of a name: "cpu", "cuda", "cuda:N"; "auto" is the GPU where there is one.

    Raises:
        UsageError: there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not _DEVICE.fullmatch(name):
        # Torch knows many more, of which none has been seen to compute what a CPU and a GPU do.
        raise UsageError(f"crkd does not run on a device called {quoted(name)}; expected auto, cpu, cuda or cuda:N.")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        seen = torch.cuda.device_count()
        usable = "cpu" if not seen else "cuda" if seen == 1 else f"cuda:0 to cuda:{seen - 1}"
        raise UsageError(f"--device {name} was asked for, but torch sees {seen} GPUs here; use --device {usable}.")
    return device


@contextmanager
def process_group(device: str = "auto") -> Iterator[ProcessGroup]:
    """Join the processes of this run for the length of the block; a single process needs no launcher.

    Within another such block, the processes are those that have already joined.
    """
    if not under_launcher():
        yield ProcessGroup(0, 1, choose_device(device))
        return
    chosen = choose_device(device)
    if chosen.type == "cuda":
        chosen = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(chosen)
    if dist.is_initialized():
        yield ProcessGroup(dist.get_rank(), dist.get_world_size(), chosen)
        return
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=_TIMEOUT)
    try:
        yield ProcessGroup(dist.get_rank(), dist.get_world_size(), chosen)
    finally:
        dist.destroy_process_group()


def launch(module: str, arguments: Sequence[str], processes: int) -> int:
    """Run ``python -m module arguments`` in `processes` processes of this machine and wait; returns an exit status.

    Every process runs the same command under torch's elastic launcher, as ``torchrun`` would start it.

    Raises:
        TrainingError: the processes were killed from outside.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    with tempfile.TemporaryDirectory(prefix="crkd-launch-") as logs:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            run_id="crkd",
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            max_restarts=0,
            monitor_interval=0.5,
            start_method="spawn",
            logs_specs=DefaultLogsSpecs(log_dir=logs),
        )
        try:
            elastic_launch(config, sys.executable)("-m", module, *arguments)
        except ChildFailedError as error:
            codes = [failure.exitcode for failure in error.failures.values()]
            if all(code < 0 for code in codes):
                raise TrainingError(
                    f"a process of this run was killed by signal {-codes[0]} (9 often means that memory ran out); "
                    "use a smaller batch or fewer processes, and run the same command again: it continues."
                ) from None
            return next(code for code in codes if code > 0)
    return 0
