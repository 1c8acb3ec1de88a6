"""crkd evaluate: what is asked of the stage, and how scores look."""

import json
import math

import numpy as np
import pytest

from crkd_core.errors import StaleArtifactError
from crkd_core.evaluation.diagnose import Diagnosis
from crkd_core.evaluation.nuscenes.metrics import ClassMetrics, Metrics, TPErrors
from crkd_core.evaluation.report import Analysis
from crkd_core.evaluation.statistics.bootstrap import ResampledScores
from crkd_core.evaluation.statistics.breakdown import breakdown_table
from crkd_core.evaluation.statistics.slices import Slice
from crkd_core.stages import evaluate as stage
from tests.support.described import CLASSES, NUSCENES


def some_metrics() -> Metrics:
    errors = TPErrors(0.5, 0.25, math.nan, 1.5, 0.125)
    classes = {name: ClassMetrics({0.5: 0.1, 1.0: 0.2, 2.0: 0.3, 4.0: 0.4}, errors) for name in CLASSES}
    return Metrics(0.25, 0.375, TPErrors(0.5, 0.25, 0.75, 1.5, 0.125), classes, NUSCENES)


def some_breakdown(resamples):
    """Slices by range with random scores; no bicycle is nearer than 20 m."""
    rng, names = np.random.default_rng(0), ("all", "0-20", "20-30", "30-50")
    nobody = np.zeros(0, dtype=bool)
    slices = tuple(Slice("range" if "-" in name else name, name, nobody, nobody) for name in names)
    shape = (1 + resamples, 4, 10)
    objects = np.full((4, 10), 123456)
    objects[1, CLASSES.index("bicycle")] = 0
    ap, errors, recall = rng.random(shape), rng.random((*shape, 5)), rng.random(shape)
    return breakdown_table(ResampledScores(slices, CLASSES, ap, errors, recall, objects, np.full((4, 11), 9)))


@pytest.fixture
def asked(make, monkeypatch):
    """The requests that the stage gets; it finds the same scores for every model, but `gone` is stale."""
    requests = []
    models = {"teacher": make("train-teacher", "teacher"), "plain": make("distill", "plain")}
    long = "a-rather-long-name-of-a-student-run"
    make("distill", "gone")
    evaluations = {
        name: make("evaluate", f"{name}-val", inputs={"model": model}, facts={"model": name, "split": "mini_val"})
        for name, model in models.items()
    }
    evaluations[long] = make("evaluate", "long", facts={"model": long, "split": "mini_val"})

    def evaluate(request, workspace, progress):
        requests.append(request)
        if request.model == "distill/gone":
            raise StaleArtifactError("distill/gone is stale")
        metrics = None if request.split == "test" else some_metrics()
        name, difference = (request.model or "plain").split("/")[-1], 2e-16 if request.official else None
        resamples = 20 if request.analysis.resamples is None else request.analysis.resamples
        analysis = Analysis(some_breakdown(resamples), diagnoses) if metrics is not None else None
        return stage.EvaluateResult(
            evaluations[name], name, request.split, metrics, False, difference, analysis=analysis
        )

    diagnoses = (Diagnosis("no radar points", "none of the 7 samples has one", "unpack the radar files"),)
    monkeypatch.setattr(stage, "evaluate", evaluate)
    return requests


def test_one_model_shows_its_classes_within_80_columns(crkd, asked):
    result = crkd("evaluate", "--split", "train", "--batch-size", "2")
    assert result.code == 0
    assert [(request.model, request.split, request.batch_size) for request in asked] == [(None, "train", 2)]
    assert result.out.split().count("0.2500") > 10
    assert "0.3750" in result.out
    assert all(name in result.out for name in CLASSES)
    assert "nan" not in result.out
    tables = [line for line in result.out.splitlines() if "/" not in line]
    assert max(map(len, tables)) <= 80


def test_several_models_are_rows(crkd, asked):
    result = crkd("evaluate", "-m", "a-rather-long-name-of-a-student-run", "-m", "plain")
    assert [request.model for request in asked] == ["a-rather-long-name-of-a-student-run", "plain"]
    assert "car" not in result.out.split()
    rows = [line for line in result.out.splitlines() if "0.3750" in line]
    assert len(rows) == 2
    assert max(map(len, rows)) <= 80


def test_all_leaves_out_what_is_stale(crkd, asked):
    result = crkd("evaluate", "--all", "--json")
    assert result.code == 0
    assert [request.model for request in asked] == ["train-teacher/teacher", "distill/plain", "distill/gone"]
    values = json.loads(result.out)
    assert [entry["model"] for entry in values["models"]] == ["teacher", "plain"]
    assert values["models"][0]["metrics"]["mean_ap"] == 0.25
    assert values["models"][0]["metrics"]["label_tp_errors"]["car"]["orient_err"] is None
    assert "warning: left out: distill/gone is stale" in result.err


def test_official_shows_how_far_the_devkit_is(crkd, asked):
    assert "the largest difference is 2.0e-16" in crkd("evaluate", "--official").out
    assert [request.official for request in asked] == [True]
    assert "devkit" not in crkd("evaluate").out
    values = json.loads(crkd("evaluate", "--official", "--json").out)
    assert values["models"][0]["official_difference"] == 2e-16


def test_a_breakdown_is_shown_within_80_columns(crkd, asked):
    result = crkd("evaluate", "--breakdown", "range")
    assert result.code == 0
    assert "teacher by range: distance from the car (m)" not in result.out
    assert "plain by range: distance from the car (m)" in result.out
    assert result.out.count("20-30") == 2
    bicycle = [line.split() for line in result.out.splitlines() if line.startswith(" bicycle")][-1]
    assert bicycle[1] == "-"
    assert all("0." in cell for cell in bicycle[2:])
    tables = [line for line in result.out.splitlines() if "/" not in line]
    assert max(map(len, tables)) <= 80
    assert "95% of the resamples" in result.out
    assert "no object belongs" in crkd("evaluate", "--breakdown", "speed").out


def test_known_causes_are_named_last(crkd, asked):
    lines = crkd("evaluate").out.splitlines()
    assert lines[-3:] == [
        "Suspicious in plain: no radar points.",
        "  none of the 7 samples has one.",
        "  unpack the radar files.",
    ]


def test_json_has_every_row(crkd, asked):
    (entry,) = json.loads(crkd("evaluate", "--bootstrap", "0", "--json").out)["models"]
    assert entry["findings"][0]["cause"] == "no radar points"
    assert len(entry["breakdown"]) == 4 * 11 - 1
    assert entry["breakdown"][0]["ap_low"] is None
    assert entry["curves"] == []


def test_an_unknown_kind_of_slices(crkd, asked):
    result = crkd("evaluate", "--breakdown", "colour")
    assert result.code == 2
    assert "range, speed, visibility" in result.err
    assert asked == []


def test_a_named_stale_model_is_an_error(crkd, asked):
    result = crkd("evaluate", "--model", "distill/gone")
    assert (result.code, result.out) == (4, "")


def test_all_and_model_exclude_each_other(crkd, asked):
    assert crkd("evaluate", "--all", "--model", "plain").code == 2
    assert asked == []


def test_without_annotations_there_is_a_submission(crkd, asked):
    result = crkd("evaluate", "--split", "test")
    assert result.code == 0
    assert "submission" in result.out


def test_a_workspace_without_models(crkd):
    assert crkd("evaluate", "--all").code == 2
    assert crkd("evaluate").code == 4
