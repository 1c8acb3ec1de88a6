"""``crkd export-weights`` as users meet it: what it writes, ``crkd import-weights`` reads back."""

import pytest
import torch
from safetensors.torch import load_file

from crkd_core.artifacts.workspace import Workspace
from tests.support.printed import pasted
from tests.support.published_models import tiny_published


@pytest.fixture
def imported(crkd, workspace, tmp_path):
    """Makes a run of the workspace from a published checkpoint of the tiny preset; returns that checkpoint."""

    def make(role: str, section: str, name: str, *options: str) -> dict[str, torch.Tensor]:
        state = tiny_published(section)
        if role == "student":
            state = {
                key: tensor for key, tensor in state.items() if ".caliber." not in key and "distill_act" not in key
            }
        torch.save({"state_dict": state}, tmp_path / "given.pth")
        result = crkd("import-weights", "given.pth", "--as", role, "--name", name, "--preset", "tiny", *options)
        assert result.code == 0, result.err
        return state

    return make


@pytest.mark.parametrize(
    ("role", "section", "run"),
    [
        ("teacher", "teacher", "train-teacher/it"),
        ("student", "student", "distill/it"),
        ("distilled", "student", "distill/it"),
    ],
)
def test_exported_weights_are_the_published_ones_and_come_back(crkd, imported, tmp_path, role, section, run):
    state = imported(role, section, "it")
    result = crkd("export-weights", "it", "--format", "published", "--out", "shared/it.safetensors")
    assert result.code == 0, result.err
    facts = dict(line.split(maxsplit=1) for line in result.out.splitlines())
    assert facts["exported"] == "shared/it.safetensors"
    assert facts["model"] == f"{'teacher' if role == 'teacher' else 'student'}_r50, {run}"
    exported = load_file(tmp_path / "shared" / "it.safetensors")
    assert exported.keys() == state.keys()
    assert all(torch.equal(exported[key], state[key]) and exported[key].dtype == state[key].dtype for key in state)

    again = crkd(*pasted(facts["import"], tmp_path), "--workspace", "elsewhere", "--name", "back")
    assert again.code == 0, again.err
    stage = run.partition("/")[0]
    here, there = Workspace(tmp_path / "crkd-workspace"), Workspace(tmp_path / "elsewhere")
    original, back = (store.get(stage, name) for store, name in ((here, "it"), (there, "back")))
    assert original.manifest.files["model.safetensors"] == back.manifest.files["model.safetensors"]
    assert original.manifest.files["config.yaml"] == back.manifest.files["config.yaml"]


def test_existing_files_are_only_replaced_by_force(crkd, refused, imported, tmp_path):
    imported("student", "student", "plain")
    (tmp_path / "it.safetensors").write_text("mine")
    command = ("export-weights", "plain", "--out", "it.safetensors")
    refused(2, ("it.safetensors exists", "--force"), *command)
    assert crkd(*command, "--force").code == 0
    first = (tmp_path / "it.safetensors").read_bytes()
    assert crkd(*command, "--force").code == 0
    assert (tmp_path / "it.safetensors").read_bytes() == first


def test_what_cannot_be_exported_is_one_sentence(refused, imported, tmp_path):
    imported("student", "student", "plain")
    refused(2, ("no pickle", "ending in .safetensors"), "export-weights", "plain", "--out", "student.pth")
    (tmp_path / "folder.safetensors").mkdir()
    refused(2, ("is a folder",), "export-weights", "plain", "--out", "folder.safetensors")
    refused(
        4, ("no trained model is named 'other'", "distill/plain"), "export-weights", "other", "--out", "o.safetensors"
    )
    (tmp_path / "crkd-workspace/distill/plain/model.safetensors").write_bytes(b"")
    refused(4, ("model.safetensors",), "export-weights", "plain", "--out", "plain.safetensors")


def test_settings_that_the_released_code_has_not_are_named(crkd, imported):
    imported("student", "student", "plain", "--set", "student.radar.padding=masked")
    result = crkd("export-weights", "plain", "--out", "plain.safetensors", "--quiet")
    assert result.code == 0
    assert "the released code has no radar.padding=masked" in result.err.replace("\n", " ")
