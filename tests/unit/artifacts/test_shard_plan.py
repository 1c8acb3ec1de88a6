"""Work in shards: batches within them, whose they are, and which are missing."""

import pytest

from crkd_core.artifacts.shard_plan import ShardPlan


class Letters(ShardPlan[str]):
    def files(self, shard):
        return [f"{shard}.a", f"{shard}.b"]


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_processes_share_all_shards(size):
    plan = Letters(list("abcdefgh"), shard_size=3, batch_size=2)
    assert plan.shards == [["a", "b", "c"], ["d", "e", "f"], ["g", "h"]]
    assert [plan.batches(shard) for shard in range(3)] == [[["a", "b"], ["c"]], [["d", "e"], ["f"]], [["g", "h"]]]
    shares = [list(plan.share(rank, size)) for rank in range(size)]
    assert sorted(shard for share in shares for shard in share) == [0, 1, 2]
    assert sum(plan.count(share) for share in shares) == 8


def test_a_shard_is_missing_until_all_its_files_are_there(tmp_path):
    plan = Letters(list("abcdefgh"), shard_size=3, batch_size=2)
    for file in ("0.a", "0.b", "2.a"):
        (tmp_path / file).touch()
    assert plan.missing(tmp_path) == [1, 2]
    assert plan.missing(tmp_path, rank=0, size=2) == [2]
    assert plan.missing(tmp_path, rank=5, size=6) == []


def test_results_come_together_for_their_shard_and_no_sooner_than_they_are_taken():
    plan = Letters(list("abcdefgh"), shard_size=3, batch_size=2)
    taken = []

    def results():
        for batch in (["d", "e"], ["f"], ["g", "h"]):
            taken.append(batch)
            yield "".join(batch)

    parts = plan.by_shard([1, 2], results())
    shard, of_shard = next(parts)
    assert (shard, taken) == (1, [])
    assert list(of_shard) == ["de", "f"]
    assert [(number, list(rest)) for number, rest in parts] == [(2, ["gh"])]
