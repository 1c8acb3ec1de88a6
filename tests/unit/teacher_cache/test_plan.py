"""Which items an extraction writes, in which shard and batch."""

import pytest

from crkd_core.artifacts.shards import ItemKey, shard_name
from crkd_core.config.loading import load_config
from crkd_core.teacher_cache.item_plan import ItemPlan, detections_part


@pytest.fixture
def plan() -> ItemPlan:
    """Three samples in two views, in shards of four, computed two at a time."""
    overrides = ["distill.targets.views=2", "distill.targets.samples_per_shard=4", "train.distill.batch_size=2"]
    return ItemPlan(["a", "b", "c"], load_config("tiny", None, overrides))


def test_all_samples_of_a_view_follow_each_other_and_batches_end_with_their_shard(plan):
    assert plan.shards == [[(0, 0), (1, 0), (2, 0), (0, 1)], [(1, 1), (2, 1)]]
    assert plan.batches(0) == [[(0, 0), (1, 0)], [(2, 0), (0, 1)]]
    assert plan.batches(1) == [[(1, 1), (2, 1)]]
    assert len(plan) == 6
    assert plan.scored_shards == [0]


def test_every_item_is_found_in_its_batch(plan):
    located = [plan.locate(number) for number in range(len(plan))]
    assert [key for _, key in located] == [ItemKey(token, view) for view in (0, 1) for token in "abc"]
    assert located[3][0] == [(2, 0), (0, 1)]


def test_a_shard_is_missing_until_its_detections_are_there_too(plan, tmp_path):
    assert plan.missing(tmp_path) == [0, 1]
    assert plan.missing(tmp_path, rank=1, size=2) == [1]
    (tmp_path / shard_name(0)).touch()
    (tmp_path / shard_name(1)).touch()
    assert plan.missing(tmp_path) == [0]
    (tmp_path / detections_part(0)).touch()
    assert not plan.missing(tmp_path)
