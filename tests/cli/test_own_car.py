"""Data of one's own in nuScenes' tables, through ``crkd prepare --dataset``."""

import json
from pathlib import Path

import numpy as np
import pytest

from crkd_core.artifacts.workspace import Workspace
from crkd_core.config.data import DataConfig
from crkd_core.config.description_files import load_description
from crkd_core.data.dataset import SampleDataset
from crkd_core.data.samples import collate
from crkd_core.datasets.prepared.prepared_data import PreparedData
from examples.add_a_dataset import RADARS
from tests.support.own_car import write_car, write_description
from tests.support.refusals import check_message


@pytest.fixture
def car(tmp_path) -> Path:
    (tmp_path / "val.txt").write_text("# what is kept back\n\ndrive 2\n")
    write_description(tmp_path / "own.yaml")
    return write_car(tmp_path)


def prepared_data(root: Path, name: str = "tables") -> PreparedData:
    return PreparedData(Workspace(root).find("prepare", name, needed_for="test", make=""))


def asked(car: Path, *more: object, description: str = "own.yaml") -> tuple[object, ...]:
    folder = car.parent
    described = ("--dataset", folder / description, "--val-scenes", folder / "val.txt")
    return ("prepare", "--nuscenes", car, *described, "-w", folder / "ws", *more)


def said(text: str) -> str:
    return " ".join(text.split())


def test_any_cameras_lidars_and_radars_are_read(crkd, car, tmp_path):
    result = crkd(*asked(car))
    assert result.code == 0, result.err
    assert "3 train, 2 val" in result.out
    assert "images of 2 sizes (px): 5 of 80 x 45, 15 of 160 x 90" in said(result.out)
    assert crkd("prepare", "--nuscenes", tmp_path / "world", "-w", "plain").code == 0
    own, plain = prepared_data(tmp_path / "ws"), prepared_data(tmp_path / "plain", "v1.0-mini")
    assert own.description == load_description(tmp_path / "own.yaml")
    assert plain.splits == {"mini_train": 3, "mini_val": 2}
    assert own.cameras(own.tokens("val")[0]).channels == ("front", "left", "right", "rear")
    sensors = ("camera", "lidar", "radar")
    for split in ("train", "val", "trainval"):
        datasets = [
            SampleDataset(prepared, prepared.tokens(split), DataConfig(), sensors, bev=None, seed=0)
            for prepared in (own, plain)
        ]
        samples, others = ([dataset[index] for index in range(len(dataset))] for dataset in datasets)
        assert collate(samples).inputs.images.shape[:2] == (len(samples), 4)
        for sample, other in zip(samples, others, strict=True):
            # What two LiDARs see together is what the one sees that they were made from.
            points, expected = (np.sort(np.round(item.lidar.numpy(), 2), axis=0) for item in (sample, other))
            np.testing.assert_allclose(points, expected, atol=0.02)
            assert sample.labels.tolist() == [0 if label == 0 else 1 for label in other.labels.tolist()]


def test_relative_speeds_become_speeds_over_ground(crkd, car, tmp_path):
    assert crkd(*asked(car)).code == 0
    assert crkd("prepare", "--nuscenes", tmp_path / "world", "-w", "plain").code == 0
    own, plain = prepared_data(tmp_path / "ws"), prepared_data(tmp_path / "plain", "v1.0-mini")
    token = own.tokens("train")[1]
    values, codes = own.radar(token)
    assert set(own.radar_channels(token)) == {"bumper", "tail"}
    expected = plain.radar(token)[0][np.isin(plain.radar_channels(token), list(RADARS))]
    np.testing.assert_allclose(values[:, [3, 6]], expected[:, [3, 6]])
    assert (codes == 255).all()
    assert not (values[:, 4:6] == 0).all()


def test_the_first_description_can_be_used_as_it_is(crkd, car, tmp_path):
    shown = crkd("prepare", "--nuscenes", car, "--describe")
    assert shown.code == 0, shown.err
    for line in ("cameras: [front, left, right, rear]", "lidars: [roof_left, roof_right]", "# rear: 80 x 45 px"):
        assert line in shown.out.replace("front, right, left", "front, left, right")
    written = crkd("prepare", "--nuscenes", car, "--describe", "--out", "first.yaml")
    assert "--dataset first.yaml" in written.out
    assert (tmp_path / "first.yaml").read_text() == shown.out
    description = load_description(tmp_path / "first.yaml")
    assert description.classes["car"].categories == ("Car",)
    assert description.classes["adult"].attributes == ()
    assert description.other_categories == ("animal",)
    assert description.radar_points.velocity_fields == ("doppler",)
    assert crkd(*asked(car, description="first.yaml")).code == 0
    again = crkd("prepare", "--nuscenes", car, "--describe", "--out", "first.yaml")
    check_message(again.code, 2, again.out, again.err, ("first.yaml is there already", "--force"))


def test_what_is_not_mapped_is_listed_with_counts(crkd, car, tmp_path):
    write_description(tmp_path / "own.yaml", classes={"car": {"categories": ["Car"], "attributes": ["parked"]}})
    result = crkd(*asked(car))
    assert result.code == 0, result.err
    words = said(result.out)
    assert (
        "categories that the description own does not map: 'Adult' of 5 boxes, 'animal' of 5 boxes; add each" in words
    )
    assert "attributes that own does not have are ignored: 'moving' of 5 boxes" in words


def test_the_recorded_command_makes_the_same_again(crkd, car, tmp_path):
    assert crkd(*asked(car)).code == 0
    (tmp_path / "own.yaml").unlink()
    command = prepared_data(tmp_path / "ws").artifact.manifest.command.split()
    assert f"{tmp_path}/ws/configs/own-" in " ".join(command)
    result = crkd(*command[1:])
    assert result.code == 0, result.err
    assert "up to date" in result.err


def test_a_car_without_radar(crkd, car, tmp_path):
    write_description(tmp_path / "own.yaml", radars=[])
    result = crkd(*asked(car))
    assert result.code == 0, result.err
    assert "no radar: models of cameras and LiDAR can be trained and evaluated, camera-radar students cannot" in said(
        result.out
    )
    prepared = prepared_data(tmp_path / "ws")
    assert prepared.modalities == ("camera", "lidar")
    dataset = SampleDataset(prepared, prepared.tokens("val"), DataConfig(), ("camera", "radar"), bev=None, seed=0)
    assert len(dataset[0].radar) == 0
    refusal = crkd("distill", "--losses", "none", "--preset", "tiny", "-w", tmp_path / "ws")
    words = ("needs camera, radar", "the description own names no radar", "choose other modalities")
    check_message(refusal.code, 2, refusal.out, refusal.err, words)


def test_nuscenes_by_name_is_nuscenes(crkd, tmp_path, car):
    for dataset in ((), ("--dataset", "nuscenes")):
        assert crkd("prepare", "--nuscenes", tmp_path / "world", "-w", "ws", *dataset).code == 0
    manifest = prepared_data(tmp_path / "ws", "v1.0-mini").artifact.manifest
    assert "dataset" not in manifest.settings
    assert "dataset" not in manifest.facts["report"]


def test_sensors_that_no_description_has(refused, car):
    words = ("has the sensors bumper, front,", "describe yours: crkd prepare --nuscenes", "--describe")
    refused(3, words, "prepare", "--nuscenes", car)


def test_another_cars_sensors_under_nuscenes_names(refused, tmp_path, car):
    folder = tmp_path / "world" / "v1.0-mini"
    sensors = json.loads((folder / "sensor.json").read_text())
    for sensor in sensors:
        sensor["channel"] = sensor["channel"].replace("CAM_BACK_LEFT", "CAM_WIDE")
    (folder / "sensor.json").write_text(json.dumps(sensors))
    words = (
        "CAM_BACK_LEFT: 5 of 5 key frames have no record",
        "If these are not the sensors of nuScenes",
        "--describe",
    )
    refused(3, words, "prepare", "--nuscenes", tmp_path / "world")
