"""The loop: a killed run ends like one that was not, and a broken loss is said so."""

import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from crkd_core.artifacts.command import Command
from crkd_core.config.loading import load_config
from crkd_core.config.train import RunConfig, TrainConfig
from crkd_core.data.samples import Batch
from crkd_core.errors import DamagedArtifactError, TrainingError
from crkd_core.geometry.sensors import SensorInputs
from crkd_core.progress import SilentProgress
from crkd_core.training.autocast import autocast_type
from crkd_core.training.checkpoint import CHECKPOINT_NAME
from crkd_core.training.distributed import ProcessGroup
from crkd_core.training.loop import Trainer
from crkd_core.training.metric_log import METRICS_NAME
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


def train(folder, kill_at=None, minutes=10.0, **step):
    module, plan = Regression(**step), plan_of({"checkpoint_every_minutes": minutes})
    losses = Trainer(module, plan, RandomBatches(kill_at), folder, CPU).fit(SilentProgress())
    return module, losses


@pytest.mark.parametrize(("kill_at", "minutes"), [((1, 0), 10.0), ((1, 3), 10.0), ((2, 4), 1e-9)])
def test_a_killed_run_ends_with_the_same_weights_and_metrics(tmp_path, kill_at, minutes):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole, losses = train(tmp_path / "a")
    with pytest.raises(Killed):
        train(tmp_path / "b", kill_at, minutes)
    continued, losses_again = train(tmp_path / "b")
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, continued.state_dict()[name]), name
    assert losses["loss/total"] == losses_again["loss/total"]
    tables = [pq.read_table(tmp_path / run / METRICS_NAME).to_pylist() for run in "ab"]
    curves = [[(r["step"], r["value"]) for r in t if r["name"] == "loss/total"] for t in tables]
    assert curves[0] == curves[1]
    assert [step for step, _ in curves[0]] == list(range(STEPS_PER_EPOCH * EPOCHS))


def test_training_reduces_the_loss_and_logs_to_tensorboard(tmp_path):
    train(tmp_path)
    rows = pq.read_table(tmp_path / METRICS_NAME).to_pylist()
    total = [row["value"] for row in rows if row["name"] == "loss/total"]
    assert sum(total[-5:]) < 0.8 * sum(total[:5])
    assert {row["name"] for row in rows} >= {
        "loss/fit",
        "loss/small",
        "gradient_norm",
        "learning_rate",
        "data_wait_share",
    }
    assert any(path.stat().st_size > 100 for path in (tmp_path / "logs" / "tensorboard").iterdir())


def test_every_step_is_told_which_share_of_the_run_lies_behind(tmp_path):
    module, _ = train(tmp_path)
    steps = STEPS_PER_EPOCH * EPOCHS
    assert module.progress == [step / steps for step in range(steps)]


def test_a_loss_that_is_not_finite_stops_with_the_term_and_samples(tmp_path):
    with pytest.raises(TrainingError, match=r"step 6 .*fit.*token"):
        train(tmp_path, bad_at=7)


def test_a_damaged_checkpoint_is_said_so(tmp_path):
    with pytest.raises(Killed):
        train(tmp_path, (1, 2))
    checkpoint = tmp_path / CHECKPOINT_NAME
    checkpoint.write_bytes(checkpoint.read_bytes()[:100])
    with pytest.raises(DamagedArtifactError, match="--no-resume"):
        train(tmp_path)


def test_automatic_precision_is_float32_on_a_cpu():
    assert autocast_type("auto", torch.device("cpu")) is None
    assert autocast_type("bf16", torch.device("cpu")) is torch.bfloat16
