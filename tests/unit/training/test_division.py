"""Runs that are continued on other processes: equally many samples a step, or a sentence."""

import json
from dataclasses import replace

import pytest
import torch

from crkd_core.artifacts.command import Command
from crkd_core.config.loading import load_config, with_overrides
from crkd_core.training.distributed import ProcessGroup
from crkd_core.training.division import Division
from crkd_core.training.training_plan import TrainingPlan

CONFIG = load_config("tiny")


def plan_of(config) -> TrainingPlan:
    schedule = config.train.teacher
    return TrainingPlan("train-teacher", "t", "teacher", Command("train-teacher"), config, config.teacher, schedule)


def misfit(overrides: list[str], processes: int, before: int = 4) -> str | None:
    stopped = json.loads(json.dumps(plan_of(CONFIG).settings(before)))
    plan = plan_of(with_overrides(CONFIG, overrides))
    return plan.output(ProcessGroup(0, processes, torch.device("cpu"))).misfit(stopped)


@pytest.mark.parametrize(
    ("overrides", "processes"),
    [
        (["train.teacher.batch_size=8"], 1),
        (["train.teacher.batch_size=4"], 2),
        (["train.teacher.accumulate=2"], 2),
        (["train.teacher.batch_size=1", "train.teacher.accumulate=8"], 1),
        (["train.teacher.batch_size=1"], 8),
    ],
)
def test_equally_many_samples_a_step_can_be_continued(overrides, processes):
    assert misfit(overrides, processes) == ""


@pytest.mark.parametrize(
    ("overrides", "processes", "advice"),
    [
        ([], 2, "(4 processes x 2), this one 4 (2 processes x 2); continue it with --set train.teacher.accumulate=2"),
        ([], 1, "this one 2 (1 process x 2); continue it with --set train.teacher.accumulate=4"),
        (["train.teacher.batch_size=3"], 2, "--set train.teacher.batch_size=4 --set train.teacher.accumulate=1"),
        (["train.teacher.accumulate=3"], 8, "this one 48 (8 processes x 3 x 2); continue it with --set train.teacher."),
        ([], 3, "continue it on a number of processes that divides 8"),
    ],
)
def test_others_are_refused_with_what_to_do(overrides, processes, advice):
    assert advice in (misfit(overrides, processes) or "")


def test_runs_of_other_settings_are_just_others():
    assert misfit(["train.seed=3", "train.teacher.accumulate=2"], 2) is None
    assert misfit([], 4) is None
    assert plan_of(CONFIG).output(ProcessGroup(0, 1, torch.device("cpu"))).misfit({"no": "run"}) is None


def test_divisions_are_alike_from_any_step_on():
    division = Division(0, 2, 4)
    assert division.is_like(replace(division, from_step=7))
    assert not division.is_like(replace(division, accumulate=2))
    assert (division.samples, str(replace(division, accumulate=3))) == (8, "2 processes x 3 x 4")
