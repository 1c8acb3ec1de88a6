"""The tables of a folder: found, read, linked; what is wrong is named."""

import json

import numpy as np
import pytest

from crkd_core.config.description_files import nuscenes
from crkd_core.datasets.nuscenes.nuscenes_tables import read_tables
from crkd_core.datasets.nuscenes.sweeps import choose_files, repeat_oldest
from crkd_core.datasets.nuscenes.version_folder import digest_tables, find_version
from crkd_core.errors import DatasetError, UsageError
from tests.support.nuscenes_factory import CAR_VELOCITY, write_folder


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path)


def test_the_only_version_is_found(folder):
    assert find_version(folder.root) == "v1.0-mini"


def test_several_versions_ask_for_a_choice(folder):
    (folder.root / "v1.0-trainval").mkdir()
    with pytest.raises(UsageError, match=r"v1\.0-mini, v1\.0-trainval.*--version"):
        find_version(folder.root)
    assert find_version(folder.root, "v1.0-mini") == "v1.0-mini"
    with pytest.raises(DatasetError, match=r"no version 'v1\.0-test'; found v1\.0-mini"):
        find_version(folder.root, "v1.0-test")


def test_folders_that_are_not_nuscenes_are_refused(tmp_path, folder):
    with pytest.raises(DatasetError, match="not a folder"):
        find_version(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="not a nuScenes folder"):
        find_version(tmp_path / "empty")
    with pytest.raises(DatasetError, match="folder of the tables"):
        find_version(folder.root / "v1.0-mini")


def test_the_digest_follows_the_tables(folder):
    before = digest_tables(folder.root / folder.version)
    assert before == digest_tables(folder.root / folder.version)
    folder.tables["scene"][0]["description"] = "changed"
    folder.save()
    assert digest_tables(folder.root / folder.version) != before


def test_annotations_are_linked_and_others_counted(folder):
    tables = read_tables(folder.root / folder.version, nuscenes())
    annotations = tables.annotations
    assert len(annotations.token) == 10
    assert tables.other_annotations == 5
    assert {annotations.attribute[row] for row in np.flatnonzero(annotations.label == 0)} == {"vehicle.moving"}
    cars = annotations.velocity[annotations.label == 0]
    np.testing.assert_allclose(cars, np.tile(CAR_VELOCITY, (5, 1)), atol=1e-6)


def test_only_camera_key_frames_are_kept(folder):
    tables = read_tables(folder.root / folder.version, nuscenes())
    sensors, lidar = tables.sensors, tables.channels.reference_number
    assert sensors.is_key_frame[sensors.channel < lidar].all()
    assert (sensors.channel == lidar).sum() == 3 + 2 * 2 + 2 + 2


@pytest.mark.parametrize(
    ("table", "missing"),
    [
        ("ego_pose", "pose-"),
        ("calibrated_sensor", "calibration-"),
        ("sample", "sample-1"),
        ("instance", "scene-0061-car"),
    ],
)
def test_a_missing_record_is_named(folder, table, missing):
    folder.tables[table] = [record for record in folder.tables[table] if missing not in record["token"]]
    folder.save()
    with pytest.raises(DatasetError, match=rf"{table}\.json has no record with the token '.*{missing}"):
        read_tables(folder.root / folder.version, nuscenes())


def test_a_missing_table_is_named(folder):
    (folder.root / folder.version / "instance.json").unlink()
    with pytest.raises(DatasetError, match=r"instance\.json is missing"):
        read_tables(folder.root / folder.version, nuscenes())


@pytest.mark.parametrize("table", ["sample", "sample_data", "calibrated_sensor", "sample_annotation", "category"])
def test_a_record_without_a_field_is_refused(folder, table):
    field = {"sample": "timestamp", "category": "name"}.get(table, "rotation" if "data" not in table else "filename")
    del folder.tables[table][0][field]
    folder.save()
    with pytest.raises(DatasetError, match=rf"{table}\.json is damaged: the record .* lacks the field '{field}'"):
        read_tables(folder.root / folder.version, nuscenes())


@pytest.mark.parametrize("value", ["soon", None, [1]])
def test_a_value_of_another_kind_is_refused(folder, value):
    folder.tables["sample"][0]["timestamp"] = value
    folder.save()
    with pytest.raises(DatasetError, match=r"sample\.json is damaged"):
        read_tables(folder.root / folder.version, nuscenes())


def test_sweeps_are_the_newest_of_the_same_scene_and_sensor(folder):
    tables = read_tables(folder.root / folder.version, nuscenes())
    files = choose_files(tables, lidar_sweeps=5, radar_sweeps=4)
    stamps = tables.sensors.timestamp_us
    second = tables.samples.tokens.index("scene-0061-sample-1")
    ages = [(stamps[files.lidar[second, 0, 0]] - stamps[row]) for row in files.lidar[second, 0] if row >= 0]
    assert ages == [0, 50_000, 100_000, 500_000]
    first_of_second_scene = tables.samples.tokens.index("scene-0103-sample-0")
    assert files.lidar[first_of_second_scene, 0].tolist()[1:] == [-1] * 4
    for index in range(5):
        assert tables.channels.names[tables.sensors.channel[files.radar[second, index, 0]]].startswith("RADAR")
    assert (repeat_oldest(files.radar[first_of_second_scene]) == files.radar[first_of_second_scene][:, :1]).all()


def test_absent_files_make_room_for_older_ones(folder):
    tables = read_tables(folder.root / folder.version, nuscenes())
    files = choose_files(tables, 4, 3)
    sample = tables.samples.tokens.index("scene-0061-sample-2")
    absent = np.zeros(len(tables.sensors.path), dtype=bool)
    absent[files.lidar[sample, 0, 1]] = True
    kept = files.without(absent).lidar[sample, 0]
    assert kept.tolist() == [*files.lidar[sample, 0, [0, 2, 3]].tolist(), -1]


def test_tables_read_the_same_in_the_devkits_layout(folder, tmp_path):
    before = read_tables(folder.root / folder.version, nuscenes())
    for name, records in folder.tables.items():
        (folder.root / folder.version / f"{name}.json").write_text(json.dumps(records))
    after = read_tables(folder.root / folder.version, nuscenes())
    assert before.sensors.path == after.sensors.path
    np.testing.assert_array_equal(before.global_from_ego, after.global_from_ego)
