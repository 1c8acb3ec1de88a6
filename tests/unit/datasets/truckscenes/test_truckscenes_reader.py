"""Poses, boxes, merged clouds and radars of a prepared truck's world are those that the devkit gives."""

import numpy as np
import pytest

pytest.importorskip("truckscenes", reason="truckscenes-devkit is not installed (Python below 3.12 only)")

from pyquaternion import Quaternion
from truckscenes import TruckScenes
from truckscenes.utils.data_classes import LidarPointCloud, RadarPointCloud
from truckscenes.utils.geometry_utils import transform_matrix

from crkd_core.config.description_files import known_description
from crkd_core.data.points import place_sweep, read_sweep

pytestmark = pytest.mark.devkit
DESCRIPTION = known_description("truckscenes")


@pytest.fixture(scope="module")
def trucksc(truck_folder):
    return TruckScenes(truck_folder.version, str(truck_folder.root), verbose=False)


def global_from_sensor(trucksc, token):
    data = trucksc.get("sample_data", token)
    pose = trucksc.get("ego_pose", data["ego_pose_token"])
    mounting = trucksc.get("calibrated_sensor", data["calibrated_sensor_token"])
    matrices = [transform_matrix(part["translation"], Quaternion(part["rotation"])) for part in (pose, mounting)]
    return matrices[0] @ matrices[1]


def test_poses_are_the_devkit_s(trucksc, truck_data, truck_tokens):
    for token in truck_tokens:
        expected = global_from_sensor(trucksc, trucksc.get("sample", token)["data"][DESCRIPTION.reference])
        assert np.allclose(truck_data.global_from_lidar(token), expected, rtol=0, atol=1e-8)
        for channel, matrix in zip(DESCRIPTION.cameras, truck_data.cameras(token).lidar_from_camera, strict=True):
            camera = global_from_sensor(trucksc, trucksc.get("sample", token)["data"][channel])
            assert np.allclose(matrix, np.linalg.inv(expected) @ camera, rtol=0, atol=1e-6)


def test_boxes_are_the_devkit_s(trucksc, truck_data, truck_tokens):
    compared = 0
    for token in truck_tokens:
        sample = trucksc.get("sample", token)
        _, boxes, _ = trucksc.get_sample_data(sample["data"][DESCRIPTION.reference])
        expected = {box.token: box for box in boxes}
        annotations = truck_data.annotations(token)
        assert set(annotations.tokens) <= set(expected)
        for row, own in enumerate(annotations.boxes.tensor.numpy()):
            box = expected[annotations.tokens[row]]
            assert np.allclose(own[:3], box.center, atol=1e-4)
            assert np.allclose(own[3:6], box.wlh, atol=1e-5)
            front = box.orientation.rotation_matrix[:2, 0]
            assert np.allclose([np.cos(own[6]), np.sin(own[6])], front / np.linalg.norm(front), atol=1e-5)
            velocity = trucksc.box_velocity(annotations.tokens[row])
            assert np.allclose(annotations.velocity[row], velocity, atol=1e-6, equal_nan=True)
            compared += 1
    assert compared > 100


def test_clouds_of_several_sweeps_are_the_devkit_s(trucksc, truck_data, truck_tokens):
    for token in (truck_tokens[0], truck_tokens[2], truck_tokens[-1]):
        sweeps = truck_data.lidar_sweeps(token)
        for channel in DESCRIPTION.lidars:
            files = [file for file, path in enumerate(sweeps.paths) if f"/{channel}/" in path]
            expected, lag_s = LidarPointCloud.from_file_multisweep(
                trucksc, trucksc.get("sample", token), channel, DESCRIPTION.reference, len(files), min_distance=0
            )
            own = np.concatenate(
                [
                    place_sweep(
                        read_sweep(truck_data.dataroot, sweeps, file),
                        sweeps.lidar_from_sweep[file],
                        float(sweeps.age_s[file]),
                        has_times=True,
                    )
                    for file in files
                ]
            )
            assert len(own) == expected.points.shape[1]
            assert np.allclose(own[:, :3], expected.points[:3].T, atol=1e-4)
            assert np.array_equal(own[:, 3], expected.points[3].astype(np.float32))
            # The devkit's times are seconds of an epoch, of which float64 keeps a quarter of a microsecond.
            assert np.allclose(own[:, 4], lag_s[0], atol=1e-6)


def test_radars_are_the_devkit_s_and_compensated_by_its_poses(trucksc, truck_data, truck_tokens):
    for token in (truck_tokens[0], truck_tokens[1], truck_tokens[-1]):
        sample = trucksc.get("sample", token)
        values, _ = truck_data.radar(token, sweeps=1)
        channels = truck_data.radar_channels(token)
        assert len(channels) >= len(values)
        lidar_from_global = np.linalg.inv(global_from_sensor(trucksc, sample["data"][DESCRIPTION.reference]))
        start = 0
        for channel in DESCRIPTION.radars:
            data = trucksc.get("sample_data", sample["data"][channel])
            cloud, _ = RadarPointCloud.from_file_multisweep(
                trucksc, sample, channel, DESCRIPTION.reference, nsweeps=1, min_distance=0
            )
            own = values[start : start + cloud.points.shape[1]]
            start += len(own)
            assert np.allclose(own[:, :3], cloud.points[:3].T, atol=1e-4)
            assert np.array_equal(own[:, 3], cloud.points[6].astype(np.float32))
            before, after = (
                trucksc.get("sample_data", token) if token else data for token in (data["prev"], data["next"])
            )
            places = [global_from_sensor(trucksc, record["token"])[:3, 3] for record in (before, after)]
            sensor_mps = (places[1] - places[0]) / (1e-6 * (after["timestamp"] - before["timestamp"]))
            matrix = lidar_from_global @ global_from_sensor(trucksc, data["token"])
            sight = cloud.points[:3].T - matrix[:3, 3]
            sight /= np.linalg.norm(sight, axis=1, keepdims=True)
            relative_mps = (cloud.points[3:6].T * sight).sum(axis=1)
            over_ground = relative_mps + sight @ (lidar_from_global[:3, :3] @ sensor_mps)
            assert np.allclose(own[:, [4, 5, 7]], over_ground[:, None] * sight, atol=2e-3)
        assert start == len(values)
