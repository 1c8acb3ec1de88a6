"""The devkit of MAN TruckScenes reads the simulated truck world, and its evaluation gives ground truth AP 1."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("truckscenes", reason="truckscenes-devkit is not installed (Python below 3.12 only)")

from pyquaternion import Quaternion
from truckscenes import TruckScenes
from truckscenes.eval.common.constants import TAG_NAMES
from truckscenes.eval.detection.config import config_factory
from truckscenes.eval.detection.constants import ATTRIBUTE_NAMES, DETECTION_NAMES
from truckscenes.eval.detection.evaluate import DetectionEval
from truckscenes.eval.detection.utils import category_to_detection_name, detection_name_to_rel_attributes
from truckscenes.utils.data_classes import LidarPointCloud, RadarPointCloud
from truckscenes.utils.geometry_utils import points_in_box
from truckscenes.utils.splits import create_splits_scenes

from crkd_core.datasets.truckscenes.splits import official_scenes

pytestmark = pytest.mark.devkit


@pytest.fixture(scope="module")
def trucksc(truck_world):
    return TruckScenes(truck_world.version, str(truck_world.root), verbose=False)


def channels(trucksc, modality):
    return [sensor["channel"] for sensor in trucksc.sensor if sensor["modality"] == modality]


def test_the_splits_are_the_devkit_s():
    expected = create_splits_scenes()
    for split in ("train", "val", "test", "mini_train", "mini_val"):
        assert list(official_scenes(split)) == expected[split]


def test_the_newest_version_is_picked_by_itself(truck_world):
    assert TruckScenes(None, str(truck_world.root), verbose=False).version == truck_world.version


def test_tables_are_complete_and_linked(trucksc):
    assert all(getattr(trucksc, table) for table in trucksc.table_names)
    assert (len(trucksc.sensor), len(trucksc.attribute)) == (16, len(ATTRIBUTE_NAMES))
    assert {record["name"] for record in trucksc.category} == set(trucksc.colormap)
    assert [record["index"] for record in trucksc.category] == list(range(27))
    for data in trucksc.sample_data:
        assert (Path(trucksc.dataroot) / data["filename"]).is_file()
        pose = trucksc.get("ego_pose", data["ego_pose_token"])
        assert pose["timestamp"] == data["timestamp"]
        assert pose["translation"][2] == 0
        assert pose["translation"][1] > 5_000_000
    for sample in trucksc.sample:
        assert len(sample["data"]) == 16
        # Boxes are turned into a sensor's frame by the pose that is nearest in time, whatever scene it is of.
        nearest = trucksc.getclosest("ego_pose", sample["timestamp"])
        reference = trucksc.get("sample_data", sample["data"]["LIDAR_LEFT"])
        assert nearest["token"] == reference["ego_pose_token"]


def test_scenes_have_seven_tags_and_weather(trucksc):
    for scene in trucksc.scene:
        tags = scene["description"].split(";")
        assert len({tag.partition(".")[0] for tag in tags}) == len(tags) == 7
        assert set(tags) <= set(TAG_NAMES)
        assert trucksc.get("weather_annotation", scene["weather_annotation_token"])["temperature"] > 250
    assert {scene["description"].split(";")[1] for scene in trucksc.scene} == {"area.highway", "area.terminal"}


def test_clouds_are_read_alone_and_over_several_sweeps(trucksc):
    sample = trucksc.get("sample", trucksc.scene[0]["last_sample_token"])
    for channel in channels(trucksc, "lidar"):
        path = trucksc.get_sample_data_path(sample["data"][channel])
        cloud = LidarPointCloud.from_file(path)
        stamp = trucksc.get("sample_data", sample["data"][channel])["timestamp"]
        assert cloud.points.shape[1] > 500
        assert cloud.timestamps.shape == (1, cloud.points.shape[1])
        assert stamp - 100_001 <= cloud.timestamps.min() < cloud.timestamps.max() <= stamp
        both, times = LidarPointCloud.from_file_multisweep(trucksc, sample, channel, "LIDAR_LEFT", nsweeps=2)
        assert both.points.shape[1] > 1.2 * cloud.points.shape[1]
        assert times.min() > -0.03
        assert times.max() < 0.25
    for channel in channels(trucksc, "radar"):
        cloud = RadarPointCloud.from_file(trucksc.get_sample_data_path(sample["data"][channel]))
        assert cloud.points.shape[0] == 7
        assert 20 < cloud.points.shape[1] <= 800
        both, _ = RadarPointCloud.from_file_multisweep(trucksc, sample, channel, "LIDAR_LEFT", nsweeps=2)
        assert both.points.shape[1] > cloud.points.shape[1]


def global_from_sensor(trucksc, token):
    data = trucksc.get("sample_data", token)
    steps = [
        trucksc.get("ego_pose", data["ego_pose_token"]),
        trucksc.get("calibrated_sensor", data["calibrated_sensor_token"]),
    ]
    rotations = [Quaternion(step["rotation"]).rotation_matrix for step in steps]
    translations = [np.array(step["translation"]) for step in steps]
    return rotations[0] @ rotations[1], rotations[0] @ translations[1] + translations[0]


def test_points_in_boxes_are_the_counts(trucksc):
    checked = 0
    for sample in trucksc.sample[::2]:
        clouds = {"lidar": [], "radar": []}
        for modality, kind in (("lidar", LidarPointCloud), ("radar", RadarPointCloud)):
            for channel in channels(trucksc, modality):
                token = sample["data"][channel]
                rotation, translation = global_from_sensor(trucksc, token)
                points = kind.from_file(trucksc.get_sample_data_path(token)).points[:3]
                clouds[modality].append(rotation @ points + translation[:, None])
        lidar, radar = (np.concatenate(clouds[modality], axis=1) for modality in ("lidar", "radar"))
        for token in sample["anns"]:
            annotation = trucksc.get("sample_annotation", token)
            # 3 cm: coordinates of millions of metres leave the devkit's inner products that much room
            assert abs(points_in_box(trucksc.get_box(token), lidar).sum() - annotation["num_lidar_pts"]) <= 3
            assert abs(points_in_box(trucksc.get_box(token), radar).sum() - annotation["num_radar_pts"]) <= 1
            checked += annotation["num_lidar_pts"] > 5
    assert checked > 30


def test_boxes_are_projected_into_the_images_that_show_them(trucksc):
    shown = Counter()
    for sample in trucksc.sample:
        for channel in channels(trucksc, "camera"):
            _, boxes, intrinsic = trucksc.get_sample_data(sample["data"][channel])
            assert intrinsic.shape == (3, 3)
            shown[channel] += len(boxes)
            for box in boxes:
                assert np.linalg.norm(box.center) < 180
    assert min(shown.values()) > 20


def test_radar_velocities_are_relative_to_the_moving_sensor(trucksc):
    errors, own_speeds = [], []
    for sample in trucksc.sample:
        for channel in channels(trucksc, "radar"):
            token = sample["data"][channel]
            data = trucksc.get("sample_data", token)
            neighbour = trucksc.get("sample_data", data["prev"] or data["next"])
            rotation, translation = global_from_sensor(trucksc, token)
            other = global_from_sensor(trucksc, neighbour["token"])[1]
            own = (translation - other) / (1e-6 * (data["timestamp"] - neighbour["timestamp"]))
            own_speeds.append(np.linalg.norm(own))
            points = RadarPointCloud.from_file(trucksc.get_sample_data_path(token)).points
            sight = points[:3] / np.linalg.norm(points[:3], axis=0)
            relative = (points[3:6] * sight).sum(axis=0)
            assert np.abs(points[3:6] - relative * sight).max() < 1e-3
            over_ground = relative + sight.T @ (rotation.T @ own)
            moved = rotation @ points[:3] + translation[:, None]
            for annotation_token in sample["anns"]:
                annotation = trucksc.get("sample_annotation", annotation_token)
                if not annotation["category_name"].startswith("vehicle") or annotation["num_radar_pts"] < 3:
                    continue
                velocity = trucksc.box_velocity(annotation_token)
                inside = points_in_box(trucksc.get_box(annotation_token), moved, wlh_factor=0.95)
                if np.isnan(velocity).any() or not inside.any():
                    continue
                errors.append(np.median(over_ground[inside] - sight.T[inside] @ (rotation.T @ velocity)))
    assert max(own_speeds) > 15
    assert len(errors) > 60
    assert np.median(np.abs(errors)) < 0.3


@pytest.mark.parametrize("split", ["mini_train", "mini_val"])
def test_ground_truth_scores_one(trucksc, tmp_path, split):
    scenes = create_splits_scenes()[split]
    results = {}
    for sample in trucksc.sample:
        if trucksc.get("scene", sample["scene_token"])["name"] not in scenes:
            continue
        results[sample["token"]] = boxes = []
        for token in sample["anns"]:
            annotation = trucksc.get("sample_annotation", token)
            name = category_to_detection_name(annotation["category_name"])
            if name is None or annotation["num_lidar_pts"] + annotation["num_radar_pts"] == 0:
                continue
            attributes = [trucksc.get("attribute", t)["name"] for t in annotation["attribute_tokens"]]
            assert len(attributes) == bool(detection_name_to_rel_attributes(name))
            boxes.append(
                {
                    "sample_token": sample["token"],
                    "translation": annotation["translation"],
                    "size": annotation["size"],
                    "rotation": annotation["rotation"],
                    "velocity": np.nan_to_num(trucksc.box_velocity(token)[:2]).tolist(),
                    "detection_name": name,
                    "detection_score": 1.0,
                    "attribute_name": (*attributes, "")[0],
                }
            )
    meta = {f"use_{kind}": kind == "lidar" for kind in ("camera", "lidar", "radar", "map", "external")}
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"meta": meta, "results": results}))
    config = config_factory("detection_cvpr_2024")
    evaluation = DetectionEval(trucksc, config, str(path), split, str(tmp_path), verbose=False)
    present = {box.detection_name for box in evaluation.gt_boxes.all}
    metrics = evaluation.evaluate()[0]["all"]
    assert present == set(DETECTION_NAMES)
    for name in present:
        assert metrics.mean_dist_aps[name] == pytest.approx(1.0, abs=1e-6), name
        assert metrics.get_label_tp(name, "trans_err") < 1e-6
        for error in ("vel_err", "attr_err"):
            value = metrics.get_label_tp(name, error)
            assert np.isnan(value) or value < 1e-6
