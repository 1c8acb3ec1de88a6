"""``--gpus N`` and ``--processes N``: the same command, in several processes."""

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from crkd_cli import console
from crkd_cli.session import INTERRUPTED, RELAUNCHED_VARIABLE, Session, Terminated
from crkd_core.errors import UsageError
from crkd_core.processes import LaunchedRank, how_to_unset, launched_rank
from crkd_core.progress import format_count


def spread(session: Session, device: str, gpus: int | None, processes: int | None) -> str:
    """Check the machine options and, if several processes are asked for, run the command in them instead.

    Call it once everything else that can be wrong was checked, so that errors are shown once. Returns the device for
    this process's stage.

    Raises:
        UsageError: the options contradict each other or the launcher's variables, or there are not so many GPUs.
        typer.Exit: the processes have done the work; carries their exit status.
    """
    from crkd_core.cores import check_ranks
    from crkd_core.training.distributed import choose_device

    launched = launched_rank()
    device = _agreed_device(device, gpus, processes)
    check_ranks(processes or 1)
    count = gpus or processes or 1
    if launched is not None and launched.size > 1:
        _check_launched(launched, count)
    elif count > 1:
        raise typer.Exit(_run_in_processes(session, count))
    choose_device(device)
    return device


def _check_launched(launched: LaunchedRank, count: int) -> None:
    if count > launched.size:
        raise UsageError(
            f"{count} processes were asked for in one of {launched.size} that a launcher started (RANK, WORLD_SIZE); "
            f"leave the option out, or, if the variables are left over: {how_to_unset()}"
        )
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        console.show_note(
            f"Process {launched.rank} of {launched.size} (RANK, WORLD_SIZE), waiting for the others at "
            f"{launched.address}. If there are none, press Ctrl-C and: {how_to_unset()}"
        )


def _agreed_device(device: str, gpus: int | None, processes: int | None) -> str:
    import torch

    if gpus is not None and processes is not None:
        raise UsageError(
            "--gpus and --processes exclude each other: --gpus N runs on N GPUs, --processes N on the CPU."
        )
    if processes is not None and processes > 1:
        if device not in ("auto", "cpu"):
            raise UsageError(
                f"--processes {processes} runs on the CPU and does not go with --device {device}; use --gpus."
            )
        return "cpu"
    if gpus is None:
        return device
    if device not in ("auto", "cuda") and not (gpus == 1 and device.startswith("cuda:")):
        raise UsageError(f"--gpus {gpus} does not go with --device {device}; leave one of them out.")
    available = torch.cuda.device_count()
    if gpus > available:
        seen = format_count(available, "GPU")
        advice = f"use --gpus {available}" if available else "leave --gpus out, or use --processes N for CPU processes"
        raise UsageError(f"--gpus {gpus} was asked for, but torch sees {seen} on this machine; {advice}.")
    return "cuda" if device == "auto" else device


def _run_in_processes(session: Session, count: int) -> int:
    from torch.distributed.elastic.multiprocessing.api import SignalException

    from crkd_core.training.distributed import launch

    # The processes report their errors themselves; the launcher would repeat each with a page of its own.
    logging.disable(logging.CRITICAL)
    os.environ.setdefault("OMP_NUM_THREADS", str(max((os.cpu_count() or 1) // count, 1)))
    if not session.debug:
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    os.environ[RELAUNCHED_VARIABLE] = str(os.getpid())
    try:
        with _handlers_kept():
            status = launch("crkd_cli", session.arguments, count)
    except SignalException as error:
        raise (Terminated if error.sigval == signal.SIGTERM else KeyboardInterrupt) from None
    finally:
        logging.disable(logging.NOTSET)
        del os.environ[RELAUNCHED_VARIABLE]
    if status == INTERRUPTED:
        raise KeyboardInterrupt
    return status


@contextmanager
def _handlers_kept() -> Iterator[None]:
    # The launcher installs its own, whose exception would be an unknown error to everybody but it.
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT") if hasattr(signal, name)]
    handlers = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler or signal.SIG_DFL)
