"""What an extraction writes: the items (samples times views), in shards and batches."""

from pathlib import Path

from crkd_core.artifacts.shards import ItemKey, shard_name
from crkd_core.config.schema import Config

Item = tuple[int, int]
"""Index of a sample, number of a view."""
SCORED_VIEW = 0
"""The view in which the teacher's detections are scored."""


class ItemPlan:
    """Which items there are, and which shard holds which: all samples of a view follow each other.

    Attributes:
        tokens: the training samples.
        views: views of each.
        shards: items of every shard.
    """

    def __init__(self, tokens: list[str], config: Config) -> None:
        self.tokens = tokens
        self.views = config.distill.targets.views
        self._batch_size = config.train.distill.batch_size
        items = [(index, view) for view in range(self.views) for index in range(len(tokens))]
        size = config.distill.targets.samples_per_shard
        self.shards = [items[start : start + size] for start in range(0, len(items), size)]

    def __len__(self) -> int:
        """Number of items."""
        return len(self.tokens) * self.views

    def missing(self, folder: Path, rank: int = 0, size: int = 1) -> list[int]:
        """Shards that the process of a rank, of `size` processes, has still to write."""
        return [n for n in range(rank, len(self.shards), size) if not self._is_written(folder, n)]

    def _is_written(self, folder: Path, shard: int) -> bool:
        files = [shard_name(shard)]
        if self._is_scored(shard):
            files.append(detections_part(shard))
        return all((folder / file).exists() for file in files)

    def batches(self, shard: int) -> list[list[Item]]:
        """Batches never cross shards, so that a continued run computes the same ones as an uninterrupted one."""
        items = self.shards[shard]
        return [items[start : start + self._batch_size] for start in range(0, len(items), self._batch_size)]

    def locate(self, number: int) -> tuple[list[Item], ItemKey]:
        """The batch and the key of an item."""
        shard, within = divmod(number, len(self.shards[0]))
        index, view = self.shards[shard][within]
        return self.batches(shard)[within // self._batch_size], ItemKey(self.tokens[index], view)

    @property
    def scored_shards(self) -> list[int]:
        """Shards with samples whose detections are scored."""
        return [shard for shard in range(len(self.shards)) if self._is_scored(shard)]

    def _is_scored(self, shard: int) -> bool:
        return any(view == SCORED_VIEW for _, view in self.shards[shard])


def detections_part(shard: int) -> str:
    """File name of the teacher's detections in the scored samples of a shard."""
    return f"teacher_detections-{shard:05d}.parquet"
