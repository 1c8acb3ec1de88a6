"""Running real commands in processes of their own, on a full disk or until they are stopped.

The processes are forked from one that has imported everything and done nothing, so that a command costs a fraction of a
second instead of the seconds that importing torch takes.
"""

import ctypes
import io
import multiprocessing
import os
import resource
import signal
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

from tests.support.checkout import ROOT

_PRELOADED = [
    "crkd_cli.app",
    "crkd_core.stages.simulate",
    "crkd_core.stages.prepare",
    "crkd_core.stages.train_teacher",
    "crkd_core.stages.extract_teacher",
    "crkd_core.stages.distill",
    "crkd_core.stages.evaluate",
    "crkd_core.stages.visualize",
    "torch._dynamo",  # the optimisers import it when first used
    "tensorboard.summary.writer.record_writer",
    "nuscenes.eval.detection.evaluate",
]


@dataclass(frozen=True)
class Fault:
    """What goes wrong in a process.

    Attributes:
        full_when_writing: the disk is full from the moment when a file of this name is written ("" for from the start).
        file_bytes: a full disk still takes files up to this size.
        kill_at_flush: SIGKILL when this many files were flushed to disk.
    """

    full_when_writing: str | None = None
    file_bytes: int = 0
    kill_at_flush: int | None = None


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit status (negative: the signal that killed it) and what it said."""

    code: int
    out: str
    err: str


class Runner:
    """Starts commands in an empty folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        path = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = str(ROOT)
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(_PRELOADED)
        try:
            multiprocessing.forkserver.ensure_running()
        finally:
            os.environ.pop("PYTHONPATH") if path is None else os.environ.update(PYTHONPATH=path)

    def run(self, *arguments: object, fault: Fault | None = None) -> Ended:
        """Runs ``crkd ARGUMENTS`` to its end."""
        streams = [self._context.Pipe(duplex=False) for _ in range(2)]
        writers = [writer for _, writer in streams]
        typed = [str(argument) for argument in arguments]
        process = self._context.Process(target=_command, args=(typed, str(self._folder), *writers, fault or Fault()))
        process.start()
        texts = [io.BytesIO(), io.BytesIO()]
        readers = []
        for (reader, writer), text in zip(streams, texts):
            writer.close()
            readers.append(threading.Thread(target=_drain, args=(reader, text)))
            readers[-1].start()
        process.join(timeout=120)
        if process.is_alive():
            process.kill()
        for thread in readers:
            thread.join()
        return Ended(process.exitcode or 0, *(text.getvalue().decode() for text in texts))


def _drain(reader, text: io.BytesIO) -> None:
    while block := os.read(reader.fileno(), 1 << 16):
        text.write(block)
    reader.close()


def _command(arguments: list[str], folder: str, out, err, fault: Fault) -> None:
    os.dup2(out.fileno(), 1)
    os.dup2(err.fileno(), 2)
    out.close()
    err.close()
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.update(OMP_NUM_THREADS="1", COLUMNS="80")
    os.chdir(folder)
    _obey_permissions()
    _arrange(fault)
    from crkd_cli.app import main

    try:
        main(arguments)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _obey_permissions() -> None:
    # Root may write everywhere; without these two capabilities (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH) it may not.
    libc = ctypes.CDLL(None)
    header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    if libc.capget(header, sets) == 0:
        sets[0] &= ~0b110
        libc.capset(header, sets)


def _arrange(fault: Fault) -> None:
    def fill() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (fault.file_bytes, resource.RLIM_INFINITY))

    full_when_writing = fault.full_when_writing
    if full_when_writing == "":
        fill()
    elif full_when_writing is not None:
        # Python's own writers open the temporary file; Arrow's and Pillow's are announced by its folder's creation.
        from crkd_core.artifacts import atomic

        original = atomic.explain_write_errors

        def announce(path):
            if full_when_writing in Path(path).name:
                fill()
            return original(path)

        atomic.explain_write_errors = announce

        def opened(event, details):
            if (
                event == "open"
                and full_when_writing in os.path.basename(str(details[0]))
                and set("wa") & set(str(details[1] or ""))
            ):
                fill()

        sys.addaudithook(opened)
    if fault.kill_at_flush is not None:
        flushed = []
        original_flush = os.fsync

        def flush(descriptor):
            original_flush(descriptor)
            flushed.append(descriptor)
            if len(flushed) >= fault.kill_at_flush:
                os.kill(os.getpid(), signal.SIGKILL)

        os.fsync = flush
