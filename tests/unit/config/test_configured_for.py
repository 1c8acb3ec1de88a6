"""Which description a configuration has: the named one, that of the data, or a refusal that names the difference."""

import re

import pytest
import yaml

from crkd_core.artifacts.atomic import write_text
from crkd_core.artifacts.described import description_of, description_settings
from crkd_core.artifacts.run_config import CONFIG_NAME
from crkd_core.artifacts.workspace import Artifact, Workspace
from crkd_core.artifacts.writer import ArtifactRequest
from crkd_core.config.loading import configured_for, dump_config, load_config, validate_config, with_overrides
from crkd_core.datasets.prepared.prepared_data import PreparedData
from crkd_core.datasets.prepared.same_data_set import configured_for_data, require_same_data_set
from crkd_core.errors import ConfigError, DamagedArtifactError, StaleArtifactError
from tests.support.described import NUSCENES, THREE, TWELVE


def with_data_set(tmp_path, text):
    file = tmp_path / "own.yaml"
    file.write_text(text)
    return load_config("tiny", file)


def test_nothing_changes_on_nuscenes():
    config = load_config("tiny")
    assert configured_for(config, NUSCENES, "data") is config
    assert "dataset" not in config.model_dump(mode="json")
    assert "dataset" not in yaml.safe_load(dump_config(config))


@pytest.mark.parametrize("description", [THREE, TWELVE], ids=lambda value: value.name)
def test_what_is_not_said_is_that_of_the_data(description):
    config = configured_for(load_config("tiny", None, ["train.seed=7"]), description, "data")
    assert config.dataset == description
    assert config.train.seed == 7
    assert config.student.head.nms.circle_classes == description.circle_nms_m2
    assert config.distill.respd.task_weights == description.response_weights
    assert validate_config(yaml.safe_load(dump_config(config))) == config
    # A run's own configuration says its data set, and keeps to it.
    assert configured_for(config, description, "data") is config


def test_a_preset_may_name_its_data_set(tmp_path):
    config = with_data_set(tmp_path, "dataset: truckscenes\nstudent: {head: {nms: {circle_classes: {car: 9}}}}\n")
    assert config.dataset == TWELVE
    assert config.student.head.nms.circle_classes == {"car": 9.0}
    assert config.teacher.head.nms.circle_classes == TWELVE.circle_nms_m2
    assert with_overrides(config, ["train.seed=1"]).dataset == TWELVE


def test_a_part_of_a_named_data_set_may_be_changed(tmp_path):
    config = with_data_set(tmp_path, "dataset: {classes: {car: {range_m: 60}}}\n")
    assert config.dataset.classes["car"].range_m == 60
    assert config.dataset.class_names == NUSCENES.class_names


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("dataset: truckscene\n", "dataset: no data set is named 'truckscene'; did you mean 'truckscenes'"),
        ("dataset: {classes: {car: {colour: red}}}\n", "dataset.classes.car.colour: a colour is written"),
        ("dataset: {clases: {}}\n", "the config has no key 'dataset.clases'; did you mean 'classes'"),
        (
            "dataset: truckscenes\nstudent: {head: {nms: {size_factors: {construction_vehicle: 2}}}}\n",
            "student.head.nms: no class is called 'construction_vehicle'; the classes are car, truck, other_vehicle",
        ),
        (
            "dataset: truckscenes\ndistill: {respd: {task_weights: [1, 1, 1, 1, 1, 1]}}\n",
            "'distill.respd.task_weights': expected a list of at least 7",
        ),
        (
            "dataset: truckscenes\nstudent: {head: {nms: {circle_classes: {bicycle: 1}}}}\n",
            "circle_classes names head tasks by their first class, found 'bicycle'",
        ),
        (
            "dataset: truckscenes\ndata: {paste_teacher: {objects: {lorry: 1}}}\n",
            "data.paste_teacher: no class is called 'lorry'",
        ),
    ],
)
def test_what_does_not_fit_the_named_data_set_is_refused(tmp_path, text, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        with_data_set(tmp_path, text)


def test_a_preset_of_another_description_is_refused(tmp_path):
    config = with_data_set(tmp_path, "dataset: truckscenes\n")
    with pytest.raises(
        ConfigError, match=r"for TruckScenes, and prepare/mine is shuttle \(classes: car, truck, .* instead"
    ):
        configured_for(config, THREE, "prepare/mine")


def test_names_of_another_data_set_are_told():
    config = load_config("tiny", None, ["student.head.nms.size_factors={pedestrian: 2}"])
    with pytest.raises(
        ConfigError, match=r"does not fit prepare/mine, which is shuttle: .* no class is called 'pedestrian'"
    ):
        configured_for(config, THREE, "prepare/mine")


def test_other_ranges_are_those_of_the_data(tmp_path):
    config = with_data_set(tmp_path, "dataset: truckscenes\n")
    car = TWELVE.classes["car"].model_copy(update={"range_m": 60.0})
    nearer = TWELVE.model_copy(update={"classes": {**TWELVE.classes, "car": car}})
    assert configured_for(config, nearer, "data").dataset == nearer


def written(workspace: Workspace, stage: str, name: str, settings: dict, config=None) -> Artifact:
    with workspace.write(ArtifactRequest(stage, name, command="", settings=settings)) as writer:
        if config is not None:
            write_text(writer.path / CONFIG_NAME, dump_config(config))
        return writer.finish({"dataroot": "/nowhere", "version": "v1.0-own"})


def test_a_model_of_another_description_is_refused_with_the_difference(tmp_path):
    workspace, plain = Workspace(tmp_path), load_config("tiny")
    prepared = PreparedData(written(workspace, "prepare", "mine", description_settings(THREE)))
    assert prepared.description == THREE
    stranger = written(workspace, "train-teacher", "teacher", {"role": "teacher"}, plain)
    own = written(workspace, "train-teacher", "own", {"role": "teacher"}, configured_for_data(plain, prepared))
    require_same_data_set(own, prepared)
    with pytest.raises(StaleArtifactError) as refused:
        require_same_data_set(stranger, prepared)
    assert str(refused.value).startswith("train-teacher/teacher was trained on nuScenes, and prepare/mine is shuttle (")
    assert "classes: car, truck" in str(refused.value)


def test_artifacts_of_nuscenes_say_nothing_of_it(tmp_path):
    assert description_settings(NUSCENES) == {}
    workspace = Workspace(tmp_path)
    assert description_of(written(workspace, "prepare", "plain", {})) == NUSCENES
    damaged = written(workspace, "prepare", "damaged", {"dataset": {"name": "x"}})
    with pytest.raises(DamagedArtifactError, match="description cannot be read"):
        description_of(damaged)
