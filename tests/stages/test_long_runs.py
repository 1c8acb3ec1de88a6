"""Small GPUs and long runs, with the stages: accumulated batches, averaged and best weights, other divisions."""

from contextlib import contextmanager
from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from crkd_core.artifacts.shards import read_tensors
from crkd_core.config.loading import with_overrides
from crkd_core.errors import ConfigError, DamagedArtifactError, StaleArtifactError, UsageError
from crkd_core.evaluation.model_source import EvaluateRequest
from crkd_core.progress import SilentProgress
from crkd_core.stages.distill import DistillRequest, distill
from crkd_core.stages.evaluate import evaluate
from crkd_core.stages.train_teacher import TrainTeacherRequest, train_teacher
from crkd_core.training.metric_log import METRICS_NAME
from crkd_core.training.trained import WEIGHTS_NAME, load_trained, weights_name

SILENT = SilentProgress()
LONG = ("train.teacher.epochs=2", "train.checkpoint_every_minutes=1e-9")


class Killed(Exception):
    pass


class KillingProgress(SilentProgress):
    """Ends a run after some steps of training; remembers what it was told."""

    def __init__(self, steps: int) -> None:
        self.left, self.said = steps, []

    @contextmanager
    def task(self, description, total=None, unit="", done=0):
        yield self

    def advance(self, steps=1, **fields):
        if "epoch" in fields:
            if not self.left:
                raise Killed
            self.left -= 1

    def message(self, text):
        self.said.append(text)

    warning = message


def request(chain, *overrides, **changes) -> TrainTeacherRequest:
    return TrainTeacherRequest(with_overrides(chain.config, [*LONG, *overrides]), **changes)


def test_a_run_keeps_averaged_and_best_weights_and_stands_for_the_ones_it_names(chain, tmp_path):
    copy = chain.copy(tmp_path)
    settings = ("train.teacher.validate_every=1", "train.ema_decay=0.9", "train.teacher.final_weights=best")
    trained = train_teacher(request(copy, *settings, name="kept"), copy.workspace, SILENT)
    run = trained.artifact
    best = run.manifest.facts["best"]
    assert best["by"] == "nds"
    assert {"model.safetensors", "model-last.safetensors", "model-ema.safetensors"} <= run.manifest.files.keys()
    scored = evaluate(EvaluateRequest(model="train-teacher/kept", workers=0), copy.workspace, SILENT)
    assert scored.metrics.nds == pytest.approx(best["nds"], abs=1e-4)
    assert scored.metrics.mean_ap == pytest.approx(best["mean_ap"], abs=1e-4)

    averaged = evaluate(EvaluateRequest(model="train-teacher/kept", workers=0, weights="ema"), copy.workspace, SILENT)
    assert averaged.artifact.name == f"{scored.artifact.name}-ema"
    assert averaged.artifact.manifest.settings["weights"] == "ema"
    same = evaluate(EvaluateRequest(model="train-teacher/kept", workers=0, weights="best"), copy.workspace, SILENT)
    assert same.reused
    assert same.artifact.name == scored.artifact.name
    with pytest.raises(UsageError, match="teacher has no ema weights"):
        evaluate(EvaluateRequest(model="train-teacher/teacher", weights="ema"), copy.workspace, SILENT)

    unlisted = replace(run, manifest=run.manifest.model_copy(update={"files": {}}))
    with pytest.raises(DamagedArtifactError, match=r"model\.safetensors is damaged \(the manifest does not list it\)"):
        weights_name(unlisted, None)

    last, average = (load_trained(run, weights=kind).detector.state_dict() for kind in ("last", "ema"))
    chosen = load_trained(run).detector.state_dict()
    assert weights_name(run, "best") == WEIGHTS_NAME
    assert any(not last[name].equal(average[name]) for name in last)
    assert best["epoch"] == 1 or all(chosen[name].equal(average[name]) for name in chosen)

    rows = pq.read_table(run.file(METRICS_NAME)).to_pylist()
    scores = {(row["epoch"], row["name"]): row["value"] for row in rows if row["name"].startswith("validation/")}
    assert scores.keys() == {(epoch, f"validation/{name}") for epoch in (0, 1) for name in ("mAP", "NDS")}
    assert best["nds"] == max(scores[epoch, "validation/NDS"] for epoch in (0, 1))
    plain = copy.workspace.find("train-teacher", "teacher", needed_for="test", make="")
    with pytest.raises(UsageError, match=r"teacher has no ema weights, .*train.ema_decay"):
        load_trained(plain, weights="ema")


def test_recomputing_and_averaging_leave_the_weights_as_they_are(chain, tmp_path):
    copy = chain.copy(tmp_path)
    config = with_overrides(copy.config, ["train.recompute=[backbone, neck, decoder, head]", "train.ema_decay=0.99"])
    other = distill(DistillRequest(config, name="recomputed"), copy.workspace, SILENT).artifact
    plain = copy.workspace.find("distill", "crkd", needed_for="test", make="")
    weights, expected = read_tensors(other, WEIGHTS_NAME), read_tensors(plain, WEIGHTS_NAME)
    assert all(weights[name].equal(tensor) for name, tensor in expected.items())


def test_a_stopped_run_continues_with_steps_divided_otherwise(chain, tmp_path):
    copy = chain.copy(tmp_path)
    with pytest.raises(Killed):
        train_teacher(request(copy, name="moved"), copy.workspace, KillingProgress(steps=3))
    with pytest.raises(StaleArtifactError, match=r"2 samples a step .* --set train.teacher.accumulate=2"):
        train_teacher(request(copy, "train.teacher.batch_size=1", name="moved"), copy.workspace, SILENT)
    with pytest.raises(StaleArtifactError, match="other settings or inputs"):
        train_teacher(request(copy, "train.seed=4", name="moved"), copy.workspace, SILENT)
    progress, smaller = KillingProgress(steps=9), ("train.teacher.batch_size=1", "train.teacher.accumulate=2")
    run = train_teacher(request(copy, *smaller, name="moved"), copy.workspace, progress).artifact
    assert any("continuing moved at step 3 of 4" in text for text in progress.said)
    assert any("a step's 2 samples are now 1 process x 2 x 1, before 1 process x 2:" in text for text in progress.said)
    assert [division["from_step"] for division in run.manifest.facts["divisions"]] == [0, 3]
    assert run.manifest.settings["run"]["accumulate"] == 2
    losses = [row for row in pq.read_table(run.file(METRICS_NAME)).to_pylist() if row["name"] == "loss/total"]
    assert [row["step"] for row in losses] == [0, 1, 2, 3]
    # The same command again finds it finished.
    assert train_teacher(request(copy, *smaller, name="moved"), copy.workspace, SILENT).reused


def test_validation_needs_a_split_to_score(chain, tmp_path, monkeypatch):
    copy = chain.copy(tmp_path)
    from crkd_core.datasets.prepared.prepared_data import PreparedData

    has_split = PreparedData.has_split
    monkeypatch.setattr(PreparedData, "has_split", lambda self, split: split != "val" and has_split(self, split))
    with pytest.raises(ConfigError, match=r"train.teacher.validate_every=1 scores the split val, which .* not have"):
        train_teacher(request(copy, "train.teacher.validate_every=1", name="blind"), copy.workspace, SILENT)
    assert not copy.workspace.partial_names("train-teacher")
