"""The stage ``prepare`` on tiny folders, on a simulated one and on the real key frame."""

import multiprocessing
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from crkd_core.artifacts.workspace import Workspace
from crkd_core.datasets.nuscenes.lidar import read_lidar
from crkd_core.datasets.prepared.prepared_data import PreparedData
from crkd_core.errors import DatasetError, StaleArtifactError, UsageError
from crkd_core.progress import SilentProgress
from crkd_core.stages.prepare import PrepareRequest, prepare
from tests.support.nuscenes_factory import CAR_VELOCITY, global_from_ego, landmark, write_folder
from tests.support.poses import pose

REAL = Path(__file__).resolve().parents[3] / "shared" / "real-nuscenes"


class Stopped(Exception):
    pass


class StopAfter(SilentProgress):
    """Raises after some advances, as a kill would end the stage."""

    def __init__(self, advances):
        self._left = advances

    def task(self, description, *args, **kwargs):
        outer = super().task(description, *args, **kwargs)
        progress = self

        class Counting:
            def __enter__(self):
                self._task = outer.__enter__()
                return self

            def __exit__(self, *error):
                return outer.__exit__(*error)

            def advance(self, steps=1, **fields):
                progress._left -= description == "radar"
                if progress._left < 0:
                    raise Stopped

        return Counting()


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "nuscenes")


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "ws")


def run(folder, workspace, progress=None, **options):
    return prepare(PrepareRequest(folder.root, **options), workspace, progress or SilentProgress())


def contents(artifact):
    return {path: record.sha256 for path, record in artifact.manifest.files.items()}


def test_the_tables_say_what_is_in_the_folder(folder, workspace):
    result = run(folder, workspace)
    assert result.version == "v1.0-mini"
    assert result.artifact.name == "v1.0-mini"
    assert result.samples_per_split == {"mini_train": 3, "mini_val": 2}
    assert result.annotations == 10
    assert result.missing == []
    assert result.artifact.manifest.facts["annotations_of_other_categories"] == 5
    assert result.artifact.manifest.facts["dataroot"] == str(folder.root.resolve())
    assert result.artifact.manifest.command == (
        f"crkd prepare --nuscenes {folder.root} --version v1.0-mini --radar-sweeps 6 --lidar-sweeps 10 "
        f"--workspace {workspace.root}"
    )
    assert pq.read_table(result.artifact.file("cameras.parquet")).num_rows == 30
    assert pq.read_table(result.artifact.file("radar_sweeps.parquet")).num_rows == 5 * 5 * 6


def test_sweeps_see_the_landmark_where_the_key_frame_does(folder, workspace):
    prepared = PreparedData(run(folder, workspace).artifact)
    for token in prepared.tokens("train"):
        expected = np.linalg.inv(prepared.global_from_lidar(token)) @ [*landmark(0), 1]
        sweeps = prepared.lidar_sweeps(token)
        for path, matrix in zip(sweeps.paths, sweeps.lidar_from_sweep):
            point = read_lidar(prepared.dataroot / path)[0, :3]
            np.testing.assert_allclose(matrix[:3, :3] @ point + matrix[:3, 3], expected[:3], atol=1e-4)
        np.testing.assert_allclose(sweeps.lidar_from_sweep[0], np.eye(4), atol=1e-9)
        values, codes = prepared.radar(token)
        still = codes[:, 0] == 0
        assert still.sum() == 5 * 6
        np.testing.assert_allclose(values[still, :3], np.tile(expected[:3], (30, 1)), atol=1e-3)


def test_cameras_pass_through_both_ego_poses(folder, workspace):
    prepared = PreparedData(run(folder, workspace).artifact)
    token = prepared.tokens("val")[1]
    cameras = prepared.cameras(token)
    stamp = int(cameras.paths[0].split("__")[1].removesuffix(".jpg"))
    assert stamp != prepared.timestamp_us(token)
    calibration = {record["token"]: record for record in folder.tables["calibrated_sensor"]}["calibration-CAM_FRONT"]

    mount = pose(calibration["rotation"], calibration["translation"])
    in_camera = np.array([0.5, 0.2, 10.0, 1])
    in_global = global_from_ego(stamp) @ mount @ in_camera
    np.testing.assert_allclose(
        prepared.global_from_lidar(token) @ cameras.lidar_from_camera[0] @ in_camera, in_global, atol=1e-6
    )


def test_boxes_are_in_the_frame_of_the_key_frames_lidar(folder, workspace):
    prepared = PreparedData(run(folder, workspace).artifact)
    token = prepared.tokens("train")[1]
    annotations = prepared.annotations(token)
    assert annotations.labels.tolist() == [0, 8]
    pose = prepared.global_from_lidar(token)
    box = annotations.boxes.tensor[0].double().numpy()
    np.testing.assert_allclose(pose[:3, :3] @ box[:3] + pose[:3, 3], annotations.translation[0], atol=1e-4)
    np.testing.assert_allclose(pose[:3, :3] @ [*box[7:9], 0], CAR_VELOCITY, atol=1e-5)
    heading = pose[:3, :3] @ [np.cos(box[6]), np.sin(box[6]), 0]
    np.testing.assert_allclose(np.arctan2(heading[1], heading[0]), 0.4, atol=1e-6)
    assert box[3:6].tolist() == pytest.approx([1.9, 4.5, 1.6])
    assert annotations.has_points.tolist() == [True, False]
    assert annotations.attributes == ["vehicle.moving", ""]


def test_the_start_of_a_scene_repeats_the_oldest_radar_sweep(folder, workspace):
    prepared = PreparedData(run(folder, workspace).artifact)
    first = prepared.tokens("val")[0]
    values, _ = prepared.radar(first)
    assert len(values) == 5 * 6 * 2
    assert (values[:, 6] == 0).all()
    assert len(prepared.lidar_sweeps(first).paths) == 1
    assert len(prepared.radar(first, sweeps=2)[0]) == 5 * 2 * 2


def test_equal_requests_give_equal_bytes_in_any_number_of_processes(folder, tmp_path):
    one = run(folder, Workspace(tmp_path / "one"))
    two = run(folder, Workspace(tmp_path / "two"), processes=2)
    assert contents(one.artifact) == contents(two.artifact)
    assert one.artifact.manifest.digest == two.artifact.manifest.digest


def test_a_stopped_run_continues_with_the_same_bytes(folder, workspace, tmp_path):
    whole = run(folder, Workspace(tmp_path / "whole"))
    with pytest.raises(Stopped):
        run(folder, workspace, StopAfter(1))
    shards = sorted((workspace.root / "prepare" / "v1.0-mini.partial" / "radar").iterdir())
    assert [path.name for path in shards] == ["shard-00000.safetensors", "shard-00001.safetensors"]
    shards[1].unlink()
    written = shards[0].stat().st_mtime_ns
    resumed = run(folder, workspace)
    assert contents(resumed.artifact) == contents(whole.artifact)
    assert resumed.artifact.file("radar/shard-00000.safetensors").stat().st_mtime_ns == written


def test_a_finished_run_is_not_made_again_and_a_changed_folder_is_noticed(folder, workspace):
    first = run(folder, workspace).artifact
    assert run(folder, workspace).artifact.manifest.created == first.manifest.created
    folder.tables["scene"][0]["description"] = "another day"
    folder.save()
    with pytest.raises(StaleArtifactError, match="--force"):
        run(folder, workspace)
    assert run(folder, workspace, force=True).artifact.manifest.digest != first.manifest.digest


def test_options_that_make_no_sense_are_refused(folder, workspace):
    for options, said in (
        (
            {"allow_missing": frozenset({"cameras"})},
            "--allow-missing knows samples, lidar, radar, sweeps, found cameras",
        ),
        ({"radar_sweeps": 0}, "--radar-sweeps"),
        ({"lidar_sweeps": 0}, "--lidar-sweeps"),
        ({"processes": 0}, "--processes"),
    ):
        with pytest.raises(UsageError, match=said):
            run(folder, workspace, **options)


def test_a_folder_without_official_scenes_is_refused(tmp_path, workspace):
    folder = write_folder(tmp_path / "other", scenes={"scene-9999": 1})
    with pytest.raises(DatasetError, match=r"no sample in any split.*scene-9999"):
        run(folder, workspace)


def test_an_empty_split_is_named(tmp_path, workspace):
    folder = write_folder(tmp_path / "other", scenes={"scene-0061": 2})
    prepared = PreparedData(run(folder, workspace).artifact)
    with pytest.raises(DatasetError, match=r"no sample of the split 'mini_val'.*mini_train \(2 samples\)"):
        prepared.tokens("val")


def test_missing_sweeps_are_refused_unless_allowed(folder, workspace):
    gone = folder.files("LIDAR_TOP", key_frames=False)[0]
    gone.unlink()
    for path in folder.files("RADAR_FRONT", key_frames=False):
        path.unlink()
    with pytest.raises(
        DatasetError, match=r"LIDAR_TOP: 1 of 6 sweep files \(such as sweeps/LIDAR_TOP.*allow-missing sweeps"
    ):
        run(folder, workspace)
    result = run(folder, workspace, allow_missing=frozenset({"sweeps"}))
    assert len(result.missing) == 2
    prepared = PreparedData(result.artifact)
    assert all(gone.name not in path for path in prepared.lidar_sweeps(prepared.tokens("train")[1]).paths)
    assert "such as" in result.artifact.manifest.settings["missing"]["sensors"][0]


def test_files_that_come_back_make_another_data_set(folder, workspace):
    gone = folder.files("LIDAR_TOP", key_frames=False)[0]
    kept = gone.read_bytes()
    gone.unlink()
    run(folder, workspace, allow_missing=frozenset({"sweeps"}))
    gone.write_bytes(kept)
    with pytest.raises(StaleArtifactError):
        run(folder, workspace)


def test_a_missing_radar_is_refused_unless_allowed(folder, workspace):
    shutil.rmtree(folder.root / "samples" / "RADAR_BACK_LEFT")
    with pytest.raises(DatasetError, match=r"RADAR_BACK_LEFT: 5 of 5 key-frame files.*--allow-missing radar"):
        run(folder, workspace)
    result = run(folder, workspace, allow_missing=frozenset({"radar"}))
    prepared = PreparedData(result.artifact)
    assert prepared.modalities == ("camera", "lidar", "radar")
    assert "RADAR_BACK_LEFT" not in prepared.radar_channels(prepared.tokens("val")[0])


@pytest.mark.parametrize("channel", ["CAM_BACK", "LIDAR_TOP"])
def test_what_every_sample_needs_is_never_optional(folder, workspace, channel):
    folder.files(channel)[0].unlink()
    with pytest.raises(DatasetError, match=f"{channel}: 1 of 5 key-frame files"):
        run(folder, workspace, allow_missing=frozenset({"radar", "sweeps"}))


def test_damaged_sensor_files_are_named(folder, workspace):
    path = folder.files("LIDAR_TOP")[0]
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(DatasetError, match=rf"{path.name} \(expected a multiple of 20 bytes"):
        run(folder, workspace)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_damaged_radar_file_is_named_from_any_process(folder, workspace, processes):
    path = folder.files("RADAR_FRONT")[-1]
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(DatasetError, match=rf"{path.name} is truncated: expected 86 bytes"):
        run(folder, workspace, processes=processes)
    assert not multiprocessing.active_children()


def test_a_test_version_has_no_annotations(tmp_path, workspace):
    folder = write_folder(tmp_path / "test", version="v1.0-test", scenes={"scene-0077": 2})
    folder.tables["sample_annotation"], folder.tables["instance"] = [], []
    folder.save()
    prepared = PreparedData(run(folder, workspace).artifact)
    annotations = prepared.annotations(prepared.tokens("test")[0])
    assert len(annotations) == 0
    assert annotations.boxes.tensor.shape == (0, 9)


@pytest.mark.skipif(not REAL.is_dir(), reason="the real key frame is not beside the repository")
def test_the_real_key_frame(workspace):
    with pytest.raises(DatasetError, match=r"RADAR_BACK_LEFT.*lists no sweeps.*--allow-missing radar,sweeps"):
        prepare(PrepareRequest(REAL), workspace, SilentProgress())
    with pytest.raises(DatasetError, match=r"LIDAR_TOP: sample_data.json lists no sweeps"):
        prepare(PrepareRequest(REAL, allow_missing=frozenset({"radar"})), workspace, SilentProgress())
    request = PrepareRequest(REAL, allow_missing=frozenset({"radar", "sweeps"}))
    result = prepare(request, workspace, SilentProgress())
    assert result.samples_per_split == {"mini_train": 1}
    prepared = PreparedData(result.artifact)
    (token,) = prepared.tokens("train")
    annotations = prepared.annotations(token)
    assert len(annotations) == 68
    points = torch.from_numpy(read_lidar(REAL / prepared.lidar_sweeps(token).paths[0])[:, :3])
    counted = annotations.boxes.contain(points).sum(1).numpy()
    # The recorded counts come from other rounding: nearly all boxes agree to 5%.
    close = np.abs(counted - annotations.lidar_points) <= np.maximum(1, 0.05 * annotations.lidar_points)
    assert close.mean() > 0.9
    depths = []
    cameras = prepared.cameras(token)
    for index in range(6):
        in_camera = points.double().numpy() @ np.linalg.inv(cameras.lidar_from_camera[index])[:3, :3].T
        in_camera = in_camera + np.linalg.inv(cameras.lidar_from_camera[index])[:3, 3]
        ahead = in_camera[in_camera[:, 2] > 1]
        pixels = ahead @ cameras.intrinsics[index].T
        pixels = pixels[:, :2] / pixels[:, 2:]
        seen = ((pixels >= 0) & (pixels < cameras.size_px[index])).all(1)
        depths.append(seen.sum())
        # The road is at the bottom of the image and near, what is above is farther away.
        assert np.median(ahead[seen & (pixels[:, 1] > 700), 2]) < np.median(ahead[seen & (pixels[:, 1] < 500), 2])
    assert min(depths) > 1500


def test_preparing_needs_no_torch(folder, tmp_path):
    """Loading it takes a second and 0.2 GB, of which preparing the whole of nuScenes leaves little."""
    code = (
        "import sys, runpy\n"
        "sys.modules['torch'] = None\n"
        "sys.argv = ['crkd', 'prepare', *sys.argv[1:]]\n"
        "runpy.run_module('crkd_cli', run_name='__main__')"
    )
    command = [sys.executable, "-c", code, "--nuscenes", str(folder.root), "--workspace", str(tmp_path / "torchless")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
