"""Evaluation and pictures on a small simulated world, with detectors that were never trained."""

import json
import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from crkd_core.artifacts import run_config
from crkd_core.artifacts.find_model import find_model
from crkd_core.artifacts.workspace import Workspace
from crkd_core.artifacts.writer import ArtifactRequest
from crkd_core.config.loading import load_config
from crkd_core.datasets.prepared.source import open_prepared
from crkd_core.datasets.simulated.config import SimulationConfig
from crkd_core.errors import ConfigError, MetricsDifferError, MissingArtifactError, StaleArtifactError, UsageError
from crkd_core.evaluation import devkit_check, evaluated_split
from crkd_core.evaluation.finished import read_metrics
from crkd_core.evaluation.io.detections import Detections, read_detections, write_submission
from crkd_core.evaluation.nuscenes import scoring
from crkd_core.evaluation.nuscenes.official import evaluate_official, require_equal
from crkd_core.evaluation.report import AnalysisRequest
from crkd_core.geometry.boxes import Boxes3D
from crkd_core.models.decode import SampleDetections
from crkd_core.models.detector import build_detector
from crkd_core.progress import SilentProgress
from crkd_core.stages import evaluate as evaluate_stage
from crkd_core.stages.evaluate import EvaluateRequest, evaluate
from crkd_core.stages.prepare import PrepareRequest, prepare
from crkd_core.stages.simulate import SimulateRequest, simulate
from crkd_core.stages.visualize import VisualizeRequest, visualize
from crkd_core.training.trained import write_trained

PROGRESS = SilentProgress()
# Few candidates: what an untrained head finds everywhere would keep the suppression of duplicates busy.
CONFIG = load_config(
    "tiny",
    overrides=[
        "data.radar.sweeps=2",
        "data.lidar.sweeps=1",
        "teacher.head.nms.max_candidates=40",
        "student.head.nms.max_candidates=40",
    ],
)
WORLD = SimulationConfig(
    train_scenes=0,
    val_scenes=1,
    samples_per_scene=2,
    image_width=240,
    image_height=135,
    lidar_azimuth_steps=180,
    lidar_sweeps_per_key_frame=0,
    radar_sweeps_per_key_frame=1,
    camera_sweeps_per_key_frame=0,
)


class Warnings(SilentProgress):
    def __init__(self):
        self.lines = []

    def warning(self, text):
        self.lines.append(text)


def add_model(workspace, stage, name, role, detector=None, seed=0):
    """An untrained detector in the place of a trained one."""
    detector = detector or (CONFIG.teacher if role == "teacher" else CONFIG.student)
    settings = {"role": role, "detector": detector.model_dump(mode="json"), "seed": seed}
    inputs = {"prepared": workspace.artifacts("prepare")[-1].reference()}
    torch.manual_seed(seed)
    request = ArtifactRequest(stage, name, f"crkd {stage}", settings, inputs, force=True)
    with workspace.write(request) as writer:
        write_trained(writer.path, build_detector(detector, CONFIG.data).state_dict(), CONFIG)
        writer.finish({"epochs": 0, "steps": 0, "final": {}})


def request(model=None, **changes):
    return replace(EvaluateRequest(model=model, device="cpu", workers=0), **changes)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("world") / "data"
    simulate(SimulateRequest(root, WORLD, processes=1), PROGRESS)
    return root


@pytest.fixture(scope="module")
def workspace(world, tmp_path_factory):
    """Prepared data, a teacher and two students, all evaluated on val."""
    workspace = Workspace(tmp_path_factory.mktemp("workspace"))
    prepare(PrepareRequest(world, lidar_sweeps=1, radar_sweeps=2), workspace, PROGRESS)
    add_model(workspace, "train-teacher", "teacher", "teacher")
    for seed, name in enumerate(("crkd", "plain")):
        add_model(workspace, "distill", name, "student", seed=seed)
    for name in ("teacher", "crkd", "plain"):
        evaluate(request(name), workspace, PROGRESS)
    return workspace


def prepared_of(workspace):
    return open_prepared(workspace, None, None, CONFIG.data, ("camera",), "the test")


def test_evaluation_writes_table_submission_and_metrics(workspace):
    result = evaluate(request("crkd"), workspace, PROGRESS)
    tokens = prepared_of(workspace).tokens("val")
    assert (result.model, result.split, result.reused) == ("crkd", "mini_val", True)
    assert result.artifact.label == "evaluate/crkd-val"
    written = {"detections.parquet", "submission.json", "metrics.json", "breakdown.parquet"}
    assert set(result.artifact.manifest.files) == written
    submission = json.loads(result.artifact.file("submission.json").read_text())
    assert list(submission["results"]) == tokens
    assert submission["meta"]["use_radar"] is True
    assert submission["meta"]["use_lidar"] is False
    detections = read_detections(result.artifact)
    assert len(detections) == sum(len(boxes) for boxes in submission["results"].values()) > 0
    assert result.artifact.manifest.facts["samples"] == len(tokens) == 2
    assert require_equal(result.metrics, read_metrics(result.artifact)) == 0.0
    values = json.loads(result.artifact.file("metrics.json").read_text())
    assert (values["nd_score"], values["cfg"]["dist_th_tp"]) == (result.metrics.nds, 2.0)
    evaluated = values["crkd"]["evaluated"].values()
    assert 0 < sum(entry["detections"] for entry in evaluated) <= len(detections)
    assert sum(entry["annotations"] for entry in evaluated) > 0


@pytest.mark.devkit
def test_the_devkit_agrees(workspace, monkeypatch):
    for force in (False, True):
        result = evaluate(request("crkd", official=True, force=force), workspace, PROGRESS)
        assert (result.reused, result.official_difference < 1e-9) == (not force, True)
    assert evaluate(request("crkd"), workspace, PROGRESS).official_difference is None
    wrong = replace(result.metrics, mean_ap=result.metrics.mean_ap + 1e-6)
    monkeypatch.setattr(devkit_check, "evaluate_official", lambda *_: wrong)
    with pytest.raises(MetricsDifferError, match="mAP is"):
        evaluate(request("crkd", official=True), workspace, PROGRESS)


def test_evaluating_again_gives_the_same_bytes_without_the_devkit(workspace, monkeypatch):
    before = evaluate(request("plain"), workspace, PROGRESS).artifact
    monkeypatch.setattr(devkit_check, "evaluate_official", None)
    again = evaluate(request("plain", force=True), workspace, PROGRESS)
    assert not again.reused
    assert again.artifact.manifest.files == before.manifest.files


def test_the_configuration_is_read_once_and_columns_are_computed_once(workspace, monkeypatch):
    """Scores, slices, diagnoses, other resamples and curves of one evaluation share what was read and computed."""
    calls = Counter()

    def count(module, name):
        original = getattr(module, name)

        def counted(*arguments):
            calls[name] += 1
            return original(*arguments)

        monkeypatch.setattr(module, name, counted)

    count(run_config, "read_run_config")
    count(run_config, "read_detector_config")
    for name in ("read_samples", "read_gt", "detection_columns", "match", "accumulate"):
        count(scoring, name)
    count(evaluated_split, "read_scenes")
    analysis = AnalysisRequest(resamples=5, curves=True)
    result = evaluate(request("plain", force=True, analysis=analysis), workspace, PROGRESS)
    assert (len(result.analysis.pictures), result.analysis.breakdown.num_rows > 0) == (2, True)
    assert dict(calls) == dict.fromkeys(calls, 1)
    assert len(calls) == 8


def test_a_killed_evaluation_continues_with_the_scoring(workspace, monkeypatch):
    before = evaluate(request("plain"), workspace, PROGRESS).artifact

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluate_stage, "write_scores", killed)
    with pytest.raises(KeyboardInterrupt):
        evaluate(request("plain", force=True), workspace, PROGRESS)
    monkeypatch.undo()
    monkeypatch.setattr(evaluate_stage, "load_trained", killed)
    finished = workspace.folder("evaluate", "plain-val")
    shutil.rmtree(finished)
    continued = evaluate(request("plain"), workspace, PROGRESS)
    assert continued.artifact.manifest.files == before.manifest.files


@pytest.mark.devkit
def test_ground_truth_as_detections_scores_perfectly(workspace, tmp_path):
    prepared = prepared_of(workspace)
    samples, classes = [], set()
    for token in prepared.tokens("val"):
        truth = prepared.annotations(token)
        kept = truth.has_points
        boxes = Boxes3D(torch.nan_to_num(truth.boxes.tensor[kept]))
        detections = SampleDetections(boxes, torch.full((len(boxes),), 0.9), truth.labels[kept])
        samples.append((token, detections, prepared.global_from_lidar(token)))
        # Half of the smallest class range, so that the benchmark surely keeps the object.
        near = boxes.centre[:, :2].norm(dim=1) < 15
        classes |= set(truth.labels[kept][near].tolist())
    path = tmp_path / "submission.json"
    write_submission(path, Detections.collect(samples), prepared.tokens("val"), ("camera",))
    metrics = evaluate_official(prepared.dataroot, prepared.version, "mini_val", path, PROGRESS)
    present = [entry for label, entry in enumerate(metrics.classes.values()) if label in classes]
    assert len(present) >= 2
    assert [entry.ap for entry in present] == pytest.approx([1.0] * len(present))
    for entry in present:
        assert entry.errors.translation_m < 1e-4
        assert entry.errors.scale < 1e-5
        assert not entry.errors.orientation_rad > 1e-2


def test_the_latest_student_is_the_default_else_the_teacher(workspace, world, tmp_path):
    assert find_model(workspace, None, "the test").name == "plain"
    alone = Workspace(tmp_path)
    with pytest.raises(MissingArtifactError, match="crkd train-teacher"):
        find_model(alone, None, "the test")
    prepare(PrepareRequest(world, lidar_sweeps=1, radar_sweeps=2), alone, PROGRESS)
    add_model(alone, "train-teacher", "big", "teacher")
    assert find_model(alone, None, "the test").label == "train-teacher/big"
    assert find_model(alone, "train-teacher/big", "the test").name == "big"


def test_a_wrong_name_lists_what_there_is(workspace):
    with pytest.raises(MissingArtifactError, match=r"'crdk'.*train-teacher/teacher, distill/crkd, distill/plain"):
        evaluate(request("crdk"), workspace, PROGRESS)
    with pytest.raises(MissingArtifactError, match="no trained model"):
        find_model(workspace, "distill/teacher", "the test")


def test_a_name_in_both_stages_must_be_told_in_full(workspace):
    add_model(workspace, "distill", "teacher", "student")
    try:
        with pytest.raises(MissingArtifactError, match="train-teacher/teacher and distill/teacher"):
            find_model(workspace, "teacher", "the test")
        assert find_model(workspace, "distill/teacher", "the test").stage == "distill"
    finally:
        for path in sorted(workspace.folder("distill", "teacher").rglob("*"), reverse=True):
            path.unlink()
        workspace.folder("distill", "teacher").rmdir()


def test_a_split_of_another_kind_is_refused(workspace):
    with pytest.raises(UsageError, match="no split 'test'"):
        evaluate(request("crkd", split="test"), workspace, PROGRESS)


def test_a_model_that_needs_more_than_was_prepared_is_refused(workspace, world, tmp_path):
    other = Workspace(tmp_path)
    prepare(PrepareRequest(world, lidar_sweeps=1, radar_sweeps=1), other, PROGRESS)
    add_model(other, "distill", "crkd", "student")
    with pytest.raises(ConfigError, match="2 sweeps"):
        evaluate(request("crkd"), other, PROGRESS)


def test_pictures_of_all_evaluated_models(workspace):
    result = visualize(VisualizeRequest(samples=2, score=0.0), workspace, PROGRESS)
    assert result.artifact.manifest.facts["models"] == ["teacher", "plain", "crkd"]
    assert len(result.paths) == len(set(result.tokens)) == 2
    for path, token in zip(result.paths, result.tokens, strict=True):
        assert token in path.name
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        assert pixels.shape[1] == 2000
        assert len(np.unique(pixels.astype(np.int64) @ [65536, 256, 1])) > 5000
    page = result.index.read_text()
    assert all(path.name in page for path in result.paths)
    again = visualize(VisualizeRequest(samples=2, score=0.0), workspace, PROGRESS)
    assert again.artifact.manifest.created == result.artifact.manifest.created


def test_chosen_samples_and_models(workspace):
    token = prepared_of(workspace).tokens("val")[1]
    result = visualize(VisualizeRequest(tokens=(token, token), models=("plain", "teacher")), workspace, PROGRESS)
    assert result.tokens == (token,)
    assert result.artifact.manifest.facts["models"] == ["plain", "teacher"]
    with pytest.raises(UsageError, match="'nonsense'"):
        visualize(VisualizeRequest(tokens=("nonsense",)), workspace, PROGRESS)


def test_no_detections_name_the_command_that_makes_them(workspace, tmp_path):
    with pytest.raises(MissingArtifactError, match="crkd evaluate --model control --split val"):
        visualize(VisualizeRequest(models=("control",)), workspace, PROGRESS)
    with pytest.raises(MissingArtifactError, match="make them with: crkd evaluate --split val"):
        visualize(VisualizeRequest(), Workspace(tmp_path), PROGRESS)


def test_stale_detections_are_left_out_or_refused(workspace):
    add_model(workspace, "distill", "crkd", "student", seed=7)
    heard = Warnings()
    result = visualize(VisualizeRequest(samples=1), workspace, heard)
    assert result.artifact.manifest.facts["models"] == ["teacher", "plain"]
    assert any("evaluate/crkd-val is stale" in line for line in heard.lines)
    with pytest.raises(StaleArtifactError, match="crkd-val"):
        visualize(VisualizeRequest(models=("crkd",)), workspace, PROGRESS)
