"""crkd evaluate --results: any detector's nuScenes result file, through the real command; and the test split."""

import json
import shutil
from pathlib import Path

import pytest

from crkd_core.artifacts.workspace import Workspace
from crkd_core.datasets.prepared.prepared_data import PreparedData
from crkd_core.evaluation.io.detections import Detections, read_detections
from tests.support.result_files import perfect_results, prepared_of, write_results
from tests.support.unlabelled_world import TEST_VERSION, write_test_world


@pytest.fixture
def only_prepared(chain, tmp_path) -> Workspace:
    """A workspace with prepared data and nothing else."""
    shutil.copytree(chain.workspace.root / "prepare", tmp_path / "ws" / "prepare")
    return Workspace(tmp_path / "ws")


def detections_of(workspace: Workspace, name: str) -> Detections:
    return read_detections(workspace.find("evaluate", name, needed_for="test", make=""))


@pytest.mark.devkit
def test_perfect_detections_score_perfectly(crkd, only_prepared, tmp_path):
    results = perfect_results(prepared_of(only_prepared))
    file = write_results(tmp_path / "Other detector, v2.json", results)
    arguments = ("evaluate", "--results", file, "--split", "mini_val", "-w", only_prepared.root)
    result = crkd(*arguments, "--official", "--json")
    assert result.code == 0, result.err
    (entry,) = json.loads(result.out)["models"]
    assert entry["model"] == "Other-detector-v2"
    assert entry["official_difference"] < 1e-9
    metrics = entry["metrics"]
    assert metrics["label_aps"]["car"]["0.5"] > 0.99
    assert metrics["label_tp_errors"]["car"]["trans_err"] == pytest.approx(0, abs=1e-9)
    assert metrics["label_tp_errors"]["car"]["vel_err"] > 0.1
    manifest = json.loads((Path(entry["artifact"]) / "manifest.json").read_text())
    assert manifest["facts"]["modalities"] == ["camera"]
    assert manifest["facts"]["nds"] == pytest.approx(metrics["nd_score"])
    boxes = sum(len(boxes) for boxes in results["results"].values())
    assert len(detections_of(only_prepared, "Other-detector-v2-mini_val")) == boxes


def test_a_changed_file_is_read_again_and_an_equal_one_is_not(crkd, only_prepared, tmp_path):
    results = perfect_results(prepared_of(only_prepared))
    file = write_results(tmp_path / "other.json", results)
    arguments = ("evaluate", "--results", file, "-w", only_prepared.root, "--json")
    first = json.loads(crkd(*arguments).out)["models"][0]
    made = (Path(first["artifact"]) / "manifest.json").stat().st_mtime_ns
    assert json.loads(crkd(*arguments).out)["models"][0] == first
    assert (Path(first["artifact"]) / "manifest.json").stat().st_mtime_ns == made
    token = next(iter(results["results"]))
    results["results"][token] = []
    write_results(file, results)
    second = json.loads(crkd(*arguments).out)["models"][0]
    assert second["metrics"]["mean_ap"] < first["metrics"]["mean_ap"]
    assert len(detections_of(only_prepared, "other-val").rows(token)) == 0


def test_a_models_own_submission_scores_as_the_model(crkd, evaluated, tmp_path):
    copy = evaluated.copy(tmp_path)
    submission = copy.workspace.root / "evaluate" / "crkd-val" / "submission.json"
    file = shutil.copy(submission, tmp_path / "again.json")
    result = crkd("evaluate", "--results", file, "--results", submission, "-w", copy.workspace.root, "--json")
    assert result.code == 0, result.err
    metrics = json.loads((submission.parent / "metrics.json").read_text())
    for entry in json.loads(result.out)["models"]:
        assert entry["metrics"]["nd_score"] == pytest.approx(metrics["nd_score"], abs=1e-12)
    assert [entry["model"] for entry in json.loads(result.out)["models"]] == ["again", "submission"]
    rows = crkd("evaluate", "--results", file, "-w", copy.workspace.root)
    assert "again" in rows.out
    drawn = crkd("visualize", "--samples", "1", "--model", "again", "-w", copy.workspace.root, "--debug")
    assert drawn.code == 0, drawn.err


def test_a_file_that_is_named_twice_is_evaluated_once(crkd, only_prepared, tmp_path):
    file = write_results(tmp_path / "other.json", perfect_results(prepared_of(only_prepared)))
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path)
    spellings = (file, tmp_path / "folder" / ".." / "other.json", tmp_path / "link" / "other.json", file)
    results = [word for path in spellings for word in ("--results", path)]
    ended = crkd("evaluate", *results, "-w", only_prepared.root, "--json")
    assert ended.code == 0, ended.err
    assert [entry["model"] for entry in json.loads(ended.out)["models"]] == ["other"]


def test_a_file_does_not_replace_a_model(crkd, evaluated, tmp_path):
    copy = evaluated.copy(tmp_path)
    file = shutil.copy(copy.workspace.root / "evaluate" / "crkd-val" / "submission.json", tmp_path / "crkd.json")
    before = (copy.workspace.root / "evaluate" / "crkd-val" / "manifest.json").read_bytes()
    ended = crkd("evaluate", "--results", file, "-w", copy.workspace.root, "--json")
    assert ended.code == 0, ended.err
    assert Path(json.loads(ended.out)["models"][0]["artifact"]).name == f"{tmp_path.name}-crkd-val"
    assert (copy.workspace.root / "evaluate" / "crkd-val" / "manifest.json").read_bytes() == before


@pytest.mark.parametrize("more", [("--all",), ("--model", "crkd"), ("--set", "student.head.nms.max_detections=9")])
def test_a_file_and_a_model_exclude_each_other(refused, only_prepared, tmp_path, more):
    (tmp_path / "r.json").write_text("{}")
    refused(2, ("--results", "leave out"), "evaluate", "--results", "r.json", *more, "-w", only_prepared.root)


@pytest.mark.devkit
def test_the_test_split_gives_a_submission_and_no_scores(crkd, chain, tmp_path):
    from nuscenes.eval.common.loaders import load_prediction
    from nuscenes.eval.detection.data_classes import DetectionBox

    world, root = write_test_world(chain, tmp_path), chain.copy(tmp_path).workspace.root
    assert crkd("prepare", "--nuscenes", world, "-w", root).code == 0
    arguments = ("--split", "test", "--prepared", TEST_VERSION, "-w", root)
    result = crkd("evaluate", "--model", "crkd", "--workers", "0", *arguments)
    assert result.code == 0, result.err
    submission = root / "evaluate" / "crkd-test" / "submission.json"
    assert "submit" in result.out
    assert str(submission) in result.out
    boxes, meta = load_prediction(str(submission), 500, DetectionBox)
    tokens = PreparedData(Workspace(root).find("prepare", TEST_VERSION, needed_for="test", make="")).tokens("test")
    assert set(boxes.sample_tokens) == set(tokens)
    assert meta["use_radar"] is True
    checked = crkd("evaluate", "--results", submission, *arguments, "--json")
    assert checked.code == 0, checked.err
    assert json.loads(checked.out)["models"][0]["metrics"] is None
    assert str(submission) in crkd("evaluate", "--results", submission, *arguments).out
