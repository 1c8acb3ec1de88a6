"""Training runs that take milliseconds: a regression on random numbers, which can be killed at any batch."""

import torch
from torch import nn

from crkd_core.artifacts.command import Command
from crkd_core.config.loading import load_config
from crkd_core.config.train import RunConfig, TrainConfig
from crkd_core.data.samples import Batch
from crkd_core.geometry.sensors import SensorInputs
from crkd_core.training.distributed import ProcessGroup
from crkd_core.training.training_plan import TrainingPlan

STEPS_PER_EPOCH, EPOCHS = 5, 3


class Regression(nn.Module):
    """A step with batch statistics and dropout, so that buffers and random numbers matter for resuming."""

    def __init__(self, bad_at: int | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 1))
        self.bad_at, self.calls, self.progress = bad_at, 0, []

    def forward(self, batch, progress):
        self.progress.append(progress)
        x = batch.inputs.bev_augmentation.flatten(0, 1)
        self.calls += 1
        loss = (self.net(x) - x.sum(dim=1, keepdim=True)).square().mean()
        return {"fit": loss if self.calls != self.bad_at else loss * float("nan"), "small": 0.01 * loss}


class Killed(Exception):
    pass


class RandomBatches:
    """Random numbers; dies at one batch of one epoch."""

    steps_per_epoch = STEPS_PER_EPOCH

    def __init__(self, kill_at=None, accumulate=1) -> None:
        self._kill_at = kill_at
        self._accumulate = accumulate

    def of_epoch(self, epoch, start):
        for number in range(start * self._accumulate, STEPS_PER_EPOCH * self._accumulate):
            if (epoch, number) == self._kill_at:
                raise Killed
            generator = torch.Generator().manual_seed(epoch * 100 + number)
            data = torch.randn(8, 4, 4, generator=generator)
            yield Batch(["token"] * 8, [0] * 8, SensorInputs(None, None, None, None, data), [], [], None)


CPU = ProcessGroup(0, 1, torch.device("cpu"))


def plan_of(settings=None, **schedule) -> TrainingPlan:
    train_config = TrainConfig(warmup_steps=3, **(settings or {}))
    config = load_config("tiny").model_copy(update={"train": train_config})
    run = RunConfig(epochs=EPOCHS, learning_rate=1e-2, **schedule)
    return TrainingPlan(
        "train-teacher", "test", "teacher", Command("train-teacher"), config, config.teacher, schedule=run
    )
