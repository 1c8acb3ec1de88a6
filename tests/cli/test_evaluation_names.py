"""Evaluations of models and result files that share a name are told apart, and none replaces another."""

import json
import shutil

import pytest

from crkd_core.artifacts.atomic import write_bytes
from crkd_core.artifacts.workspace import Artifact, Workspace
from crkd_core.artifacts.writer import ArtifactRequest
from tests.support.result_files import perfect_results, prepared_of, write_results


def clone(workspace: Workspace, artifact: Artifact, name: str, changed: str = "") -> Artifact:
    """The same model under another name; `changed` makes its contents others."""
    manifest = artifact.manifest
    settings = {**manifest.settings, "cloned": changed}
    request = ArtifactRequest(artifact.stage, name, manifest.command, settings, manifest.inputs, force=True)
    with workspace.write(request) as writer:
        for relative in manifest.files:
            write_bytes(writer.path / relative, artifact.file(relative).read_bytes())
        return writer.finish(manifest.facts)


@pytest.fixture
def workspace(evaluated, tmp_path) -> Workspace:
    """A teacher and a student called x."""
    copy = evaluated.copy(tmp_path).workspace
    for stage, source in (("train-teacher", "teacher"), ("distill", "plain")):
        clone(copy, copy.find(stage, source, needed_for="test", make=""), "x")
    return copy


@pytest.fixture
def results(evaluated, tmp_path):
    """Two files of one name: all annotations, and all but those of the first sample."""
    perfect = perfect_results(prepared_of(evaluated.workspace))
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = write_results(tmp_path / "a" / "res.json", perfect)
    perfect["results"][next(iter(perfect["results"]))] = []
    return first, write_results(tmp_path / "b" / "res.json", perfect)


def as_json(crkd, *arguments) -> list[dict]:
    ended = crkd("evaluate", *arguments, "--workers", "0", "--json")
    assert ended.code == 0, ended.err
    return json.loads(ended.out)["models"]


def names(workspace: Workspace) -> set[str]:
    return {artifact.name for artifact in workspace.artifacts("evaluate")}


@pytest.mark.parametrize("together", [True, False])
def test_a_teacher_and_a_student_of_one_name(crkd, workspace, together):
    labels, at = ["train-teacher/x", "distill/x"], ("-w", workspace.root)
    if together:
        entries = as_json(crkd, "--model", labels[0], "--model", labels[1], *at)
        assert [entry["model"] for entry in entries] == labels
    else:
        entries = [as_json(crkd, "--model", label, *at)[0] for label in labels]
    assert names(workspace) == {"crkd-val", "x-val", "distill-x-val"}
    teacher, student = entries
    assert teacher["artifact"] != student["artifact"]
    assert teacher["breakdown"] != student["breakdown"]
    assert teacher["metrics"] != student["metrics"]
    # Whichever comes next, each finds its own again.
    again = as_json(crkd, "--model", labels[1], "--model", labels[0], *at)
    assert [entry["artifact"] for entry in again] == [student["artifact"], teacher["artifact"]]
    shown = crkd("evaluate", "--all", "--workers", "0", *at, "--breakdown", "range").out
    for title in (*labels, "crkd by range", "teacher by range"):
        assert title in shown
    assert "\n x " not in shown


@pytest.mark.parametrize("together", [True, False])
def test_two_files_of_one_name(crkd, workspace, results, together):
    at = ("-w", workspace.root)
    if together:
        entries = as_json(crkd, "--results", results[0], "--results", results[1], *at)
        assert [entry["model"] for entry in entries] == ["a/res.json", "b/res.json"]
    else:
        entries = [as_json(crkd, "--results", file, *at)[0] for file in results]
    assert {"res-val", "b-res-val"} <= names(workspace)
    first, second = entries
    assert first["metrics"]["mean_ap"] > second["metrics"]["mean_ap"]
    assert first["breakdown"] != second["breakdown"]
    # A file that changed where it lies replaces its own evaluation only.
    shutil.copy(results[0], results[1])
    changed = as_json(crkd, "--results", results[1], *at)[0]
    assert changed["artifact"] == second["artifact"]
    assert changed["metrics"] == first["metrics"]
    assert as_json(crkd, "--results", results[0], *at)[0]["artifact"] == first["artifact"]
    shown = crkd("evaluate", "--results", results[0], "--results", results[1], *at).out
    assert "a/res.json" in shown
    assert "b/res.json" in shown


def test_folders_of_one_name_and_a_model_called_like_a_file(crkd, workspace, results, tmp_path):
    deeper = tmp_path / "other" / "a" / "res.json"
    deeper.parent.mkdir(parents=True)
    shutil.copy(results[1], deeper)
    clone(workspace, workspace.find("distill", "plain", needed_for="test", make=""), "res")
    at = ("-w", workspace.root)
    arguments = [word for file in (*results, deeper) for word in ("--results", file)]
    entries = as_json(crkd, *arguments, *at)
    assert len({entry["artifact"] for entry in entries}) == 3
    assert [entry["model"] for entry in entries[1:]] == ["b/res.json", "other/a/res.json"]
    before = names(workspace)
    model = as_json(crkd, "--model", "res", *at)[0]
    assert names(workspace) - before == {"distill-res-val"}
    assert model["artifact"].endswith("distill-res-val")


def test_a_model_that_was_trained_again_replaces_its_own_evaluation(crkd, workspace):
    at = ("-w", workspace.root)
    as_json(crkd, "--model", "distill/x", *at)
    student = clone(workspace, workspace.find("distill", "plain", needed_for="test", make=""), "x", changed="anew")
    ended = crkd("evaluate", "--model", "distill/x", "--workers", "0", *at)
    assert ended.code == 0
    assert "replaced" not in ended.err
    assert names(workspace) == {"crkd-val", "x-val"}
    (evaluation,) = [artifact for artifact in workspace.artifacts("evaluate") if artifact.name == "x-val"]
    assert evaluation.manifest.inputs["model"] == student.reference()
    other = crkd("evaluate", "--model", "distill/x", "--set", "student.head.nms.score_threshold=0.5", "-q", *at)
    assert "warning: evaluate/x-val is replaced by one with other settings" in other.err
    assert "nms.score_threshold (0.1 -> 0.5)" in other.err


def test_one_model_on_two_prepared_data_sets(crkd, workspace, evaluated):
    at = ("-w", workspace.root)
    assert crkd("prepare", "--nuscenes", evaluated.nuscenes, "--name", "again", *at).code == 0
    first = as_json(crkd, "--model", "crkd", *at)[0]
    second = as_json(crkd, "--model", "crkd", "--prepared", "again", *at)[0]
    assert first["artifact"] != second["artifact"]
    assert names(workspace) == {"crkd-val", "crkd-val-again"}
    drawn = crkd("visualize", "--samples", "1", *at)
    assert drawn.code == 0


def test_comparisons_and_pictures_follow_what_was_scored(crkd, workspace, results, tmp_path):
    at = ("-w", workspace.root)
    ended = crkd("compare", "distill/x", "train-teacher/x", "--json", *at)
    assert ended.code == 0, ended.err
    compared = json.loads(ended.out)
    assert (compared["first"], compared["second"]) == ("distill/x", "train-teacher/x")
    whole = compared["comparison"][0]
    assert whole["nds_first"] != whole["nds_second"] or compared["missed"] != {}
    turned = json.loads(crkd("compare", "train-teacher/x", "distill/x", "--json", *at).out)
    assert turned["artifact"] != compared["artifact"]
    assert turned["comparison"][0]["nds_first"] == whole["nds_second"]
    refused = crkd("compare", "x", "crkd", *at)
    assert refused.code == 2
    assert "'x' may mean distill/x or train-teacher/x; name one of them in full." in refused.err
    assert crkd("visualize", "--model", "x", *at).code == 2
    assert as_json(crkd, "--results", results[0], "--results", results[1], *at)
    ambiguous = crkd("compare", "res", "crkd", *at)
    assert "evaluate/b-res-val or evaluate/res-val" in ambiguous.err
    files = crkd("compare", "evaluate/res-val", "evaluate/b-res-val", "--json", *at)
    assert json.loads(files.out)["first"] == "a/res.json"
    drawn = crkd("visualize", "--samples", "1", "--model", "train-teacher/x", "--model", "distill/x", *at)
    assert drawn.code == 0, drawn.err
    page = (workspace.root / "visualize" / "val" / "index.html").read_text()
    assert "train-teacher/x" in page
    assert "distill/x" in page
    missed = crkd("visualize", "--samples", "1", "--missed", "a-res.json-b-res.json-val", *at)
    assert missed.code == 0, missed.err
    curves = as_json(crkd, "--model", "train-teacher/x", "--model", "distill/x", "--curves", *at)
    assert not set(curves[0]["curves"]) & set(curves[1]["curves"])
