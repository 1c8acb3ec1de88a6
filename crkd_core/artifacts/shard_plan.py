"""Division of work into shards: what a killed run continues from, and what several processes share out."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Generic, TypeVar

Unit = TypeVar("Unit")
Result = TypeVar("Result")


class ShardPlan(ABC, Generic[Unit]):
    """Units of work in shards, which are written whole, of batches, which are computed at once.

    Batches never cross shards, and neither depends on the number of processes. So a continued run computes the same
    batches as an uninterrupted one, and so do several processes together.

    Args:
        units: everything there is to do.
        shard_size, batch_size: units of each shard and batch, fewer in the last.
    """

    def __init__(self, units: list[Unit], shard_size: int, batch_size: int) -> None:
        self.shards = [units[start : start + shard_size] for start in range(0, len(units), shard_size)]
        self._batch_size = batch_size

    @abstractmethod
    def files(self, shard: int) -> list[str]:
        """Names of the files that a shard is written to."""

    def batches(self, shard: int) -> list[list[Unit]]:
        """The batches of a shard."""
        units = self.shards[shard]
        return [units[start : start + self._batch_size] for start in range(0, len(units), self._batch_size)]

    def count(self, shards: Iterable[int]) -> int:
        """Units in these shards."""
        return sum(len(self.shards[number]) for number in shards)

    def share(self, rank: int = 0, size: int = 1) -> range:
        """Shards of the process of a rank, of `size` processes."""
        return range(rank, len(self.shards), size)

    def missing(self, folder: Path, rank: int = 0, size: int = 1) -> list[int]:
        """Shards that the process of a rank has still to write."""
        return [number for number in self.share(rank, size) if not self._is_written(folder, number)]

    def _is_written(self, folder: Path, shard: int) -> bool:
        return all((folder / file).exists() for file in self.files(shard))

    def by_shard(self, shards: Iterable[int], results: Iterator[Result]) -> Iterator[tuple[int, Iterator[Result]]]:
        """The number of each of the shards with the results of its batches, of those that come batch after batch.

        They are computed as they are taken; take all of a shard before the next.
        """
        for number in shards:
            yield number, islice(results, len(self.batches(number)))
