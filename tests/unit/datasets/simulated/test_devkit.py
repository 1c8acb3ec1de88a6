"""The official devkit reads the simulated world and finds it consistent."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("nuscenes", reason="the nuScenes devkit is not installed")

from nuscenes.eval.detection.config import config_factory
from nuscenes.eval.detection.constants import DETECTION_NAMES
from nuscenes.eval.detection.evaluate import DetectionEval
from nuscenes.eval.detection.utils import category_to_detection_name
from nuscenes.utils.data_classes import Box, LidarPointCloud, RadarPointCloud
from nuscenes.utils.geometry_utils import points_in_box, view_points
from pyquaternion import Quaternion

from crkd_core.datasets.simulated.writer.nuscenes_format import CATEGORIES

pytestmark = pytest.mark.devkit


def _global_points(nusc, token, points):
    """(3, N) sensor points in the global frame, by the devkit's tables."""
    data = nusc.get("sample_data", token)
    calibration = nusc.get("calibrated_sensor", data["calibrated_sensor_token"])
    ego = nusc.get("ego_pose", data["ego_pose_token"])
    for step in (calibration, ego):
        rotation = Quaternion(step["rotation"]).rotation_matrix
        points = rotation @ points + np.array(step["translation"])[:, None]
    return points


def _radar(nusc, token):
    path = nusc.get_sample_data_path(token)
    return RadarPointCloud.from_file(path, range(18), range(8), range(5)).points


def test_tables_are_complete_and_linked(nusc, tiny_config):
    assert {record["name"] for record in nusc.category} == set(CATEGORIES)
    assert (len(nusc.category), len(nusc.attribute), len(nusc.visibility), len(nusc.sensor)) == (23, 8, 4, 12)
    assert nusc.log[0]["vehicle"] == "simulated"
    for sample in nusc.sample:
        assert len(sample["data"]) == 12
        assert sample["anns"]
    for data in nusc.sample_data:
        assert (Path(nusc.dataroot) / data["filename"]).is_file()
        if data["next"]:
            following = nusc.get("sample_data", data["next"])
            assert following["prev"] == data["token"]
            assert following["timestamp"] > data["timestamp"]
    sweeps = Counter(d["channel"] for d in nusc.sample_data if not d["is_key_frame"])
    gaps = len(nusc.scene) * (tiny_config.samples_per_scene - 1)
    assert (sweeps["LIDAR_TOP"], sweeps["RADAR_FRONT"], sweeps["CAM_FRONT"]) == (gaps, gaps, 0)


def test_instances_chain_their_annotations(nusc):
    for instance in nusc.instance:
        token, count = instance["first_annotation_token"], 0
        while token:
            annotation = nusc.get("sample_annotation", token)
            assert annotation["instance_token"] == instance["token"]
            last, token, count = token, annotation["next"], count + 1
        assert (last, count) == (instance["last_annotation_token"], instance["nbr_annotations"])


def test_points_in_boxes_are_the_counts(nusc):
    checked = 0
    for sample in nusc.sample:
        token = sample["data"]["LIDAR_TOP"]
        lidar = _global_points(nusc, token, LidarPointCloud.from_file(nusc.get_sample_data_path(token)).points[:3])
        radar = np.concatenate(
            [
                _global_points(nusc, token, _radar(nusc, token)[:3])
                for channel, token in sample["data"].items()
                if channel.startswith("RADAR")
            ],
            axis=1,
        )
        for token in sample["anns"]:
            annotation = nusc.get("sample_annotation", token)
            box = nusc.get_box(token)
            assert points_in_box(box, lidar).sum() == annotation["num_lidar_pts"]
            assert points_in_box(box, radar).sum() == annotation["num_radar_pts"]
            checked += annotation["num_lidar_pts"] > 5
    assert checked > 30


def test_every_detection_class_and_vehicle_state_occurs(nusc):
    names = Counter(category_to_detection_name(a["category_name"]) for a in nusc.sample_annotation)
    assert set(DETECTION_NAMES) <= set(names)
    states = Counter(nusc.get("attribute", t)["name"] for a in nusc.sample_annotation for t in a["attribute_tokens"])
    for state in ("vehicle.moving", "vehicle.stopped", "vehicle.parked", "cycle.with_rider", "pedestrian.moving"):
        assert states[state] > 0
    for annotation in nusc.sample_annotation:
        name = category_to_detection_name(annotation["category_name"])
        expected = 0 if name in ("barrier", "traffic_cone") else 1
        if name is not None:
            assert len(annotation["attribute_tokens"]) == expected


@pytest.mark.parametrize("split", ["mini_train", "mini_val"])
def test_ground_truth_scores_one(nusc, tmp_path, split):
    config = config_factory("detection_cvpr_2019")
    default = {"car": "vehicle.parked"}
    results = {}
    for sample in nusc.sample:
        name = nusc.get("scene", sample["scene_token"])["name"]
        if (name == "scene-0103") != (split == "mini_val"):
            continue
        boxes = []
        for token in sample["anns"]:
            annotation = nusc.get("sample_annotation", token)
            detection = category_to_detection_name(annotation["category_name"])
            if detection is None or annotation["num_lidar_pts"] + annotation["num_radar_pts"] == 0:
                continue
            attributes = [nusc.get("attribute", t)["name"] for t in annotation["attribute_tokens"]]
            boxes.append(
                {
                    "sample_token": sample["token"],
                    "translation": annotation["translation"],
                    "size": annotation["size"],
                    "rotation": annotation["rotation"],
                    "velocity": np.nan_to_num(nusc.box_velocity(token)[:2]).tolist(),
                    "detection_name": detection,
                    "detection_score": 1.0,
                    "attribute_name": attributes[0] if attributes else default.get(detection, ""),
                }
            )
        results[sample["token"]] = boxes
    meta = {f"use_{kind}": kind == "lidar" for kind in ("camera", "lidar", "radar", "map", "external")}
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"meta": meta, "results": results}))
    evaluation = DetectionEval(nusc, config, str(path), split, str(tmp_path), verbose=False)
    present = {box.detection_name for box in evaluation.gt_boxes.all}
    metrics, _ = evaluation.evaluate()
    for name in present:
        assert metrics.mean_dist_aps[name] == pytest.approx(1.0, abs=1e-6), name
        assert metrics.get_label_tp(name, "trans_err") < 1e-6
        velocity = metrics.get_label_tp(name, "vel_err")
        assert np.isnan(velocity) or velocity < 1e-6
    if split == "mini_train":
        assert len(present) >= 9


def test_radar_velocities_agree_with_the_boxes(nusc):
    errors, raw_errors = [], []
    for sample in nusc.sample:
        for channel, token in sample["data"].items():
            if not channel.startswith("RADAR"):
                continue
            points = _radar(nusc, token)
            moved = _global_points(nusc, token, points[:3])
            data = nusc.get("sample_data", token)
            calibration = nusc.get("calibrated_sensor", data["calibrated_sensor_token"])
            ego = nusc.get("ego_pose", data["ego_pose_token"])
            global_from_sensor = (Quaternion(ego["rotation"]) * Quaternion(calibration["rotation"])).rotation_matrix
            for annotation_token in sample["anns"]:
                annotation = nusc.get("sample_annotation", annotation_token)
                velocity = nusc.box_velocity(annotation_token)
                if not annotation["category_name"].startswith("vehicle") or not np.linalg.norm(velocity) > 2:
                    continue
                box = nusc.get_box(annotation_token)
                for k in np.flatnonzero(points_in_box(box, moved, wlh_factor=0.98)):
                    sight = points[:3, k] / np.linalg.norm(points[:3, k])
                    expected = float(sight @ (global_from_sensor.T @ velocity))
                    errors.append(float(points[8:10, k] @ sight[:2]) - expected)
                    across = points[8, k] * sight[1] - points[9, k] * sight[0]
                    raw_errors.append(abs(across))
    assert len(errors) > 20
    assert np.median(np.abs(errors)) < 0.3
    assert max(raw_errors) < 1e-3


def test_projected_boxes_lie_on_drawn_objects(nusc, tiny_config):
    """Inside the box's outline the picture changes when the object is left out: seen through the id raster instead."""
    from crkd_core.datasets.simulated.sensors.camera import label_pixels, render
    from crkd_core.datasets.simulated.writer.names import scene_plans
    from crkd_core.datasets.simulated.writer.scene import Timetable
    from crkd_core.datasets.simulated.writer.stage import set_stage

    stage = set_stage(tiny_config, scene_plans(tiny_config)[0])
    moments = Timetable(stage.world, {0})
    placement, world_from_ego, _ = moments.at(0)
    overlaps = []
    for view in stage.views.values():
        _, drawing = render(view, stage.backdrop, stage.assembly, placement, world_from_ego)
        labels, _ = label_pixels(view, drawing, tiny_config.image_width)
        camera_from_world = np.linalg.inv(world_from_ego @ view.ego_from_camera)
        for k, thing in enumerate(stage.world.agents):
            seen = np.argwhere(labels == k)
            if len(seen) < 60:
                continue
            w, length, h = thing.size_wlh_m
            centre = [placement.x[k], placement.y[k], h / 2]
            box = Box(centre, [w, length, h], Quaternion(axis=[0, 0, 1], radians=placement.yaw[k]))
            corners = camera_from_world[:3, :3] @ box.corners() + camera_from_world[:3, 3:]
            if (corners[2] < 0.5).any():
                continue
            pixels = view_points(corners, np.array(view.sensor.intrinsic), normalize=True)[:2]
            low, high = pixels.min(axis=1) - 1.5, pixels.max(axis=1) + 1.5
            where = seen[:, ::-1]
            overlaps.append(float(((where >= low) & (where <= high)).all(axis=1).mean()))
    assert len(overlaps) > 8
    assert min(overlaps) > 0.97
