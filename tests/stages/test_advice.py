"""What status recommends fits the prepared data there are."""

import pytest

from crkd_core.artifacts.advice import DataAdvice
from crkd_core.artifacts.command import Command
from crkd_core.artifacts.status import CHAIN


def data(splits: dict[str, int], own: tuple[str, ...] = (), lidar: bool = True) -> dict:
    return {"samples_per_split": splits, "own_splits": list(own), "lidar": lidar}


TRAINVAL = data({"train": 700, "val": 150})
TEST = data({"test": 150})
OWN = data({"my_train": 4, "my_val": 2}, own=("my_train", "my_val"))


@pytest.mark.parametrize(
    ("prepared", "stage", "trained_on", "expected"),
    [
        ([], "train-teacher", None, "crkd train-teacher"),
        ([TRAINVAL], "train-teacher", None, "crkd train-teacher"),
        ([TRAINVAL, TEST], "train-teacher", None, "crkd train-teacher"),
        ([data({"mini_train": 8, "mini_val": 2})], "distill", None, "crkd distill"),
        ([TEST], "train-teacher", None, "crkd prepare --nuscenes DIR"),
        ([data({"val": 2})], "train-teacher", None, "crkd prepare --nuscenes DIR"),
        ([data({"train": 2})], "evaluate", None, "crkd prepare --nuscenes DIR"),
        ([TRAINVAL, TEST], "evaluate", None, "crkd evaluate"),
        ([TRAINVAL, TEST], "evaluate", "trainval", "crkd evaluate --split test"),
        ([TRAINVAL], "evaluate", "trainval", "crkd evaluate"),
        ([OWN], "train-teacher", None, "crkd train-teacher --split my_train"),
        ([OWN], "extract-teacher", None, "crkd extract-teacher --split my_train"),
        ([OWN], "evaluate", "my_train", "crkd evaluate --split my_val"),
        ([data({"a b": 4, "c": 9}, own=("a b", "c"))], "distill", None, "crkd distill --split c"),
        ([data({"a b": 4, "c": 9}, own=("a b", "c"))], "evaluate", "c", "crkd evaluate --split 'a b'"),
        ([data({"train": 7, "val": 1}, lidar=False)], "distill", None, "crkd distill --losses none"),
        ([data({"train": 7, "val": 1}, lidar=False), TRAINVAL], "distill", None, "crkd distill"),
        ([TRAINVAL], "visualize", None, "crkd visualize"),
    ],
)
def test_the_command_works_on_the_data(prepared, stage, trained_on, expected):
    usual = Command.parse(CHAIN[stage])
    assert usual is not None
    command, _ = DataAdvice(prepared).command(stage, usual, trained_on)
    assert command.text(None) == expected
