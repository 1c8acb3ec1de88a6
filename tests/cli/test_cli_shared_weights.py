"""Weights that say what they are: exported, imported without a configuration, by name, and refused when damaged."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from crkd_core.artifacts.workspace import Workspace
from crkd_core.weights import catalogue
from tests.support.published_models import tiny_published

TEACHER = "simulated-tiny-teacher"


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A teacher of random weights, with a setting of its own, exported with its manifest."""
    from crkd_core.config import load_config
    from crkd_core.progress import SilentProgress
    from crkd_core.stages.export_weights import ExportRequest, export_weights
    from crkd_core.stages.import_weights import ImportRequest, import_weights

    folder = tmp_path_factory.mktemp("exported")
    torch.save({"state_dict": tiny_published("teacher")}, folder / "given.pth")
    workspace = Workspace(folder / "workspace")
    config = load_config("tiny", None, ["data.lidar.sweeps=7"])
    import_weights(ImportRequest(folder / "given.pth", "teacher", config), workspace, SilentProgress())
    request = ExportRequest("teacher", folder / f"{TEACHER}.safetensors", "shared", revision="abc")
    export_weights(request, workspace, SilentProgress())
    return folder


@pytest.fixture
def shipped(exported, monkeypatch, tmp_path):
    """The folder of shipped models, with that teacher in it; to be changed."""
    folder = tmp_path / "shipped"
    folder.mkdir()
    for suffix in (".safetensors", ".json"):
        shutil.copy(exported / f"{TEACHER}{suffix}", folder)
    monkeypatch.setattr(catalogue, "FOLDER", folder)
    return folder


def imported(tmp_path, name: str = "teacher"):
    return Workspace(tmp_path / "crkd-workspace").get("train-teacher", name)


def test_what_is_exported_says_what_it_is(crkd, exported):
    manifest = json.loads((exported / f"{TEACHER}.json").read_text())
    assert (manifest["name"], manifest["role"], manifest["model"]) == (TEACHER, "teacher", "teacher_r50")
    assert (manifest["precision"], manifest["revision"]) == ("fp16", "abc")
    assert manifest["config"]["data"]["lidar"]["sweeps"] == 7
    assert str(exported) not in json.dumps(manifest)
    state = load_file(exported / f"{TEACHER}.safetensors")
    assert {tensor.dtype for tensor in state.values() if tensor.dim() > 1} == {torch.float16}


def test_the_same_export_gives_the_same_bytes(crkd, refused, exported, tmp_path):
    command = ("export-weights", "teacher", "--format", "shared", "--workspace", exported / "workspace")
    command = (*command, "--revision", "abc", "--out", f"{TEACHER}.safetensors")
    result = crkd(*command)
    assert f"manifest  {TEACHER}.json" in result.out
    for suffix in (".safetensors", ".json"):
        assert (tmp_path / f"{TEACHER}{suffix}").read_bytes() == (exported / f"{TEACHER}{suffix}").read_bytes()
    (tmp_path / f"{TEACHER}.safetensors").unlink()
    refused(2, (f"{TEACHER}.json exists", "--force"), *command)


@pytest.mark.parametrize("by_name", [True, False])
def test_no_configuration_is_needed(crkd, exported, shipped, tmp_path, by_name):
    result = crkd("import-weights", TEACHER if by_name else exported / f"{TEACHER}.safetensors", "--as", "teacher")
    assert result.code == 0, result.err
    original = Workspace(exported / "workspace").get("train-teacher", "teacher")
    artifact = imported(tmp_path)
    assert artifact.file("config.yaml").read_bytes() == original.file("config.yaml").read_bytes()
    before, after = (load_file(model.file("model.safetensors")) for model in (original, artifact))
    assert before.keys() == after.keys()
    for key in before:
        assert after[key].dtype == before[key].dtype
        torch.testing.assert_close(after[key], before[key], rtol=1e-3, atol=1e-7)
    # The recorded command makes it again, in whatever folder and beside whatever models.
    made = artifact.manifest.command.split()
    assert ("--preset" in made, "--config" in made) == (False, False)
    assert made[2] == (TEACHER if by_name else str(exported / f"{TEACHER}.safetensors"))
    assert crkd(*made[1:], "--force").code == 0
    assert imported(tmp_path).manifest.digest == artifact.manifest.digest


def test_a_name_comes_before_a_file_of_that_name(crkd, shipped, tmp_path):
    (tmp_path / TEACHER).write_text("no checkpoint")
    assert crkd("import-weights", TEACHER, "--as", "teacher").code == 0
    result = crkd("import-weights", tmp_path / TEACHER, "--as", "teacher", "--name", "other")
    assert result.code == 2
    assert "is no checkpoint" in result.err


def test_an_image_backbone_can_be_taken_from_it(crkd, shipped, tmp_path):
    assert crkd("import-weights", TEACHER, "--as", "backbone").code == 0
    assert Workspace(tmp_path / "crkd-workspace").names("import-weights") == [TEACHER]


def test_settings_that_the_weights_bear_are_kept_and_named(crkd, shipped, tmp_path):
    result = crkd("import-weights", TEACHER, "--as", "teacher", "--set", "data.lidar.sweeps=2", "--quiet")
    assert result.code == 0
    assert "was trained with other settings of data.lidar; its recorded scores are not" in result.err.replace("\n", " ")
    assert "--set data.lidar.sweeps=2" in imported(tmp_path).manifest.command


@pytest.mark.parametrize(
    "options",
    [
        ("--set", "teacher.lidar.out_channels=64"),
        ("--set", "teacher.camera.view_transform.depth_step_m=2"),
        ("--set", "data.image.width_px=256"),
        ("--preset", "paper-r50"),
        ("--preset", "paper-swint"),
    ],
)
def test_settings_that_the_shapes_contradict_are_refused(refused, shipped, options):
    words = (TEACHER, "it brings its own configuration: leave out --preset, --config and --set")
    refused(2, words, "import-weights", TEACHER, "--as", "teacher", *options)


def test_other_names_and_roles_are_refused(refused, shipped):
    words = ("there is no checkpoint file simulated-tiny", f"or a shipped model: {TEACHER}")
    refused(2, words, "import-weights", "simulated-tiny", "--as", "teacher")
    refused(2, (f"{TEACHER} cannot be imported --as student",), "import-weights", TEACHER, "--as", "student")
    refused(2, ("no averaged",), "import-weights", TEACHER, "--as", "teacher", "--ema")


def flip(path, position: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[position] ^= 1
    path.write_bytes(raw)


DAMAGES = {
    "the first byte of the weights": lambda weights, manifest: flip(weights, 0),
    "the last byte of the weights": lambda weights, manifest: flip(weights, -1),
    "half of the weights": lambda weights, manifest: weights.write_bytes(weights.read_bytes()[:100_000]),
    "no weights": lambda weights, manifest: weights.unlink(),
    "half of the manifest": lambda weights, manifest: manifest.write_text(manifest.read_text()[:300]),
    "an empty manifest": lambda weights, manifest: manifest.write_text(""),
    "another JSON file": lambda weights, manifest: manifest.write_text("[1]"),
    "another setting": lambda weights, manifest: manifest.write_text(
        manifest.read_text().replace('"sweeps": 7', '"sweeps": 5')
    ),
    "another checksum": lambda weights, manifest: manifest.write_text(
        manifest.read_text().replace('"sha256": "', '"sha256": "0', 1)
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_models_are_refused(refused, shipped, damage):
    DAMAGES[damage](shipped / f"{TEACHER}.safetensors", shipped / f"{TEACHER}.json")
    words = (f"{TEACHER} is damaged", "install crkd again")
    refused(4, words, "import-weights", TEACHER, "--as", "teacher")


def test_a_damaged_copy_beside_its_manifest_is_refused(refused, shipped):
    file = shipped / f"{TEACHER}.safetensors"
    flip(file, -1)
    refused(
        4, (f"{TEACHER}.safetensors is damaged", "copy both files again"), "import-weights", file, "--as", "teacher"
    )


@pytest.mark.parametrize("text", ["{}", '{"kind": "other"}', "not JSON", "[]", ""])
def test_a_json_file_of_something_else_is_no_manifest(crkd, shipped, text):
    (shipped / f"{TEACHER}.json").write_text(text)
    file = shipped / f"{TEACHER}.safetensors"
    result = crkd("import-weights", file, "--as", "teacher", "--preset", "tiny")
    assert result.code == 0, result.err


def test_the_help_names_the_shipped_models(crkd):
    said = crkd("import-weights", "--help").out
    assert "comes with crkd" in " ".join(said.split())
    assert all(name in said for name in catalogue.shipped_names())
