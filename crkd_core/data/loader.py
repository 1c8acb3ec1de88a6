"""Batches from loader processes, with errors that stay the one sentence they were."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from multiprocessing import resource_tracker
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from crkd_core.cores import most_helpers
from crkd_core.data.dataset import SampleDataset
from crkd_core.data.descriptors import allow_open_files, is_about_open_files, spare_descriptors
from crkd_core.data.packing import SHARED_MEMORY, PackedBatch, pack, remove_shared_memory
from crkd_core.data.samples import Batch, Sample, collate
from crkd_core.errors import CrkdError
from crkd_core.interrupts import interrupts_held
from crkd_core.processes import end_with_parent

Key = int | tuple[int, int]

_POLL_S = 2.0
# Files that passing a batch on opens for a moment.
_PASSING = 8


@dataclass(frozen=True)
class LoaderOptions:
    """How batches are loaded.

    Attributes:
        workers: processes that load them; 0: the process that asks.
        timeout_s: after so long without any batch from them something is wrong.
        option, timeout_option: how the user sets the two, for messages; a number follows.
    """

    workers: int
    timeout_s: float = 600.0
    option: str = "--set train.workers="
    timeout_option: str | None = "--set train.loader_timeout_s="

    @property
    def fewer(self) -> str:
        """What to try where these are too many."""
        return f"run it again with fewer: {self.option}{self.workers // 2} (what is finished is kept)"


class _ErrorsAsValues(Dataset):
    # torch wraps an exception of a loader process in its traceback's text; as a value it arrives unchanged.
    def __init__(self, dataset: SampleDataset, options: LoaderOptions) -> None:
        self._dataset = dataset
        self._options = options

    def __getitem__(self, key: Key) -> Sample | CrkdError:
        try:
            return self._dataset[key]
        except (CrkdError, OSError, MemoryError) as error:
            # A file that could not be opened for want of descriptors is not damaged, whoever caught it.
            explained = _explain(error, self._options)
            if explained is not None:
                return explained
            if not isinstance(error, CrkdError):
                raise
            return error


class _Collate:
    def __init__(self, options: LoaderOptions) -> None:
        self._options = options

    def __call__(self, items: list[Sample | CrkdError]) -> Batch | PackedBatch | CrkdError:
        samples = []
        for item in items:
            if isinstance(item, CrkdError):
                return item
            samples.append(item)
        batch = collate(samples)
        if get_worker_info() is None:
            return batch
        try:
            # torch hands the batch on in a thread, whose errors nobody would ever hear of.
            spare_descriptors(_PASSING)
            return pack(batch)
        except (OSError, RuntimeError, MemoryError) as error:
            explained = _explain(error, self._options)
            if explained is None:
                raise
            remove_shared_memory(os.getpid(), since=0.0)
            return explained


def load_batches(
    dataset: SampleDataset, batches: Iterable[list[Any]], options: LoaderOptions, device: torch.device
) -> Iterator[Batch]:
    """Batches for lists of dataset keys; where there are few cores, from fewer processes than asked for.

    Raises:
        CrkdError: what reading a sample raised; a loader process was killed, or was not heard of for too long; open
            files or shared memory do not suffice for so many.
    """
    workers = min(options.workers, most_helpers(), len(batches) if isinstance(batches, Sized) else options.workers)
    options = replace(options, workers=workers)  # so that fewer than these are advised where there are too many
    if workers:
        allow_open_files(workers, options.option)
    loader: DataLoader = DataLoader(
        _ErrorsAsValues(dataset, options),
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=_Collate(options),
        pin_memory=device.type == "cuda",
        timeout=min(_POLL_S, options.timeout_s) if workers else 0,
        worker_init_fn=_start_worker,
    )
    received: AbstractContextManager[Iterable[Any]] = _Received(loader, options) if workers else nullcontext(loader)
    with received as loaded:
        for batch in loaded:
            if isinstance(batch, CrkdError):
                raise batch
            yield batch.unpack() if isinstance(batch, PackedBatch) else batch


def _start_worker(_: int) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    end_with_parent()


class _ProcessEnded(RuntimeError):
    """A loader process has ended while a batch was waited for."""


class _Received:
    """What loader processes send, in order; whatever goes wrong with them becomes one sentence."""

    def __init__(self, loader: DataLoader, options: LoaderOptions) -> None:
        self._options = options
        self._received = 0
        self._began = time.time()
        self._owner = os.getpid()
        self._total = len(loader) if isinstance(loader.batch_sampler, Sized) else None
        if multiprocessing.get_start_method() != "fork":
            # Python starts it with the first queue otherwise, and lets Ctrl-C through again by that.
            resource_tracker.ensure_running()
        try:
            with interrupts_held(), _child_handler(None):
                batches: Any = iter(loader)
        except OSError as error:
            reason = error.strerror or error
            raise CrkdError(
                f"{loader.num_workers} loader processes could not be started: {reason}; {options.fewer}"
            ) from None
        self._batches, self._workers = batches, list(batches._workers)

    def __enter__(self) -> "_Received":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # A process that is forked later may be the one that tidies up what was forgotten here.
        if os.getpid() != self._owner:
            return
        # torch would let them finish the batches that nobody wants any more.
        if kind is not None:
            self._end_workers()
        self._batches._shutdown_workers()

    def __iter__(self) -> "_Received":
        return self

    def __next__(self) -> Any:
        began = time.monotonic()
        while True:
            try:
                batch = self._receive()
            except StopIteration:
                raise
            except Exception as error:
                waited = time.monotonic() - began
                timed_out = isinstance(error, RuntimeError) and str(error).startswith("DataLoader timed out")
                if timed_out and waited < self._options.timeout_s:
                    continue
                explained = self._silent(waited) if timed_out else self._explain(error)
                if explained is None:
                    raise
                raise explained from None
            self._received += 1
            return batch

    def _receive(self) -> Any:
        if self._received == self._total:
            return next(self._batches)
        with _child_handler(self._check_workers):
            self._check_workers()
            return next(self._batches)

    def _check_workers(self) -> None:
        if any(worker.exitcode for worker in self._workers):
            raise _ProcessEnded

    def _explain(self, error: Exception) -> CrkdError | None:
        if isinstance(error, EOFError | OSError):
            # A process that is about to end has let go of its end of a pipe.
            for worker in self._workers:
                worker.join(_POLL_S / len(self._workers))
        for number, worker in enumerate(self._workers, start=1):
            if not worker.is_alive():
                return self._ended(number, worker.exitcode)
        return _explain(error, self._options)

    def _ended(self, number: int, code: int | None) -> CrkdError:
        reason = f"with status {code}"
        if code is not None and code < 0:
            guesses: dict[int, str] = {
                signal.SIGKILL: " (out of memory?)",
                signal.SIGBUS: f" (is {SHARED_MEMORY} full?)",
            }
            reason = f"by signal {-code}{guesses.get(-code, '')}"
        return CrkdError(
            f"loader process {number} of {len(self._workers)}, which reads sensor files, was ended {reason}; "
            f"{self._options.fewer}"
        )

    def _silent(self, waited_s: float) -> CrkdError:
        number = self._received % len(self._workers) + 1
        option = self._options.timeout_option
        longer = f" or wait longer: {option}{max(round(2 * self._options.timeout_s), 1)}" if option else ""
        return CrkdError(
            f"loader process {number} of {len(self._workers)} has sent no batch for {waited_s:.0f} s (does the disk "
            f"answer?); {self._options.fewer}{longer}"
        )

    def _end_workers(self) -> None:
        for worker in self._workers:
            worker.terminate()
        for worker in self._workers:
            worker.join(_POLL_S)
            if worker.pid is not None and not worker.is_alive():
                remove_shared_memory(worker.pid, since=self._began)


@contextmanager
def _child_handler(handler: Any) -> Iterator[None]:
    """Have a handler called when a child process ends (None: as before), and leave the one that was there, afterwards.

    torch would leave its own for good, which raises an error of its own in whatever the process is doing by then.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGCHLD"):
        yield
        return
    before = signal.getsignal(signal.SIGCHLD)
    if getattr(before, "__module__", "").startswith("torch."):
        before = signal.SIG_DFL  # left by a loader of somebody else in this process

    def both(number: int, frame: Any) -> None:
        if callable(before):
            before(number, frame)
        handler()

    if handler is not None:
        signal.signal(signal.SIGCHLD, both)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, before or signal.SIG_DFL)


def _explain(error: BaseException, options: LoaderOptions) -> CrkdError | None:
    """One sentence for what the system has too little of; None for other errors."""
    if is_about_open_files(error):
        fewer = f", or {options.fewer}" if options.workers else ""
        return CrkdError(f"this process may open no more files; allow more (ulimit -n 4096){fewer}")
    if isinstance(error, MemoryError) and options.workers:
        return CrkdError(f"there is too little memory for {options.workers} loader processes; {options.fewer}")
    if "shared memory" in str(error):
        return CrkdError(
            f"the shared memory {SHARED_MEMORY} is full; make it larger (docker run --shm-size=8g) or {options.fewer}"
        )
    return None
