"""Several processes for one run: torch's own elastic launcher and process groups, nothing home-made."""

import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from crkd_core.artifacts.command import Command
from crkd_core.artifacts.workspace import Workspace
from crkd_core.artifacts.writer import ArtifactRequest, ArtifactWriter
from crkd_core.errors import TrainingError, UsageError, quoted
from crkd_core.processes import LaunchedRank, how_to_unset, launched_rank
from crkd_core.progress import format_count

_Value = TypeVar("_Value")
_TIMEOUT = timedelta(minutes=60)
_DEVICE = re.compile(r"cpu|cuda(:(0|[1-9][0-9]{0,2}))?")
# The launcher starts all processes together; from the first import to the last it can take minutes on slow disks.
_MEETING = timedelta(minutes=5)
# Long enough for the process that failed first to say why, and for the launcher to end the others.
_LAUNCHER_WAIT_S = 10.0


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

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum of every process's tensor."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def gather(self, value: _Value) -> list[_Value]:
        """Every process's picklable value, in the order of their ranks, on every process."""
        values: list[Any] = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(values, value)
        return values

    def align(self, tensors: Iterable[Tensor]) -> None:
        """Give every process the first one's values, in place."""
        for tensor in tensors if self.size > 1 else ():
            dist.broadcast(tensor, src=0)


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
        raise UsageError(
            f"--device {name} was asked for, but torch sees {format_count(seen, 'GPU')} here; use --device {usable}."
        )
    return device


@contextmanager
def process_group(device: str = "auto") -> Iterator[ProcessGroup]:
    """Join the processes of this run for the length of the block; a single process needs no launcher.

    Within another such block, the processes are those that have already joined.

    Raises:
        UsageError: the variables that a launcher sets are incomplete or contradict each other.
        TrainingError: the other processes did not come, or one of them has ended.
    """
    launched = launched_rank()
    if launched is None or launched.size == 1:
        yield ProcessGroup(0, 1, choose_device(device))
        return
    chosen = choose_device(device)
    if chosen.type == "cuda":
        chosen = _own_gpu(launched)
        torch.cuda.set_device(chosen)
    if dist.is_initialized():
        yield ProcessGroup(dist.get_rank(), dist.get_world_size(), chosen)
        return
    store = dist.PrefixStore("crkd", _meet(launched))
    backend = "nccl" if chosen.type == "cuda" else "gloo"
    try:
        dist.init_process_group(backend, store=store, rank=launched.rank, world_size=launched.size, timeout=_TIMEOUT)
        try:
            yield ProcessGroup(dist.get_rank(), dist.get_world_size(), chosen)
        finally:
            dist.destroy_process_group()
    except RuntimeError as error:
        if not _is_about_another(error):
            raise
        # It says itself what happened to it, or its launcher does, which then ends this process.
        time.sleep(_LAUNCHER_WAIT_S)
        raise TrainingError(
            f"another of the {launched.size} processes of this run has ended; run the same command again: it continues."
        ) from error


@contextmanager
def shared_writer(
    workspace: Workspace, processes: ProcessGroup, request: ArtifactRequest
) -> Iterator[tuple[ArtifactWriter | None, Path | None]]:
    """The first process opens the artifact; all get its folder, or None where an equal one is finished."""
    if not processes.is_first:
        folder = processes.broadcast(None)
        yield None, Path(str(folder)) if folder else None
        return
    with workspace.write(request) as writer:
        processes.broadcast(None if writer.finished else str(writer.path))
        yield writer, None if writer.finished else writer.path


def pin_processes(command: Command, processes: ProcessGroup) -> Command:
    """The command of a run, such that it has as many processes also where another launcher started them."""
    is_local = os.environ.get("LOCAL_WORLD_SIZE") == str(processes.size)
    if processes.size == 1 or command.has("--gpus") or command.has("--processes") or not is_local:
        return command
    return command.setting("--gpus" if processes.device.type == "cuda" else "--processes", processes.size)


def _own_gpu(launched: LaunchedRank) -> torch.device:
    count = torch.cuda.device_count()
    index = launched.rank % count if launched.local_rank is None else launched.local_rank
    if index >= count:
        raise UsageError(
            f"LOCAL_RANK={index} asks for one GPU more than the {count} that torch sees on this machine; start "
            f"{format_count(count, 'process', 'processes')} on it."
        )
    return torch.device("cuda", index)


def _is_about_another(error: RuntimeError) -> bool:
    return isinstance(error, dist.DistError) or "gloo" in str(error) or "closed by peer" in str(error)


def _meet(launched: LaunchedRank) -> dist.Store:
    """The store through which the processes of a run find each other, once they are there.

    Waiting for them happens in a thread of its own, since it would not let Ctrl-C through.
    """
    met: list[dist.Store] = []
    failed: list[Exception] = []

    def wait() -> None:
        try:
            met.append(next(dist.rendezvous("env://", timeout=_MEETING))[0])
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    thread.join()
    if failed:
        reason = str(failed[0]).strip().partition("\n")[0]
        if "EADDRINUSE" in reason:
            raise TrainingError(
                f"the port of {launched.address}, where the processes of this run would meet, is in use; choose "
                f"another MASTER_PORT, or, if the variables are left over: {how_to_unset()}"
            )
        raise TrainingError(
            f"the {launched.size} processes that WORLD_SIZE announces did not meet at {launched.address} within "
            f"{_MEETING.total_seconds():.0f} s; if RANK and WORLD_SIZE are left over: {how_to_unset()}"
        ) from failed[0]
    return met[0]


def launch(module: str, arguments: Sequence[str], processes: int) -> int:
    """Run ``python -m module arguments`` in `processes` processes of this machine and wait; returns an exit status.

    Every process runs the same command under torch's elastic launcher, as ``torchrun`` would start it.

    Raises:
        TrainingError: the processes were killed from outside.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

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
        logs_specs=DefaultLogsSpecs(log_dir=os.devnull),
    )
    try:
        elastic_launch(config, sys.executable)("-m", module, *arguments)
    except ChildFailedError as error:
        codes = {rank: failure.exitcode for rank, failure in error.failures.items()}
        exited = [code for code in codes.values() if code > 0]
        killed = {rank: -code for rank, code in codes.items() if code < 0}
        # One that aborts, or is told to end, while another reports an error is what follows from that error.
        first = {rank: number for rank, number in killed.items() if number not in (signal.SIGABRT, signal.SIGTERM)}
        if exited and not first:
            return exited[0]
        rank, number = next(iter((first or killed).items()))
        raise TrainingError(
            f"process {rank} of {processes} was killed by signal {number}"
            f"{' (out of memory?)' if number == signal.SIGKILL else ''}; use a smaller batch or fewer processes, and "
            "run the same command again: it continues."
        ) from None
    return 0
