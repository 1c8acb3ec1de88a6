"""The loop: a killed run ends like one that was not, and a broken loss is said so."""

import pyarrow.parquet as pq
import pytest
import torch

from crkd_core.errors import DamagedArtifactError, TrainingError
from crkd_core.models.autocast import autocast_type
from crkd_core.progress import SilentProgress
from crkd_core.training.checkpoint import CHECKPOINT_NAME
from crkd_core.training.loop import Trainer
from crkd_core.training.metric_log import METRICS_NAME
from tests.support.training_runs import CPU, EPOCHS, STEPS_PER_EPOCH, Killed, RandomBatches, Regression, plan_of


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
