"""The truck's world as files, read without the devkit: format, places, the trailer, 4D radars and time stamps."""

import hashlib
import json
import re
from collections import Counter

import numpy as np
import pytest

from crkd_core.datasets.nuscenes.pcd import read_header, read_points
from crkd_core.datasets.simulated.config import SimulationConfig
from crkd_core.datasets.simulated.sensors.rig import build_rig
from crkd_core.datasets.simulated.writer.formats import format_of
from crkd_core.datasets.simulated.writer.names import scene_plans
from crkd_core.datasets.simulated.writer.stage import build_world
from crkd_core.datasets.truckscenes.splits import official_scenes
from crkd_core.geometry.transforms import (
    compose,
    inverse_rigid,
    rigid_transforms,
    rotations_from_quaternions,
    transform_points,
)
from crkd_core.progress import SilentProgress
from crkd_core.stages.simulate import SimulateRequest, simulate

SMALLEST = SimulationConfig(
    format="truckscenes",
    train_scenes=1,
    val_scenes=1,
    samples_per_scene=2,
    image_width=66,
    image_height=36,
    lidar_azimuth_steps=60,
    lidar_sweeps_per_key_frame=1,
    radar_sweeps_per_key_frame=1,
    camera_sweeps_per_key_frame=1,
    density=0.4,
)


@pytest.fixture(scope="module")
def tables(truck_world):
    folder = truck_world.root / truck_world.version
    return {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}


def by_token(records):
    return {record["token"]: record for record in records}


def read_cloud(path):
    data = path.read_bytes()
    header = read_header(data)
    return read_points(data, header, tuple(header.by_name))


def pose(record):
    rotation = rotations_from_quaternions(np.array(record["rotation"]))
    return rigid_transforms(rotation, np.array(record["translation"]))


@pytest.fixture(scope="module")
def firings(tables):
    """Of every file: its record, global_from_ego and ego_from_sensor."""
    poses, calibrations = by_token(tables["ego_pose"]), by_token(tables["calibrated_sensor"])
    return [
        (data, pose(poses[data["ego_pose_token"]]), pose(calibrations[data["calibrated_sensor_token"]]))
        for data in tables["sample_data"]
    ]


def test_names_are_those_of_the_real_data(truck_world, tables):
    assert truck_world.version == "v1.2-mini"
    assert sorted(path.name for path in truck_world.root.iterdir() if path.is_dir()) == [
        "samples",
        "sweeps",
        "v1.2-mini",
    ]
    assert len(tables) == 14
    assert [s["name"] for s in tables["scene"]] == [*official_scenes("mini_train")[:2], *official_scenes("mini_val")]
    for data in tables["sample_data"]:
        assert re.fullmatch(r"(samples|sweeps)/([A-Z_]+)/\2_[0-9]{16}\.(jpg|pcd)", data["filename"])
        assert str(data["timestamp"]) in data["filename"]
    assert len({data["filename"] for data in tables["sample_data"]}) == len(tables["sample_data"])


def test_no_two_scenes_share_a_moment():
    """The devkit finds the pose of a moment in all scenes at once."""
    config = SimulationConfig(format="truckscenes", kind="trainval", train_scenes=523, val_scenes=75)
    rng, form = np.random.default_rng(0), format_of(config)
    starts_us = sorted(form.start_us(plan, rng) for plan in scene_plans(config))
    longest_us = 80 * 500_000
    assert min(np.diff(starts_us)) > longest_us + 1_500_000


def test_the_trailer_is_annotated_and_seen(tables, firings):
    categories = {c["token"]: c["name"] for c in tables["category"]}
    own = {i["token"] for i in tables["instance"] if categories[i["category_token"]] == "vehicle.ego_trailer"}
    annotations = [a for a in tables["sample_annotation"] if a["instance_token"] in own]
    assert Counter(a["sample_token"] for a in annotations) == {s["token"]: 1 for s in tables["sample"]}
    ego = {d["sample_token"]: pose for d, pose, _ in firings if "/LIDAR_LEFT_" in d["filename"] and d["is_key_frame"]}
    for annotation in annotations:
        centre = transform_points(inverse_rigid(ego[annotation["sample_token"]]), np.array([annotation["translation"]]))
        assert np.allclose(centre[0, :2], (-5.3, 0.0), atol=0.3)
        assert annotation["num_lidar_pts"] > 50


def test_every_class_occurs_far_and_near(tables, firings):
    ego = {d["sample_token"]: pose for d, pose, _ in firings if "/LIDAR_LEFT_" in d["filename"] and d["is_key_frame"]}
    distances = [
        np.hypot(*(np.array(a["translation"]) - ego[a["sample_token"]][:3, 3])[:2]) for a in tables["sample_annotation"]
    ]
    assert np.mean(np.array(distances) > 75) > 0.15
    assert max(distances) > 140
    attributes = {a["token"]: a["name"] for a in tables["attribute"]}
    states = Counter(attributes[token] for a in tables["sample_annotation"] for token in a["attribute_tokens"])
    expected = {"traffic_sign.pole_mounted", "traffic_sign.overhanging", "traffic_sign.temporary", "vehicle.parked"}
    assert expected | {"vehicle.moving", "cycle.with_rider", "pedestrian.moving"} <= set(states)


def test_lidar_points_carry_the_time_of_their_beam(truck_world, firings):
    lidars = [data for data, _, _ in firings if "/LIDAR_" in data["filename"]]
    assert len(lidars) == 6 * (12 + 8)
    for data in lidars:
        cloud = read_cloud(truck_world.root / data["filename"])
        assert cloud.dtype.names == ("x", "y", "z", "intensity", "timestamp")
        assert cloud["timestamp"].dtype == np.uint64
        lag_us = data["timestamp"] - cloud["timestamp"].astype(np.int64)
        assert 0 <= lag_us.min() < lag_us.max() <= 100_000


def test_radars_measure_height_and_a_velocity_against_the_moving_sensor(truck_world, firings):
    """What stands has, along the line of sight, minus the velocity of the sensor that its own poses tell."""
    heights, errors = [], []
    chains = {}
    for firing in firings:
        if "/RADAR_" in firing[0]["filename"]:
            chains.setdefault((firing[0]["filename"].split("/")[1], firing[0]["sample_token"]), []).append(firing)
    for earlier, later in (chain for chain in chains.values() if len(chain) == 2):
        (first, *_), (data, *_) = earlier, later
        start, end = (compose(global_from_ego, mount) for _, global_from_ego, mount in (earlier, later))
        own = (end - start)[:3, 3] / (1e-6 * (data["timestamp"] - first["timestamp"]))
        cloud = read_cloud(truck_world.root / data["filename"])
        assert cloud.dtype.names == ("x", "y", "z", "vrel_x", "vrel_y", "vrel_z", "rcs")
        position = np.stack([cloud[name] for name in "xyz"], axis=1).astype(np.float64)
        velocity = np.stack([cloud[f"vrel_{name}"] for name in "xyz"], axis=1).astype(np.float64)
        sight = position / np.linalg.norm(position, axis=1, keepdims=True)
        over_ground = (velocity * sight).sum(axis=1) + sight @ (end[:3, :3].T @ own)
        errors.append(np.abs(over_ground))
        assert np.linalg.norm(position, axis=1).max() < 191
        heights.append(transform_points(end, position)[:, 2])
    errors, heights = np.concatenate(errors), np.concatenate(heights)
    assert np.mean(errors < 0.5) > 0.35
    assert np.mean(errors > 3) > 0.05
    assert np.percentile(heights, 90) > 2.0
    assert np.std(heights) > 0.7


def test_vehicles_are_fast_on_the_motorway_and_slow_in_the_terminal():
    config = SimulationConfig(format="truckscenes", train_scenes=2, val_scenes=0, samples_per_scene=2)
    speeds = {}
    for plan in scene_plans(config):
        world = build_world(config, plan)
        states = [thing.motion.at(np.zeros(1)) for thing in world.agents]
        speeds[world.setting.area] = [float(np.hypot(state.vx, state.vy)[0]) for state in states]
    assert max(speeds["highway"]) > 30
    assert 0 < max(speeds["terminal"]) < 8


def test_the_truck_has_the_sensors_of_the_real_one():
    rig = build_rig(SMALLEST)
    assert Counter(sensor.modality for sensor in rig.values()) == {"camera": 4, "lidar": 6, "radar": 6}
    sides = [f"{a}_{b}" for a in ("LEFT", "RIGHT") for b in ("FRONT", "BACK")]
    assert {c for c, s in rig.items() if s.modality == "camera"} == {f"CAMERA_{side}" for side in sides}
    assert next(iter(rig)) == "LIDAR_LEFT"
    full = SimulationConfig(format="truckscenes")
    assert {(s.width_px, s.height_px) for s in build_rig(full).values() if s.modality == "camera"} == {(1980, 943)}


def test_two_processes_give_the_same_bytes(tmp_path):
    made = [
        simulate(SimulateRequest(tmp_path / str(processes), SMALLEST, processes), SilentProgress()).root
        for processes in (1, 2)
    ]
    first, second = (
        {
            path.relative_to(root): hashlib.sha256(path.read_bytes()).digest()
            for path in root.rglob("*")
            if path.is_file()
        }
        for root in made
    )
    assert first == second
    again = simulate(SimulateRequest(tmp_path / "1", SMALLEST, 1), SilentProgress())
    assert again.samples == 4
    replaced = simulate(
        SimulateRequest(tmp_path / "1", SMALLEST.model_copy(update={"seed": 1}), 1, True), SilentProgress()
    )
    assert replaced.samples == 4
