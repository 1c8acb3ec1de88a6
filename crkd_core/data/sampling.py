"""Which samples an epoch shows in which order, for every process, from any batch on."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from crkd_core.config.classes import DETECTION_CLASSES
from crkd_core.data.augmentation import VIEWS_BETWEEN_REPEATS
from crkd_core.data.dataset import SampleDataset


def class_balanced_indices(classes_of_samples: Sequence[NDArray], generator: np.random.Generator) -> NDArray[np.int64]:
    """Sample indices so that every class's samples are drawn equally often (CBGS); a sample can come several times.

    Every class draws the same number, with replacement, from the samples that hold it: a tenth of the sum over classes
    of the samples that hold each. Samples without any box are never drawn.

    Args:
        classes_of_samples: the classes in each sample; duplicates do not matter.

    Source: Zhu et al., "Class-balanced Grouping and Sampling for Point Cloud 3D Object Detection", section 3.1.
    """
    holders: list[list[int]] = [[] for _ in DETECTION_CLASSES]
    for index, classes in enumerate(classes_of_samples):
        for label in np.unique(classes).tolist():
            holders[label].append(index)
    share = sum(len(samples) for samples in holders) // len(DETECTION_CLASSES)
    drawn = [generator.choice(samples, share) for samples in holders if samples]
    return np.concatenate(drawn).astype(np.int64) if drawn else np.zeros(0, dtype=np.int64)


class TrainingSampler:
    """The batches of one epoch for one process, as lists of ``(index, view number)`` (a torch batch sampler).

    The order is a pure function of seed and epoch; the batches that all processes draw in one step are consecutive in
    it, so that the same total batch size gives the same steps on any number of processes. The order is filled
    up from its beginning to whole steps, so that all processes take equally many.

    The view number is the epoch. A sample that comes several times in an epoch (class balancing) comes in another view
    each time. With stored targets, numbers are taken modulo `views`.

    Args:
        batch_size: samples a process and step.
        views: number of stored views; None where views are drawn freely.
        start: first batch, for continuing in the middle of an epoch.
        class_balanced: resample so that all classes come equally often.
        fraction: of the epoch's samples to use.
    """

    def __init__(
        self,
        dataset: SampleDataset,
        *,
        batch_size: int,
        epoch: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        views: int | None = None,
        start: int = 0,
        class_balanced: bool = False,
        fraction: float = 1.0,
    ) -> None:
        self._dataset = dataset
        self._batch_size = batch_size
        self._epoch = epoch
        self._seed = seed
        self._rank = rank
        self._world_size = world_size
        self._views = views
        self._start = start
        self._class_balanced = class_balanced
        self._fraction = fraction

    @property
    def samples(self) -> int:
        """Samples of the epoch, before its order is filled up to whole steps."""
        return len(self._order())

    @property
    def samples_per_step(self) -> int:
        """Of all processes together."""
        return self._batch_size * self._world_size

    def __len__(self) -> int:
        """Batches from `start` to the end of the epoch; the same for every process and epoch."""
        return max(self._steps(len(self._order())) - self._start, 0)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = self._order()
        numbers = self._view_numbers(order)
        step_size = self.samples_per_step
        filled = np.resize(np.arange(len(order)), self._steps(len(order)) * step_size)
        for step in range(self._start, self._steps(len(order))):
            first = step * step_size + self._rank * self._batch_size
            chosen = filled[first : first + self._batch_size]
            yield list(zip(order[chosen].tolist(), numbers[chosen].tolist(), strict=True))

    def _steps(self, samples: int) -> int:
        return -(-samples // self.samples_per_step)

    def _order(self) -> NDArray[np.int64]:
        generator = np.random.Generator(np.random.Philox(np.random.SeedSequence([self._seed, self._epoch])))
        indices = np.arange(len(self._dataset))
        if self._class_balanced:
            balanced = class_balanced_indices(self._dataset.classes_of_samples, generator)
            indices = balanced if len(balanced) else indices
        generator.shuffle(indices)
        return indices[: max(round(len(indices) * self._fraction), 1)]

    def _view_numbers(self, order: NDArray[np.int64]) -> NDArray[np.int64]:
        by_index = np.argsort(order, kind="stable")
        ordered = order[by_index]
        first = np.searchsorted(ordered, ordered)
        repeats = np.empty(len(order), dtype=np.int64)
        repeats[by_index] = np.arange(len(order)) - first
        if self._views is None:
            return self._epoch + repeats * VIEWS_BETWEEN_REPEATS
        return (self._epoch + repeats) % self._views
