"""A preset that was forgotten: it is said when it does not fit the images, and the workspace's models decide."""

import pytest

from crkd_core.artifacts.configuration import data_to_prepare, resolve_nms
from crkd_core.config.loading import load_config, with_overrides
from crkd_core.datasets.prepared.preset_fit import fitting_preset
from crkd_core.stages import distill, train_teacher
from tests.support.chain import Chain
from tests.support.described import add_model

FEW_SWEEPS = ("--set", "data.lidar.sweeps=2", "--set", "data.radar.sweeps=3")


@pytest.fixture
def trained(monkeypatch):
    """Catches what would be trained."""
    specs = []

    def catch(spec, *_, **__):
        specs.append(spec)

    for stage in (train_teacher, distill):
        monkeypatch.setattr(stage, "run_training", catch)
    return specs


@pytest.mark.parametrize(("width_px", "preset"), [(1600, "paper-r50"), (704, "small"), (352, "tiny"), (192, "tiny")])
def test_the_preset_for_images_of_a_width(width_px, preset):
    assert fitting_preset(width_px) == preset


@pytest.mark.parametrize(
    ("width_px", "dataset", "preset"),
    [(1980, "truckscenes", "truckscenes-r50"), (436, "truckscenes", "truckscenes-tiny"), (1600, "own", "paper-r50")],
)
def test_a_data_set_has_presets_of_its_own_or_nuscenes(width_px, dataset, preset):
    assert fitting_preset(width_px, dataset) == preset


def test_a_grid_that_leaves_out_most_of_what_is_evaluated_is_told(crkd, chain, tmp_path, trained):
    workspace = chain.copy(tmp_path).workspace
    near = tuple(part for axis in "xy" for part in ("--set", f"data.grid.{axis}_range_m=[-24, 24]"))
    result = crkd("train-teacher", "--preset", "tiny", *near, *FEW_SWEEPS, "-w", workspace.root)
    assert result.code == 0, result.err
    said = "data.grid ends 24 m from the car, and objects of nuScenes are evaluated up to 50 m"
    assert f"warning: {said}; the preset for such data is tiny: --preset tiny" in result.err


@pytest.mark.parametrize(
    ("command", "preset", "said"),
    [
        (("train-teacher",), "paper-r50", "enlarges them to 768 px; the preset for such images is tiny: --preset tiny"),
        (("train-teacher",), "small", "enlarges them to 368 px; the preset for such images is tiny: --preset tiny"),
        (("distill", "--losses", "none"), "paper-swint", "240 px wide, and data.image enlarges them to 768 px"),
        (("train-teacher",), "tiny", None),
    ],
)
def test_a_preset_for_other_images_is_told_with_the_one_that_fits(
    crkd, chain, tmp_path, trained, command, preset, said
):
    workspace = chain.copy(tmp_path).workspace
    result = crkd(*command, "--preset", preset, *FEW_SWEEPS, "-w", workspace.root)
    assert result.code == 0, result.err
    warned = [line for line in result.err.splitlines() if "data.image" in line]
    assert bool(warned) == (said is not None)
    assert all(line.startswith("warning: ") and said in line for line in warned)
    assert len(trained) == 1


def test_images_that_no_preset_is_for(crkd, chain, tmp_path, trained, monkeypatch):
    workspace = chain.copy(tmp_path).workspace
    for width_px, words in ((100, "enlarges them to 192 px"), (9000, "shrinks them to 192 px")):
        monkeypatch.setattr("crkd_core.datasets.prepared.prepared_data.PreparedData.image_width_px", width_px)
        said = crkd("train-teacher", "--preset", "tiny", *FEW_SWEEPS, "-w", workspace.root).err
        assert words in said
        assert "no preset is for such images: set data.image.width_px" in said


def test_a_forgotten_preset_that_asks_for_more_sweeps(crkd, refused, chain, tmp_path):
    workspace = tmp_path / "w"
    assert crkd("prepare", "--nuscenes", chain.nuscenes, "--preset", "tiny", "-w", workspace).code == 0
    words = ("data.lidar.sweeps asks for 10 sweeps where 4 were prepared", "--preset tiny")
    refused(2, words, "train-teacher", "-w", workspace)


def test_detectors_without_cameras_see_no_images(crkd, chain, tmp_path, trained):
    workspace = chain.copy(tmp_path).workspace
    lidar = ("--set", "teacher.modalities=[lidar]")
    assert "enlarges" not in crkd("train-teacher", "--preset", "small", *FEW_SWEEPS, *lidar, "-w", workspace.root).err


def test_the_models_of_a_workspace_decide_and_it_is_said(crkd, chain, tmp_path, trained):
    workspace = chain.copy(tmp_path).workspace
    result = crkd("distill", "--losses", "none", "--name", "n", "-w", workspace.root)
    assert "the configuration is that of train-teacher/teacher" in result.err
    assert "differ" not in result.err
    assert trained.pop().config.data == chain.config.data


def test_a_file_goes_on_top_of_the_preset_of_the_models(crkd, chain, tmp_path, trained):
    workspace = chain.copy(tmp_path).workspace
    (tmp_path / "few.yaml").write_text(
        "train: {teacher: {epochs: 7}}\ndata: {lidar: {sweeps: 2}, radar: {sweeps: 3}}\n"
    )
    result = crkd("train-teacher", "--name", "n", "--config", "few.yaml", "-w", workspace.root)
    assert (
        "few.yaml goes on top of the preset tiny, that of train-teacher/teacher; --preset names another" in result.err
    )
    assert trained.pop().config == load_config("tiny", tmp_path / "few.yaml")
    named = crkd("train-teacher", "--name", "n", "--config", "few.yaml", "--preset", "small", "-w", workspace.root)
    assert "goes on top" not in named.err
    assert trained.pop().config == load_config("small", tmp_path / "few.yaml")


def test_the_same_command_gives_the_same_configuration_before_and_after_it_was_run(crkd, chain, tmp_path, trained):
    own = Chain(chain.nuscenes, chain.copy(tmp_path).workspace, chain.config)
    for stage in ("train-teacher", "distill"):
        for artifact in own.workspace.artifacts(stage):
            (artifact.path / "manifest.json").unlink()
    changes = "data: {image: {height_px: 64, width_px: 192}, lidar: {sweeps: 2}, radar: {sweeps: 3}}\n"
    (tmp_path / "mine.yaml").write_text(changes + "train: {seed: 3}\n")
    command = ("train-teacher", "--name", "n", "--config", "mine.yaml", "-w", own.workspace.root)
    assert crkd(*command).code == 0
    first = trained.pop().config
    assert first == load_config(None, tmp_path / "mine.yaml")
    add_model(own.workspace, "train-teacher", "n", first)
    assert crkd(*command).code == 0
    assert trained.pop().config == first


def test_models_of_several_kinds_are_told(crkd, chain, tmp_path, trained):
    own = chain.copy(tmp_path)
    add_model(own.workspace, "distill", "large", load_config("small"))
    result = crkd("train-teacher", "--name", "n", "-w", own.workspace.root)
    assert "the models of" in result.err
    said = next(line for line in result.err.splitlines() if line.startswith("warning: the models of"))
    assert "train-teacher/teacher, whose configuration is taken, has data.grid.x_range_m = [-36.0, 36.0]" in said
    assert "distill/large has [-51.2, 51.2]" in said
    option = said.partition("add ")[2].split()
    trained.clear()
    assert crkd("train-teacher", "--name", "n", *option, *FEW_SWEEPS, "-w", own.workspace.root).code == 0
    assert trained.pop().config == with_overrides(load_config("small"), FEW_SWEEPS[1::2])


def test_data_are_prepared_for_the_models_there_are(crkd, chain, tmp_path):
    own = chain.copy(tmp_path)
    assert data_to_prepare(own.workspace).lidar.sweeps == 10, "an option that is left out lowers nothing"
    add_model(
        own.workspace, "distill", "long", load_config("tiny", None, ["data.lidar.sweeps=15", "data.radar.sweeps=9"])
    )
    data = data_to_prepare(own.workspace)
    assert (data.lidar.sweeps, data.radar.sweeps) == (15, 9)
    assert data_to_prepare(own.workspace, overrides=["data.radar.sweeps=4"]).radar.sweeps == 4
    assert data_to_prepare(own.workspace, preset="tiny").lidar.sweeps == 4
    result = crkd("prepare", "--nuscenes", chain.nuscenes, "--name", "more", "-w", own.workspace.root)
    assert result.code == 0, result.err
    more = next(artifact for artifact in own.workspace.artifacts("prepare") if artifact.name == "more")
    assert (more.manifest.settings["lidar_sweeps"], more.manifest.settings["radar_sweeps"]) == (15, 9)


def test_a_file_of_selection_settings_starts_from_the_model(chain, tmp_path):
    model = next(artifact for artifact in chain.workspace.artifacts("distill") if artifact.name == "plain")
    (tmp_path / "nms.yaml").write_text("student: {head: {nms: {score_threshold: 0.2}}}")
    nms = resolve_nms(model, file=tmp_path / "nms.yaml")
    assert nms == chain.config.student.head.nms.model_copy(update={"score_threshold": 0.2})
