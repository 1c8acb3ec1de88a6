"""Batches from loader processes, with errors that stay the one sentence they were."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from crkd_core.cores import most_helpers
from crkd_core.data.dataset import SampleDataset
from crkd_core.data.samples import Batch, Sample, collate
from crkd_core.errors import CrkdError
from crkd_core.interrupts import interrupts_held

Key = int | tuple[int, int]


class _ErrorsAsValues(Dataset):
    # torch wraps an exception of a loader process in its traceback's text; as a value it arrives unchanged.
    def __init__(self, dataset: SampleDataset) -> None:
        self._dataset = dataset

    def __getitem__(self, key: Key) -> Sample | CrkdError:
        try:
            return self._dataset[key]
        except CrkdError as error:
            return error


def _collate(items: list[Sample | CrkdError]) -> Batch | CrkdError:
    samples = []
    for item in items:
        if isinstance(item, CrkdError):
            return item
        samples.append(item)
    return collate(samples)


def load_batches(
    dataset: SampleDataset, batches: Iterable[list[Any]], workers: int, device: torch.device
) -> Iterator[Batch]:
    """Batches for lists of dataset keys, loaded by `workers` processes (0: by this one; few cores: by fewer).

    Raises:
        CrkdError: what reading a sample raised, or a loader process was killed.
    """
    workers = min(workers, most_helpers())
    loader: DataLoader = DataLoader(
        _ErrorsAsValues(dataset),
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=_collate,
        pin_memory=device.type == "cuda",
    )
    with interrupts_held():
        loaded = iter(loader)
    try:
        for batch in loaded:
            if isinstance(batch, CrkdError):
                raise batch
            yield batch
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        raise CrkdError(
            "a process that reads sensor files was ended from outside (out of memory, or out of shared memory in "
            "/dev/shm?); run the same command with fewer of them (--set train.workers=N, or --workers N of evaluate): "
            "it continues."
        ) from None
