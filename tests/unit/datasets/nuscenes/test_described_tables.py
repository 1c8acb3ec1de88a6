"""Version folders, splits, channels and categories of data sets that are not nuScenes."""

import json

import numpy as np
import pytest

from crkd_core.config.description_files import known_description, nuscenes, validate_description
from crkd_core.config.yaml_reader import read_yaml
from crkd_core.datasets.nuscenes.channels import SensorChannels
from crkd_core.datasets.nuscenes.describing import describe_folder
from crkd_core.datasets.nuscenes.nuscenes_tables import read_tables
from crkd_core.datasets.nuscenes.recognition import check_channels, recognise
from crkd_core.datasets.nuscenes.splits import parts_of_split, read_splits, resolve_split
from crkd_core.datasets.nuscenes.sweeps import choose_files, sensor_velocities
from crkd_core.datasets.nuscenes.version_folder import find_version, version_slug, versions_of
from crkd_core.errors import DatasetError, UsageError
from tests.support.nuscenes_factory import START_US, ego_pose, write_folder
from tests.support.own_car import DESCRIPTION, write_car


def described(**changes):
    return validate_description(DESCRIPTION | changes)


@pytest.fixture
def car(tmp_path):
    return write_car(tmp_path)


def test_channels_are_numbered_with_the_reference_first_among_lidars():
    channels = SensorChannels.of(described(lidars=["a", "b", "c"], reference_lidar="b", radars=[]))
    assert channels.lidars == ("b", "a", "c")
    assert channels.names[channels.reference_number] == channels.reference == "b"
    assert [channels.names[number] for number in channels.lidar_numbers] == ["b", "a", "c"]
    assert list(channels.radar_numbers) == []
    own = SensorChannels.of(nuscenes())
    assert own.names == nuscenes().channels
    assert [own.is_camera(number) for number in (-1, 0, 5, 6)] == [False, True, True, False]


def test_version_folders_may_be_called_anything(tmp_path, car):
    assert find_version(car) == "tables"
    (car / "more").mkdir()
    assert versions_of(car) == ["tables"]
    (car / "tables").rename(car / "annotation")
    assert find_version(car) == "annotation"
    (car / "annotation").rename(car / "v2.3-fleet")
    assert find_version(car) == find_version(car, "v2.3-fleet") == "v2.3-fleet"
    write_folder(tmp_path / "two", version="v1.0-mini")
    write_folder(tmp_path / "two", version="other")
    assert find_version(tmp_path / "two") == "v1.0-mini"
    assert find_version(tmp_path / "two", "other") == "other"
    with pytest.raises(DatasetError, match=r"has no version 'v1.0-test'; found v1.0-mini"):
        find_version(tmp_path / "two", "v1.0-test")
    with pytest.raises(DatasetError):
        find_version(tmp_path / "two", "../two/other")
    for name in ("a", "b"):
        (tmp_path / "several" / name).mkdir(parents=True)
        (tmp_path / "several" / name / "sample_data.json").write_text("[]")
    with pytest.raises(UsageError, match="has several versions"):
        find_version(tmp_path / "several")
    names = {"v1.0-sim-mini": "v1.0-sim-mini", "my tables!": "my-tables", "_": "data", "v2 (new)": "v2-new"}
    assert {version: version_slug(version) for version in names} == names


def test_a_list_of_validation_scenes_makes_the_splits(tmp_path):
    (tmp_path / "val.txt").write_text("\ufeffb\n  # no scene\n\nc \nb\n")
    splits = read_splits(tmp_path, ["a", "b", "c", "d"], nuscenes(), tmp_path / "val.txt")
    assert splits.own == {"train": ["a", "d"], "val": ["b", "c"]}
    assert splits.of_scene == {"a": ["train"], "d": ["train"], "b": ["val"], "c": ["val"]}


def test_splits_of_a_description(tmp_path):
    description = described(splits={"train": ["a", "gone"], "val": ["b"]})
    (tmp_path / "splits.json").write_text(json.dumps({"train": ["b"]}))
    splits = read_splits(tmp_path, ["a", "b", "c"], description)
    assert splits.of_scene == {"a": ["train"], "gone": ["train"], "b": ["val"]}
    assert splits.oddities == ("1 of the 2 scenes of train in the description are not in scene.json, such as gone",)


def test_official_lists_are_only_for_the_data_sets_that_have_them(tmp_path):
    (tmp_path / "splits.json").write_text(json.dumps({"train": ["scene-0103"], "val": ["scene-0061"]}))
    splits = read_splits(tmp_path, ["scene-0061", "scene-0103"], described())
    assert splits.of_scene == {"scene-0103": ["train"], "scene-0061": ["val"]}
    assert splits.oddities == ()
    assert read_splits(tmp_path, ["scene-0061"], nuscenes()).of_scene["scene-0061"] == ["train"]


@pytest.mark.parametrize(("first", "second"), [("train", "val"), ("my_train", "my_val"), ("fog-train-1", "fog-test-1")])
def test_a_scene_is_not_trained_and_validated_on(tmp_path, first, second):
    (tmp_path / "splits.json").write_text(json.dumps({first: ["a", "b"], second: ["b"], "all": ["a", "b"]}))
    with pytest.raises(DatasetError, match=f"the splits {first} and {second} in .* share the scene 'b'"):
        read_splits(tmp_path, ["a", "b"], described())


def test_train_and_val_of_ones_own_are_trainval_together():
    for version in ("tables", "v1.0-mini", "v1.0-trainval", "own-test"):
        assert resolve_split("trainval", version, {"train": 1, "val": 1}) == "trainval"
    assert parts_of_split("trainval", {"train": 1, "val": 1}) == ("train", "val")


def test_data_sets_are_told_by_their_lidar(tmp_path, car):
    assert recognise(write_folder(tmp_path / "one").root / "v1.0-mini") == nuscenes()
    sensors = json.loads((car / "tables" / "sensor.json").read_text())
    for channel, name in (("LIDAR_LEFT", "truckscenes"), ("LIDAR_CONCAT", "t4")):
        sensors[-1]["channel"] = channel
        (car / "tables" / "sensor.json").write_text(json.dumps(sensors))
        assert recognise(car / "tables") == known_description(name)


def test_a_table_that_does_not_say_the_kinds_of_sensors(car):
    sensors = json.loads((car / "tables" / "sensor.json").read_text())
    for sensor in sensors:
        del sensor["modality"]
    (car / "tables" / "sensor.json").write_text(json.dumps(sensors))
    check_channels(car / "tables", described())
    with pytest.raises(DatasetError, match="no key frame of a LiDAR"):
        describe_folder(car / "tables")
    sensors[-1] |= {"channel": "LIDAR_ROOF"}
    (car / "tables" / "sensor.json").write_text(json.dumps(sensors))
    text = describe_folder(car / "tables")
    assert "lidars: [LIDAR_ROOF]" in text
    assert "# sensor.json does not say what these are: " in text


def test_categories_and_sensors_are_mapped_as_described(car):
    tables = read_tables(car / "tables", described(classes={"moving": {"categories": ["Adult", "Car"]}}))
    assert tables.other_annotations == 5
    assert tables.notes.ignored_categories == {"animal": 5}
    assert not tables.annotations.label.any()
    assert len(tables.annotations.label) == 10
    files = choose_files(tables, 3, 2)
    assert files.cameras.shape == (5, 4)
    assert files.lidar.shape == (5, 2, 3)
    assert files.radar.shape == (5, 2, 2)
    assert (files.lidar[:, 0, 0] == files.lidar_key).all()
    none = choose_files(read_tables(car / "tables", described(radars=[], cameras=[], lidars=["roof_right"])), 3, 2)
    assert none.cameras.shape == (5, 0)
    assert none.radar.shape == (5, 0, 2)
    assert (none.lidar >= 0).any()


def test_sensor_velocities_are_those_of_the_car(car):
    tables = read_tables(car / "tables", described())
    channel = tables.channels.numbers["bumper"]
    rows = np.flatnonzero((tables.sensors.channel == channel) & (tables.samples.scene[tables.sensors.sample] == 0))
    velocities = sensor_velocities(tables, rows)
    mounted = tables.ego_from_sensor[tables.sensors.calibration[rows[0]]]
    for row, velocity in zip(rows.tolist(), velocities, strict=True):
        time_us = int(tables.sensors.timestamp_us[row])
        if time_us - START_US < 400_000 or time_us - START_US > 900_000:
            continue  # at the ends, and far from its neighbours, it is coarser
        _, yaw = ego_pose(time_us)
        # 5 m/s east and 0.5 m/s north, and turning at 0.2 rad/s about the car's origin.
        over_ground = np.array([5.0, 0.5, 0]) + 0.2 * np.array(
            [
                -np.sin(yaw) * mounted[0, 3] - np.cos(yaw) * mounted[1, 3],
                np.cos(yaw) * mounted[0, 3] - np.sin(yaw) * mounted[1, 3],
                0,
            ]
        )
        turned = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
        expected = (turned @ mounted[:3, :3]).T @ over_ground
        np.testing.assert_allclose(velocity, expected, atol=0.08)
    assert sensor_velocities(tables, rows[:0]).shape == (0, 3)


def test_a_first_description_names_what_is_there(car):
    text = describe_folder(car / "tables")
    description = validate_description(read_yaml(text, "text"), "text")
    assert description.name == "car"
    assert set(description.cameras) == {"front", "left", "right", "rear"}
    assert set(description.radars) == {"bumper", "tail"}
    assert description.class_names == ("car", "adult")
    assert description.classes["car"].when_moving == "moving"
    assert description.classes["adult"].unscored == ("attribute",)
    assert "  car:  # 5 boxes" in text
    assert "# 2 scenes: drive 1, drive 2" in text


def test_a_first_description_before_anything_is_annotated(car):
    (car / "tables" / "sample_annotation.json").write_text("[]")
    description = validate_description(read_yaml(describe_folder(car / "tables"), "text"), "text")
    assert description.class_names == ("car", "adult")
    assert description.other_categories == ("animal",)
    (car / "tables" / "instance.json").write_text("[]")
    (car / "tables" / "category.json").write_text("[]")
    with pytest.raises(DatasetError, match="no category that could be detected"):
        describe_folder(car / "tables")


def test_a_first_description_of_nuscenes_maps_its_categories(tmp_path):
    folder = write_folder(tmp_path / "one")
    description = validate_description(read_yaml(describe_folder(folder.root / folder.version), "text"), "text")
    assert description.class_names == ("car", "pedestrian")
    assert description.classes["pedestrian"].nms_size_factor == 2.5
    assert set(description.channels) == set(nuscenes().channels)
    # In the made-up files z is not 0.
    assert description.radar_points == nuscenes().radar_points.model_copy(update={"elevation": True})
