"""A training plan: what of it decides the weights, and what only how they are computed."""

from dataclasses import replace

import pytest
import torch

from crkd_core.artifacts.command import Command
from crkd_core.config.loading import load_config, with_overrides
from crkd_core.training.checkpoint import CHECKPOINT_NAME
from crkd_core.training.distributed import ProcessGroup
from crkd_core.training.training_plan import TrainingPlan

CONFIG = load_config("tiny")
ALONE = ProcessGroup(0, 1, torch.device("cpu"))


def plan_of(config=CONFIG) -> TrainingPlan:
    return TrainingPlan(
        "train-teacher", "teacher", "teacher", Command("train-teacher"), config, config.teacher, config.train.teacher
    )


@pytest.mark.parametrize(
    "override", ["train.workers=3", "train.compile=true", "train.log_gradients=5", "train.checkpoint_every_minutes=1"]
)
def test_what_only_changes_how_a_run_computes_makes_no_other_artifact(override):
    other = plan_of(with_overrides(CONFIG, [override]))
    assert other.output(ALONE).fingerprint == plan_of().output(ALONE).fingerprint


@pytest.mark.parametrize("override", ["train.seed=7", "train.teacher.epochs=9", "data.radar.sweeps=1"])
def test_what_decides_the_weights_makes_another_artifact(override):
    other = plan_of(with_overrides(CONFIG, [override]))
    assert other.output(ALONE).fingerprint != plan_of().output(ALONE).fingerprint


def test_the_output_says_how_the_run_may_be_written():
    output = replace(plan_of(), force=True, resume=False, options={"split": "trainval"}).output(ALONE)
    assert (output.stage, output.name, output.force, output.resume) == ("train-teacher", "teacher", True, False)
    assert output.settings["split"] == "trainval"
    assert output.irreplaceable == {CHECKPOINT_NAME}
    two = plan_of().output(ProcessGroup(0, 2, torch.device("cpu")))
    assert two.fingerprint != plan_of().output(ALONE).fingerprint, "two processes draw other batches"
