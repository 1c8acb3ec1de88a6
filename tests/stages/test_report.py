"""The report of visualize over real artifacts: comparisons come into it, and what is missing or damaged stays out."""

from dataclasses import replace

import pytest

from crkd_core.progress import SilentProgress
from crkd_core.stages import visualize as stage
from crkd_core.stages.compare import CompareRequest, compare
from crkd_core.stages.evaluate import EvaluateRequest, evaluate
from crkd_core.stages.prepare import PrepareRequest, prepare
from crkd_core.stages.visualize import VisualizeRequest, visualize
from crkd_core.training.metric_log import METRICS_NAME
from crkd_core.visualization import pictures
from tests.support.reports import write_plain_picture
from tests.support.unlabelled_world import TEST_VERSION, write_test_world

PROGRESS = SilentProgress()
REQUEST = VisualizeRequest(samples=1, models=("plain", "crkd"))


class Heard(SilentProgress):
    def __init__(self):
        self.lines = []

    def warning(self, text):
        self.lines.append(text)


@pytest.fixture(autouse=True)
def _quick_pictures(monkeypatch):
    monkeypatch.setattr(pictures, "write_picture", write_plain_picture)


@pytest.fixture(scope="module")
def workspace(chain, tmp_path_factory):
    """Both students evaluated on val."""
    workspace = chain.copy(tmp_path_factory.mktemp("report")).workspace
    for model in ("plain", "crkd"):
        evaluate(EvaluateRequest(model, device="cpu", workers=0), workspace, PROGRESS)
    return workspace


def test_a_comparison_comes_into_the_report(workspace):
    before = visualize(REQUEST, workspace, PROGRESS)
    page = before.index.read_text()
    assert "crkd compare distill/plain distill/crkd --split val" in page
    assert "distill/crkd): loss terms" in page
    assert "crkd against plain" not in page
    compared = compare(CompareRequest("plain", "crkd", resamples=10), workspace, PROGRESS)
    after = visualize(REQUEST, workspace, PROGRESS)
    assert after.artifact.manifest.inputs["comparison-plain-crkd-val"] == compared.artifact.reference()
    assert "crkd against plain" in after.index.read_text()
    assert after.tokens == before.tokens
    again = visualize(REQUEST, workspace, PROGRESS)
    assert again.artifact.manifest.created == after.artifact.manifest.created
    # Of a single model there is nothing to compare.
    alone = visualize(replace(REQUEST, models=("crkd",)), workspace, PROGRESS)
    assert "There is one model" in alone.index.read_text()


def test_what_is_damaged_is_left_out_with_a_warning(workspace, chain, tmp_path):
    copy = replace(chain, workspace=workspace).copy(tmp_path).workspace
    compared = compare(CompareRequest("plain", "crkd", resamples=10), copy, PROGRESS)
    compared.artifact.file("comparison.parquet").write_bytes(b"PAR1")
    run = next(run for run in copy.artifacts("distill") if run.name == "plain")
    run.file(METRICS_NAME).write_bytes(b"")
    heard = Heard()
    page = visualize(REQUEST, copy, heard).index.read_text()
    assert "crkd against plain" not in page
    assert "No training is recorded of plain." in page
    assert sum("left out" in line for line in heard.lines) == 2, heard.lines


def test_the_split_without_annotations(chain, tmp_path):
    copy = chain.copy(tmp_path)
    world = write_test_world(chain, tmp_path)
    prepare(PrepareRequest(world, version=TEST_VERSION), copy.workspace, PROGRESS)
    evaluate(
        EvaluateRequest("crkd", split="test", prepared=TEST_VERSION, device="cpu", workers=0), copy.workspace, PROGRESS
    )
    result = visualize(VisualizeRequest(split="test", samples=1, score=0.0), copy.workspace, PROGRESS)
    page = result.index.read_text()
    assert "are not public, so there are no scores" in page
    assert "ground truth" not in page
    assert "detections" in page
    assert result.index.name == stage.INDEX_NAME
