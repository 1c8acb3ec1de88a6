"""Averaged and best weights: by hand, and after a kill anywhere."""

import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from crkd_core.evaluation.nuscenes.metrics import Metrics, TPErrors
from crkd_core.progress import SilentProgress
from crkd_core.training.kept_weights import KeptWeights, ScoredEpoch, average_decay
from crkd_core.training.loop import Trainer
from crkd_core.training.metric_log import METRICS_NAME
from tests.support.training_runs import CPU, EPOCHS, STEPS_PER_EPOCH, Killed, RandomBatches, Regression, plan_of

ERRORS = TPErrors(0.5, 0.5, 0.5, 0.5, 0.5)
SCORES = (0.3, 0.5, 0.4)
KEPT = {"ema_decay": 0.9, "checkpoint_every_minutes": 1e-9}


class Validator:
    """Scores of one epoch after the other; what it sees of the module, and where it is killed."""

    def __init__(self, module: nn.Module, kill_at: int | None = None) -> None:
        self.module, self.kill_at = module, kill_at
        self.seen: dict[int, dict[str, torch.Tensor]] = {}

    def __call__(self, epoch: int) -> Metrics:
        if epoch == self.kill_at:
            raise Killed
        self.module.eval()
        self.seen[epoch] = {name: tensor.clone() for name, tensor in self.module.state_dict().items()}
        torch.rand(3)
        return Metrics(mean_ap=0.2, nds=SCORES[epoch], errors=ERRORS, classes={})


def run(folder, kill_at=None, validation_kill_at=None, settings=None, **schedule):
    folder.mkdir(exist_ok=True)
    module = Regression()
    validator = Validator(module, validation_kill_at)
    plan = plan_of(KEPT if settings is None else settings, **schedule)
    # The epoch whose turn it is, unless some are left out.
    trainer = Trainer(
        module, plan, RandomBatches(kill_at), folder, CPU, score=lambda: validator(len(scores_in(folder)))
    )
    trainer.fit(SilentProgress())
    return trainer, validator


def scores_in(folder):
    path = folder / METRICS_NAME
    rows = pq.read_table(path).to_pylist() if path.exists() else []
    return [row for row in rows if row["name"] == "validation/NDS"]


def equal(first, second) -> bool:
    return first.keys() == second.keys() and all(tensor.equal(second[name]) for name, tensor in first.items())


def test_the_average_by_hand():
    module = nn.BatchNorm1d(1)
    kept = KeptWeights(module, decay=0.25, metric="nds")
    expected = [1.0]
    for step in range(4):
        with torch.no_grad():
            module.weight.fill_(10.0 * (step + 2))
            module.num_batches_tracked += 1
        kept.average(step)
        decay = average_decay(step, 0.25)
        expected.append(decay * expected[-1] + (1 - decay) * 10.0 * (step + 2))
    assert [average_decay(step, 0.25) for step in range(4)] == [0.1, 2 / 11, 0.25, 0.25]
    average = kept.by_kind()["ema"]
    assert average["weight"].item() == pytest.approx(expected[-1], rel=1e-6)
    assert average["num_batches_tracked"] == 4
    with kept.averaged():
        assert module.weight.item() == average["weight"].item()
    assert module.weight.item() == 50.0


def test_the_first_of_equal_epochs_is_the_best():
    module = nn.Linear(1, 1)
    kept = KeptWeights(module, 0.0, "mean_ap")
    for epoch, score in enumerate((0.1, 0.4, 0.4, 0.2), start=1):
        nn.init.constant_(module.weight, epoch)
        kept.compare(ScoredEpoch(epoch, 5 * epoch, mean_ap=score, nds=1.0 / epoch))
    assert kept.best_epoch.epoch == 2
    assert kept.by_kind()["best"]["weight"].item() == 2
    assert kept.by_kind().keys() == {"last", "best"}


def test_nothing_is_kept_unless_asked_for():
    assert KeptWeights(nn.Linear(1, 1), 0.0, "nds").by_kind().keys() == {"last"}


def test_the_averaged_weights_are_scored_and_the_best_of_them_kept(tmp_path):
    trainer, validator = run(tmp_path / "a", validate_every=1)
    assert trainer.kept.best_epoch == ScoredEpoch(2, 2 * STEPS_PER_EPOCH, 0.2, 0.5)
    kinds = trainer.kept.by_kind()
    assert equal(kinds["best"], validator.seen[1])
    assert equal(kinds["ema"], validator.seen[2])
    assert not equal(kinds["last"], kinds["ema"])
    scores = scores_in(tmp_path / "a")
    assert [(row["epoch"], row["step"], row["value"]) for row in scores] == [
        (epoch, STEPS_PER_EPOCH * (epoch + 1) - 1, score) for epoch, score in enumerate(SCORES)
    ]


@pytest.mark.parametrize("kill", [{"kill_at": (2, 3)}, {"kill_at": (1, 0)}, {"validation_kill_at": 1}])
@pytest.mark.parametrize("minutes", [1e-9, 10.0])
def test_a_killed_run_keeps_the_same_weights(tmp_path, kill, minutes):
    settings = {**KEPT, "checkpoint_every_minutes": minutes, "checkpoint_every_epochs": 3}
    whole, _ = run(tmp_path / "a", settings=settings, validate_every=1)
    with pytest.raises(Killed):
        run(tmp_path / "b", settings=settings, validate_every=1, **kill)
    continued, _ = run(tmp_path / "b", settings=settings, validate_every=1)
    for kind, state in whole.kept.by_kind().items():
        assert equal(state, continued.kept.by_kind()[kind]), kind
    assert whole.kept.best_epoch == continued.kept.best_epoch
    assert scores_in(tmp_path / "a") == scores_in(tmp_path / "b")


def test_validating_and_averaging_do_not_change_the_training(tmp_path):
    with_both, _ = run(tmp_path / "a", validate_every=1)
    (tmp_path / "b").mkdir()
    alone = Trainer(Regression(), plan_of(), RandomBatches(), tmp_path / "b", CPU)
    alone.fit(SilentProgress())
    assert equal(with_both.kept.by_kind()["last"], alone.kept.by_kind()["last"])


def test_epochs_between_validations_are_not_scored_but_the_last_is(tmp_path):
    run(tmp_path / "a", validate_every=2)
    assert [row["epoch"] for row in scores_in(tmp_path / "a")] == [1, EPOCHS - 1]
