"""Comparisons of files and models on the small simulated world, and pictures of what is missed."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from crkd_core.datasets.prepared.prepared_data import PreparedData
from crkd_core.errors import MissingArtifactError, UsageError
from crkd_core.evaluation.finished import FinishedEvaluation
from crkd_core.evaluation.io.detections import Detections, write_submission
from crkd_core.evaluation.report import breakdown_of
from crkd_core.evaluation.statistics import bootstrap
from crkd_core.geometry.boxes import Boxes3D
from crkd_core.models.decode import SampleDetections
from crkd_core.progress import SilentProgress
from crkd_core.stages.compare import CompareRequest, compare
from crkd_core.stages.evaluate import ResultsRequest, evaluate
from crkd_core.stages.visualize import VisualizeRequest, visualize
from crkd_core.visualization import pictures
from crkd_core.visualization.evaluation_curves import score_curves
from tests.support.reports import write_plain_picture

PROGRESS = SilentProgress()
REQUEST = CompareRequest("sharp", "blind", split="train", resamples=20, device="cpu", workers=0)


@pytest.fixture(scope="module")
def workspace(chain, tmp_path_factory):
    """Two result files of the training split: all objects, and only those of the first sample and cars."""
    copy = chain.copy(tmp_path_factory.mktemp("compare"))
    prepared = PreparedData(copy.workspace.artifacts("prepare")[-1])
    tokens = prepared.tokens("train")
    for name in ("sharp", "blind"):
        samples = []
        for index, token in enumerate(tokens):
            truth = prepared.annotations(token)
            kept = (truth.labels == 0) | (name == "sharp") | (index == 0)
            boxes = Boxes3D(torch.nan_to_num(truth.boxes.tensor[kept]))
            detections = SampleDetections(boxes, torch.full((len(boxes),), 0.9), truth.labels[kept])
            samples.append((token, detections, prepared.global_from_lidar(token)))
        path = tmp_path_factory.mktemp(name) / f"{name}.json"
        write_submission(path, Detections.collect(samples), tokens, ("camera", "radar"))
        evaluate(ResultsRequest(path, "train"), copy.workspace, PROGRESS)
    return copy.workspace


@pytest.fixture(scope="module")
def compared(workspace):
    return compare(REQUEST, workspace, PROGRESS)


def test_what_only_the_first_finds(workspace, compared):
    prepared = PreparedData(workspace.artifacts("prepare")[-1])
    rows = compared.missed.to_pylist()
    first = prepared.tokens("train")[0]
    assert len(rows) > 5
    assert all(row["class"] != "car" and row["sample_token"] != first for row in rows)
    row = rows[0]
    truth = prepared.annotations(row["sample_token"])
    index = truth.tokens.index(row["annotation_token"])
    assert row["instance_token"] == truth.instances[index]
    assert (row["lidar_points"], row["radar_points"]) == (truth.lidar_points[index], truth.radar_points[index])
    ego = prepared.ego_positions([row["sample_token"]])[0]
    assert row["distance_m"] == pytest.approx(np.linalg.norm(truth.translation[index, :2] - ego[:2]))
    assert compared.artifact.manifest.facts["missed"] == len(rows)


def test_differences_by_slice_and_class(compared):
    rows = {(row["kind"], row["slice"], row["class"]): row for row in compared.table.to_pylist()}
    assert rows["all", "all", "car"]["ap_difference"] == 0.0
    assert rows["all", "all", "all"]["ap_difference"] < -0.05
    assert {kind for kind, _, _ in rows} >= {"range", "speed", "visibility", "radar-points", "condition"}
    assert compared.artifact.label == "compare/sharp-blind-train"


def test_an_equal_comparison_is_reused_and_options_change_it(workspace, compared):
    again = compare(REQUEST, workspace, PROGRESS)
    assert again.artifact.manifest.created == compared.artifact.manifest.created
    assert compare(replace(REQUEST, score=0.95), workspace, PROGRESS).missed.num_rows == 0
    compare(REQUEST, workspace, PROGRESS)


def test_models_are_evaluated_where_they_were_not_yet(workspace):
    request = replace(REQUEST, first="crkd", second="plain", split="val")
    result = compare(request, workspace, PROGRESS)
    assert result.names == ("crkd", "plain")
    assert {"crkd-val", "plain-val"} <= {artifact.name for artifact in workspace.artifacts("evaluate")}
    # Of one scene there is nothing to resample.
    assert {row["ap_beyond_noise"] for row in result.table.to_pylist()} == {None}


def test_what_cannot_be_compared(workspace, compared):
    with pytest.raises(UsageError, match="with itself"):
        compare(replace(REQUEST, second="sharp"), workspace, PROGRESS)
    with pytest.raises(MissingArtifactError, match="sharp-train"):
        compare(replace(REQUEST, second="evaluate/nothing"), workspace, PROGRESS)
    with pytest.raises(MissingArtifactError, match="no trained model"):
        compare(replace(REQUEST, second="nothing"), workspace, PROGRESS)
    with pytest.raises(UsageError, match="score between 0 and 1"):
        compare(replace(REQUEST, score=2.0), workspace, PROGRESS)
    with pytest.raises(UsageError, match="only evaluations of the same samples"):
        compare(replace(REQUEST, first="crkd-val", second="sharp-train"), workspace, PROGRESS)


def finished(workspace, name):
    (artifact,) = (artifact for artifact in workspace.artifacts("evaluate") if artifact.name == name)
    return FinishedEvaluation(artifact, workspace)


def test_other_resamples_are_computed_from_the_detections(workspace, monkeypatch):
    evaluation = finished(workspace, "sharp-train")
    monkeypatch.setattr(bootstrap, "FEWEST_SCENES", 1)
    stored = breakdown_of(evaluation, None, PROGRESS)
    assert breakdown_of(evaluation, 200, PROGRESS).equals(stored)
    fewer = breakdown_of(evaluation, 0, PROGRESS)
    assert fewer["ap"].equals(stored["ap"])
    assert fewer["ap_low"].null_count == len(fewer)
    # Of two scenes, the evaluation itself gives no intervals.
    assert stored["ap_low"].null_count == len(stored)
    assert breakdown_of(evaluation, 20, PROGRESS)["ap_low"].null_count == 0


def test_curves_are_drawn_once(workspace):
    evaluation = finished(workspace, "blind-train")
    paths = score_curves(evaluation)
    assert [path.name for path in paths] == ["precision-recall.png", "tp-errors.png"]
    before = [path.stat().st_mtime_ns for path in paths]
    assert [path.stat().st_mtime_ns for path in score_curves(evaluation)] == before


def test_missed_objects_are_marked_in_pictures(workspace, compared, monkeypatch):
    drawn = []

    def write_picture(path, sample):
        drawn.append(sample)
        write_plain_picture(path, sample)

    monkeypatch.setattr(pictures, "write_picture", write_picture)
    result = visualize(VisualizeRequest(samples=2, missed="sharp-blind-train"), workspace, PROGRESS)
    counts = Counter(compared.missed["sample_token"].to_pylist())
    assert [counts[token] for token in result.tokens] == sorted(counts.values(), reverse=True)[:2]
    assert [model.name for model in drawn[0].models] == ["sharp", "blind"]
    assert drawn[0].marked_title == "found by sharp, missed by blind"
    sample = drawn[0]
    assert len(sample.marked) == counts[sample.token]
    centres = sample.gt.boxes.centre[:, :2].numpy()
    nearest = np.linalg.norm(sample.marked[:, None] - centres, axis=-1)
    assert (nearest.min(axis=1) < 1e-5).all()
    assert (sample.gt.labels[nearest.argmin(axis=1)] != 0).all()
    with pytest.raises(MissingArtifactError, match="crkd compare"):
        visualize(VisualizeRequest(missed="nothing"), workspace, PROGRESS)
    compare(replace(REQUEST, first="blind", second="sharp"), workspace, PROGRESS)
    with pytest.raises(UsageError, match="nothing that blind finds and sharp misses"):
        visualize(VisualizeRequest(missed="compare/blind-sharp-train"), workspace, PROGRESS)
