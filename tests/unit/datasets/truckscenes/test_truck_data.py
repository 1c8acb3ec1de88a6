"""What is prepared of a truck's world: poses, merged LiDARs, compensated 4D radars, splits and tags."""

import json
import shutil

import numpy as np
import pytest
import torch

from crkd_core.artifacts.workspace import Workspace
from crkd_core.config.description_files import known_description
from crkd_core.config.loading import load_config
from crkd_core.data.dataset import SampleDataset
from crkd_core.data.points import augment_radar, key_frame_points, place_sweep, read_sweep
from crkd_core.datasets.prepared.prepare_request import PrepareRequest
from crkd_core.datasets.prepared.prepared_data import PreparedData
from crkd_core.datasets.truckscenes.tags import scene_tags
from crkd_core.evaluation.statistics.slices import read_scenes
from crkd_core.progress import SilentProgress
from crkd_core.stages.prepare import prepare

DESCRIPTION = known_description("truckscenes")


def inside(points, boxes, margin_m=0.0):
    """(M, P) which points lie in which boxes."""
    x, y, z, width, length, height, yaw = boxes[:, :7].T[..., None]
    east, north, up = points[:, 0] - x, points[:, 1] - y, points[:, 2] - z
    along, across = np.cos(yaw) * east + np.sin(yaw) * north, np.cos(yaw) * north - np.sin(yaw) * east
    sizes = ((along, length), (across, width), (up, height))
    return np.logical_and.reduce([np.abs(value) < size / 2 + margin_m for value, size in sizes])


def boxes_of(data, token):
    return data.annotations(token).boxes.tensor.numpy().astype(np.float64)


def test_the_report_finds_nothing_odd(truck_result):
    assert truck_result.report.warnings == []
    assert truck_result.samples_per_split == {"mini_train": 3, "mini_val": 3}
    assert truck_result.report.sensors.silent_radars == []


def test_a_prepared_truck_has_its_classes_cameras_and_tags(truck_data, truck_tokens):
    labels = np.concatenate([truck_data.annotations(token).labels.numpy() for token in truck_tokens])
    assert len(set(labels.tolist())) >= 8
    assert truck_data.cameras(truck_tokens[0]).channels == DESCRIPTION.cameras
    scene = truck_data.scene_of(truck_tokens[0])
    assert len(scene_tags(scene.description)) == 7
    assert scene.night == ("daytime.night" in scene.description)
    assert scene.rain == ("weather.rain" in scene.description)
    scenes = read_scenes(truck_data, truck_tokens)
    assert scenes.tags == tuple(
        scene_tags(truck_data.scene_of(token).description) for token in (truck_tokens[0], truck_tokens[-1])
    )


@pytest.mark.parametrize(
    ("description", "tags"),
    [
        ("weather.rain;area.highway", ("weather.rain", "area.highway")),
        ("weather.rain;weather.rain", ("weather.rain",)),
        ("", ()),
        ("Night, after rain. Peds", ()),
        ("weather.rain; then dry", ()),
    ],
)
def test_only_descriptions_of_tags_have_tags(description, tags):
    assert scene_tags(description) == tags


def test_lidars_merge_to_the_points_that_were_counted_in_the_boxes(truck_data, truck_tokens):
    checked = 0
    for token in truck_tokens:
        annotations, boxes = truck_data.annotations(token), boxes_of(truck_data, token)
        sweeps = truck_data.lidar_sweeps(token)
        assert len(sweeps.files_of(0)) == len(DESCRIPTION.lidars)
        points = key_frame_points(truck_data.dataroot, sweeps)
        counted = inside(points, boxes).sum(axis=1)
        assert np.abs(counted - annotations.lidar_points).max() <= 3
        checked += int((annotations.lidar_points > 20).sum())
    assert checked > 50


def test_points_of_all_lidars_and_sweeps_lie_in_standing_boxes(truck_data):
    token = truck_data.tokens("train")[-1]
    sweeps = truck_data.lidar_sweeps(token)
    assert len(sweeps) > 1
    annotations, boxes = truck_data.annotations(token), boxes_of(truck_data, token)
    is_standing = np.hypot(boxes[:, 7], boxes[:, 8]) < 0.05
    chosen = np.flatnonzero(is_standing & (annotations.lidar_points > 30))
    assert len(chosen) > 2
    for number in range(len(sweeps)):
        hit, near = np.zeros(len(chosen), dtype=int), np.zeros(len(chosen), dtype=int)
        for file in sweeps.files_of(number):
            points = read_sweep(truck_data.dataroot, sweeps, file)
            moved = place_sweep(points, sweeps.lidar_from_sweep[file], float(sweeps.age_s[file]), has_times=True)
            # What is above the ground around a standing thing is the thing itself, though the truck moved on by metres.
            above = moved[:, 2] > (boxes[chosen, 2] - boxes[chosen, 5] / 2)[:, None] + 0.3
            hit += (inside(moved, boxes[chosen], 0.1) & above).sum(axis=1)
            near += (inside(moved, boxes[chosen], 0.6) & above).sum(axis=1)
        assert hit.sum() > 100
        assert np.median(hit[near > 5] / near[near > 5]) > 0.9


def test_points_have_time_lags_of_their_own(truck_data):
    sweeps = truck_data.lidar_sweeps(truck_data.tokens("train")[-1])
    for file in (0, len(sweeps.paths) - 1):
        points = read_sweep(truck_data.dataroot, sweeps, file)
        age_s = float(sweeps.age_s[file])
        lag_s = place_sweep(points, sweeps.lidar_from_sweep[file], age_s, has_times=True)[:, 4]
        assert lag_s.min() > age_s - 0.01
        assert 0.05 < lag_s.max() - lag_s.min() < 0.11
    assert sweeps.age_s.max() <= 0.5


def test_standing_scenery_has_no_velocity_over_ground(truck_data):
    for token in truck_data.tokens("train"):
        values, _ = truck_data.radar(token)
        speed = np.linalg.norm(values[:, [4, 5, 7]], axis=1)
        is_scenery = ~inside(values, boxes_of(truck_data, token), 1.5).any(axis=0)
        assert is_scenery.sum() > 500
        assert np.median(speed[is_scenery]) < 0.15
        assert (speed[is_scenery] < 0.5).mean() > 0.75


def test_moving_boxes_have_their_radial_velocity(truck_data, truck_tokens):
    differences = []
    for token in truck_tokens:
        values, _ = truck_data.radar(token, sweeps=1)
        boxes = boxes_of(truck_data, token)
        for row in np.flatnonzero(np.hypot(boxes[:, 7], boxes[:, 8]) > 3):
            own = values[inside(values, boxes[row : row + 1])[0]]
            if len(own) > 2:
                along = own[:, 4:6] / np.linalg.norm(own[:, 4:6], axis=1, keepdims=True)
                expected = along @ boxes[row, 7:9]
                differences.append(np.median(np.linalg.norm(own[:, 4:6], axis=1) - expected))
    assert len(differences) > 10
    assert np.median(np.abs(differences)) < 0.5


def test_millions_of_metres_cost_no_precision(truck_folder, truck_data, truck_tokens, tmp_path):
    """The same world with its origin near the truck gives the same boxes, clouds and radar points."""
    folder = tmp_path / "near"
    shutil.copytree(truck_folder.root / truck_folder.version, folder / truck_folder.version)
    for name in ("samples", "sweeps"):
        (folder / name).symlink_to(truck_folder.root / name, target_is_directory=True)
    offset = np.array([688_000.0, 5_343_000.0, 0.0])
    for table in ("ego_pose", "sample_annotation"):
        path = folder / truck_folder.version / f"{table}.json"
        records = json.loads(path.read_text())
        for record in records:
            record["translation"] = (np.array(record["translation"]) - offset).tolist()
        path.write_text(json.dumps(records))
    request = PrepareRequest(folder, dataset=DESCRIPTION)
    near = PreparedData(prepare(request, Workspace(tmp_path / "workspace"), SilentProgress()).artifact)
    for token in truck_tokens:
        assert np.allclose(boxes_of(near, token), boxes_of(truck_data, token), atol=1e-5, equal_nan=True)
        assert np.allclose(near.lidar_sweeps(token).lidar_from_sweep, truck_data.lidar_sweeps(token).lidar_from_sweep)
        assert np.allclose(near.radar(token)[0], truck_data.radar(token)[0], atol=1e-4)
        apart = near.global_from_lidar(token)[:3, 3] + offset - truck_data.global_from_lidar(token)[:3, 3]
        assert np.abs(apart).max() < 1e-6


def test_velocities_turn_in_three_dimensions(truck_data):
    values, _ = truck_data.radar(truck_data.tokens("train")[0])
    angle, scale = 0.3, 1.05
    turned = np.eye(4)
    turned[:3, :3] = scale * np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    )
    augmented = augment_radar(values, turned)
    assert np.allclose(augmented[:, [4, 5, 7]], values[:, [4, 5, 7]] @ turned[:3, :3].T, atol=1e-4)
    back = augment_radar(augmented, np.linalg.inv(turned))
    assert np.allclose(back, values, atol=1e-3)


def test_radar_points_enter_the_network_as_described(truck_data):
    config = load_config("truckscenes-tiny")
    token = truck_data.tokens("train")[0]

    def radar(data):
        dataset = SampleDataset(truck_data, [token], data, ("radar",), bev=None, seed=0)
        return dataset[0].radar

    points = radar(config.data)
    assert points.shape[1] == DESCRIPTION.radar_points.feature_columns == 8
    assert points[:, 2].std() > 0.3
    assert points[:, 6].abs().max() > 0.1
    flat = radar(config.data.model_copy(update={"radar": config.data.radar.model_copy(update={"elevation": False})}))
    assert not flat[:, [2, 6]].any()
    assert torch.equal(flat[:, [0, 1, 3, 4, 5, 7]], points[:, [0, 1, 3, 4, 5, 7]])
