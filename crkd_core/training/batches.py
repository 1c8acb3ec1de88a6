"""The batches of a training run, epoch by epoch."""

from collections.abc import Iterable, Iterator
from typing import Protocol, runtime_checkable

from crkd_core.data.dataset import SampleDataset
from crkd_core.data.loader import LoaderOptions, load_batches
from crkd_core.data.samples import Batch
from crkd_core.data.sampling import TrainingSampler
from crkd_core.progress import Progress
from crkd_core.training.distributed import ProcessGroup
from crkd_core.training.training_plan import TrainingPlan


class Divided:
    """Every batch of a sampler in `parts` equal ones, one after the other (a torch batch sampler)."""

    def __init__(self, sampler: TrainingSampler, parts: int) -> None:
        self._sampler = sampler
        self._parts = parts

    def __len__(self) -> int:
        return len(self._sampler) * self._parts

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for batch in self._sampler:
            size = len(batch) // self._parts
            yield from (batch[first : first + size] for first in range(0, len(batch), size))


@runtime_checkable
class Batches(Protocol):
    """The batches of any epoch for one process, from any position on, always the same."""

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps per epoch."""

    def of_epoch(self, epoch: int, start: int) -> Iterable[Batch]:
        """The batches of an epoch, equally many a step, from step `start` on."""


class EpochBatches:
    """Batches of a data set in the order of :class:`TrainingSampler`, read by loader processes.

    The samples of a step, and of a process in it, do not depend on into how many batches they are divided.
    """

    def __init__(self, dataset: SampleDataset, plan: TrainingPlan, processes: ProcessGroup) -> None:
        self._dataset = dataset
        self._plan = plan
        self._processes = processes
        self._steps_per_epoch = len(self._sampler(0, 0))

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps per epoch."""
        return self._steps_per_epoch

    def of_epoch(self, epoch: int, start: int) -> Iterator[Batch]:
        """The batches of an epoch, ``accumulate`` a step, from step `start` on."""
        train, schedule = self._plan.config.train, self._plan.schedule
        options = LoaderOptions(train.workers, train.loader_timeout_s)
        sampler = self._sampler(epoch, start)
        batches = sampler if schedule.accumulate == 1 else Divided(sampler, schedule.accumulate)
        return load_batches(self._dataset, batches, options, self._processes.device)

    def warn_of_repeats(self, progress: Progress) -> None:
        """Say it where an epoch has fewer samples than a step takes, which is then filled with them again."""
        sampler = self._sampler(0, 0)
        if sampler.samples < sampler.samples_per_step:
            progress.warning(
                f"a step takes {sampler.samples_per_step} samples and an epoch has {sampler.samples}, so every step "
                "has some of them several times; lower the run's batch_size, or use fewer processes"
            )

    def _sampler(self, epoch: int, start: int) -> TrainingSampler:
        config = self._plan.config
        return TrainingSampler(
            self._dataset,
            batch_size=self._plan.schedule.batch_size * self._plan.schedule.accumulate,
            epoch=epoch,
            rank=self._processes.rank,
            world_size=self._processes.size,
            seed=config.train.seed,
            views=self._plan.views,
            start=start,
            class_balanced=config.data.class_balanced,
            fraction=config.data.train_fraction,
        )
