"""Evaluations in shards: shared by processes, continued from what is finished, in other precisions."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from crkd_core.artifacts.find_model import find_model
from crkd_core.artifacts.run_config import read_run_configuration
from crkd_core.datasets.prepared.source import PreparedSource, open_prepared
from crkd_core.errors import DamagedArtifactError, UsageError
from crkd_core.evaluation.evaluated_split import EvaluatedSplit
from crkd_core.evaluation.identity import find_evaluation
from crkd_core.evaluation.inference import DetectionPlan, InferenceOptions, SplitDetection
from crkd_core.progress import SilentProgress
from crkd_core.stages.ablate.planned_run import _evaluation_name
from crkd_core.stages.compare import CompareRequest, compare
from crkd_core.stages.evaluate import EvaluateRequest, evaluate
from crkd_core.training.trained import load_trained
from tests.support.chain import files_of
from tests.support.kills import KillingProgress

SILENT, CPU = SilentProgress(), torch.device("cpu")
# The four samples of the training split, one after the other.
REQUEST = EvaluateRequest(model="plain", split="train", workers=0, batch_size=1)


class Told(SilentProgress):
    """Keeps what was said."""

    def __init__(self):
        self.lines = []

    def message(self, text):
        self.lines.append(text)

    warning = message


@pytest.fixture(scope="module")
def alone(chain, tmp_path_factory):
    """Files of an evaluation by one process that was never stopped, by batch size."""
    copy = chain.copy(tmp_path_factory.mktemp("alone")).workspace
    return {
        size: files_of(evaluate(replace(REQUEST, batch_size=size, force=True), copy, SILENT).artifact)
        for size in (1, 3)
    }


@pytest.fixture
def workspace(chain, tmp_path):
    return chain.copy(tmp_path).workspace


def stop(workspace, after, **changes):
    with pytest.raises(KeyboardInterrupt):
        evaluate(replace(REQUEST, **changes), workspace, KillingProgress(after))
    return workspace.root / "evaluate" / "plain-train.partial"


def parts(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("detections-*")}


@pytest.mark.parametrize(("size", "batch"), [(2, 1), (3, 1), (7, 1), (2, 3), (2, 9)])
def test_shares_of_processes_are_together_what_one_detects(workspace, tmp_path, size, batch):
    model = find_model(workspace, "plain", "the test")
    configuration = read_run_configuration(model)
    data, modalities = configuration.config.data, configuration.detector.modalities
    prepared = open_prepared(workspace, None, None, data, modalities, "the test", PreparedSource("train"))
    samples = EvaluatedSplit(prepared, "mini_train", prepared.tokens("train"))
    options = InferenceOptions(configuration.detector.head.nms, CPU, batch, workers=0)
    loaded = []

    def load():
        loaded.append(load_trained(model, CPU, configuration))
        return loaded[-1].detector

    tables = []
    for processes in (1, size):
        folder = tmp_path / f"of-{processes}"
        folder.mkdir(exist_ok=True)
        detection = SplitDetection(configuration, samples, options, load)
        loaded.clear()
        for rank in reversed(range(processes)):
            detection.fill(folder, rank, processes, "detecting", SILENT)
        # Who has nothing to do does not even read the weights.
        assert len(loaded) == min(processes, len(detection.plan.shards))
        tables.append(detection.read(folder).table)
    assert tables[0].num_rows > 0
    assert tables[0].equals(tables[1])


def test_the_real_command_in_more_processes_than_batches(workspace, alone):
    arguments = ("evaluate", "--model", "plain", "--split", "train", "--batch-size", "3", "--workers", "0")
    done = subprocess.run(
        [sys.executable, "-m", "crkd_cli", *arguments, "--processes", "3", "--json", "-w", str(workspace.root)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["models"]) == 1
    artifact = workspace.find("evaluate", "plain-train", needed_for="test", make="")
    assert files_of(artifact) == alone[3]
    assert "--processes 3" in artifact.manifest.command


@pytest.mark.parametrize("finished", [1, 3])
def test_a_stopped_evaluation_continues_from_its_finished_batches(workspace, alone, finished):
    partial = stop(workspace, finished - 1)
    kept = parts(partial)
    assert len(kept) == finished
    assert parts(stop(workspace, 0)).items() >= kept.items()
    told = Told()
    result = evaluate(REQUEST, workspace, told)
    assert files_of(result.artifact) == alone[1]
    assert f"continuing an evaluation that was stopped: {finished + 1} of 4 samples are there" in told.lines
    assert not parts(result.artifact.path)
    assert not partial.exists()


def test_a_damaged_shard_is_detected_again(workspace, alone):
    partial = stop(workspace, 2)
    first = min(partial.glob("detections-*"))
    first.write_bytes(first.read_bytes()[:-9])
    told = Told()
    assert files_of(evaluate(REQUEST, workspace, told).artifact) == alone[1]
    assert f"{first.name} of the unfinished evaluate/plain-train is damaged and is made again" in told.lines
    assert "continuing an evaluation that was stopped: 2 of 4 samples are there" in told.lines


def test_batches_of_another_size_are_not_mixed_in(workspace, alone):
    damaged = min(stop(workspace, 2).glob("detections-*"))
    damaged.write_bytes(b"")
    told = Told()
    result = evaluate(replace(REQUEST, batch_size=3), workspace, told)
    assert files_of(result.artifact) == alone[3]
    assert any("another --batch-size or device" in line for line in told.lines)


@pytest.mark.parametrize("change", ["precision", "nms"])
def test_other_settings_are_not_mixed_in(workspace, alone, change):
    model = find_model(workspace, "plain", "the test")
    few = read_run_configuration(model).detector.head.nms.model_copy(update={"max_candidates": 5})
    stop(workspace, 2, **({"precision": "bf16"} if change == "precision" else {"nms": few}))
    assert files_of(evaluate(REQUEST, workspace, SILENT).artifact) == alone[1]


def test_a_shard_that_is_damaged_before_they_are_joined(workspace, tmp_path, monkeypatch):
    def damage(self, folder, *_):
        (folder / "detections-cpu-1-00000.parquet").write_bytes(b"")

    monkeypatch.setattr(SplitDetection, "fill", damage)
    with pytest.raises(DamagedArtifactError, match="changed after it was written"):
        evaluate(REQUEST, workspace, SILENT)


def test_another_precision_is_an_evaluation_beside_the_usual_one(workspace):
    usual = evaluate(REQUEST, workspace, SILENT).artifact
    reduced = evaluate(replace(REQUEST, precision="bf16"), workspace, SILENT).artifact
    assert (usual.name, reduced.name) == ("plain-train", "plain-train-bf16")
    assert (usual.manifest.settings["precision"], reduced.manifest.settings["precision"]) == ("fp32", "bf16")
    assert " --precision bf16 " in reduced.manifest.command
    assert "--precision" not in usual.manifest.command
    assert files_of(usual)["detections.parquet"] != files_of(reduced)["detections.parquet"]
    for request in (REQUEST, replace(REQUEST, precision="bf16")):
        again = evaluate(request, workspace, SILENT)
        assert again.reused
        assert again.artifact.manifest.settings["precision"] == request.precision
    # A model's name means its usual evaluation, also where the other is newer.
    assert find_evaluation(workspace, "plain", "train", "the test").name == usual.name
    assert find_evaluation(workspace, "evaluate/plain-train-bf16", "train", "the test").name == reduced.name
    assert _evaluation_name(workspace, "plain", "train") == usual.name


def test_a_comparison_of_two_precisions_says_so(workspace):
    evaluate(replace(REQUEST, precision="bf16"), workspace, SILENT)
    told = Told()
    request = CompareRequest("evaluate/plain-train-bf16", "crkd", split="train", workers=0, resamples=0)
    compare(request, workspace, told)
    assert any("was computed in bf16 and evaluate/crkd-train in fp32" in line for line in told.lines)


def test_an_unknown_precision(workspace):
    request = replace(REQUEST)
    object.__setattr__(request, "precision", "fp8")  # past the annotations, which only tests enforce
    with pytest.raises(UsageError, match="one of fp32, bf16, fp16, found 'fp8'"):
        evaluate(request, workspace, SILENT)


def test_large_splits_have_few_shards_of_whole_batches():
    plan = DetectionPlan(6019, batch_size=4, device=CPU)
    assert len(plan.shards) <= 500
    assert {len(shard) % 4 for shard in plan.shards[:-1]} == {0}
    assert plan.count(range(len(plan.shards))) == 6019
