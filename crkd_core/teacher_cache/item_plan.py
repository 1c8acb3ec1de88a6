"""What an extraction writes: the items (samples times views), in shards and batches."""

from crkd_core.artifacts.shard_plan import ShardPlan
from crkd_core.artifacts.shards import ItemKey, shard_name
from crkd_core.config.schema import Config

Item = tuple[int, int]
"""Index of a sample, number of a view."""
SCORED_VIEW = 0
"""The view in which the teacher's detections are scored."""
PARTS = "teacher_detections-*.parquet"
"""File names of detections that only an unfinished extraction has."""


class ItemPlan(ShardPlan[Item]):
    """Which items there are, and which shard holds which: all samples of a view follow each other.

    Attributes:
        tokens: the training samples.
        views: views of each.
        shards: items of every shard.
    """

    def __init__(self, tokens: list[str], config: Config) -> None:
        self.tokens = tokens
        self.views = config.distill.targets.views
        items = [(index, view) for view in range(self.views) for index in range(len(tokens))]
        super().__init__(items, config.distill.targets.samples_per_shard, config.train.distill.batch_size)

    def __len__(self) -> int:
        """Number of items."""
        return len(self.tokens) * self.views

    def files(self, shard: int) -> list[str]:
        """The shard itself, and the teacher's detections where some are scored."""
        return [shard_name(shard), *([detections_part(shard)] if self._is_scored(shard) else [])]

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
    return PARTS.replace("*", f"{shard:05d}")
