"""A step that takes more samples than an epoch has is told, in every training stage."""

import pytest

from crkd_core.config.loading import load_config
from crkd_core.progress import SilentProgress
from crkd_core.stages.distill import DistillRequest, distill
from crkd_core.stages.train_teacher import TrainTeacherRequest, train_teacher
from tests.support.chain import CHAIN_OVERRIDES

SAID = "a step takes {} samples and an epoch has 4, so every step has some of them several times"


class Warnings(SilentProgress):
    def __init__(self):
        self.lines = []

    def warning(self, text):
        self.lines.append(text)


@pytest.mark.parametrize(("run", "batch"), [("teacher", 5), ("student", 5), ("distill", 5), ("student", 4)])
def test_a_batch_larger_than_the_split(chain, tmp_path, run, batch):
    section = f"train.{run}={{epochs: 1, learning_rate: 1e-3, batch_size: {batch}}}"
    config = load_config("tiny", None, [*CHAIN_OVERRIDES, section])
    workspace, told = chain.copy(tmp_path).workspace, Warnings()
    if run == "teacher":
        train_teacher(TrainTeacherRequest(config, name="again"), workspace, told)
    else:
        losses = () if run == "student" else ("respd",)
        init = "none" if run == "student" else "auto"
        distill(DistillRequest(config, losses=losses, init=init, name="again"), workspace, told)
    said = [line for line in told.lines if "several times" in line]
    assert len(said) == (batch > 4)
    assert all(line.startswith(SAID.format(batch)) for line in said)
