"""LiDAR files of other columns than nuScenes', through ``crkd prepare``."""

import numpy as np
import pytest

from crkd_core.artifacts.manifest import read_manifest
from crkd_core.artifacts.workspace import Workspace
from crkd_core.config.data import DataConfig
from crkd_core.config.loading import load_config
from crkd_core.data.dataset import SampleDataset
from crkd_core.datasets.prepared.prepared_data import PreparedData
from tests.support.lidar_cloud import cloud
from tests.support.nuscenes_factory import write_folder

COLUMNS = {3: slice(3), 4: slice(4), 5: slice(5), 6: slice(6)}


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "data", scenes={"scene-0061": 2, "scene-0103": 1})


def rewrite(folder, columns, count=None, dtype=np.float32, change=None):
    """All LiDAR files anew, with so many columns; 960 points fit five columns of any other number, 959 do not."""
    for key_frames in (True, False):
        for seed, path in enumerate(folder.files("LIDAR_TOP", key_frames)):
            points = cloud(seed=seed)[:count, COLUMNS[columns]].astype(dtype)
            if change is not None:
                change(points)
            points.tofile(path)


def artifact(tmp_path):
    return Workspace(tmp_path / "crkd-workspace").artifacts("prepare")[0]


@pytest.mark.parametrize("columns", [3, 4, 6])
@pytest.mark.parametrize("count", [960, 959])
def test_another_number_of_columns_is_named_and_then_read(crkd, refused, folder, tmp_path, columns, count):
    rewrite(folder, columns, count)
    option = f"data.lidar.columns={columns}"
    words = ("LIDAR_TOP", f"look like {columns} columns", f"prepare with --set {option}")
    refused(3, words, "prepare", "--nuscenes", folder.root)
    assert crkd("prepare", "--nuscenes", folder.root, "--set", option).code == 0
    prepared = PreparedData(artifact(tmp_path))
    assert prepared.lidar_columns == columns
    assert option in prepared.artifact.manifest.command
    dataset = SampleDataset(prepared, prepared.tokens("train"), DataConfig(), ["lidar"], bev=None, seed=0)
    expected = cloud(seed=0)[:count]
    read = dataset[0].lidar.numpy()
    np.testing.assert_allclose(read[:, :3], expected[:, :3], atol=1e-4)
    np.testing.assert_array_equal(read[:, 3], expected[:, 3] if columns > 3 else 0)


@pytest.mark.parametrize(("said", "real"), [(4, 5), (4, 6), (6, 3), (6, 4), (5, 4), (3, 4)])
def test_a_wrong_setting_is_named(refused, folder, said, real):
    rewrite(folder, real)
    words = (f"look like {real} columns", f"--set data.lidar.columns={real}")
    refused(3, words, "prepare", "--nuscenes", folder.root, "--set", f"data.lidar.columns={said}")


@pytest.mark.parametrize("value", [2, 17, 4.5, "five"])
def test_numbers_of_columns_that_are_none(refused, folder, value):
    refused(2, ("data.lidar.columns",), "prepare", "--nuscenes", folder.root, "--set", f"data.lidar.columns={value}")


def test_float64_is_named(refused, folder):
    rewrite(folder, 5, dtype=np.float64)
    refused(3, ("float64", "convert"), "prepare", "--nuscenes", folder.root)


def test_points_that_are_not_finite_are_counted(crkd, folder):
    rewrite(folder, 5, change=lambda points: points.__setitem__((slice(None, None, 10), 0), np.nan))
    result = crkd("prepare", "--nuscenes", folder.root)
    assert result.code == 0
    assert "192 of 1920 LiDAR points in the 2 files that were looked at have values that are not finite" in " ".join(
        result.err.split()
    )


def test_nuscenes_columns_leave_settings_and_configurations_as_they_were(crkd, folder, tmp_path):
    assert crkd("prepare", "--nuscenes", folder.root).code == 0
    manifest = read_manifest(artifact(tmp_path).path)
    assert "lidar_columns" not in manifest.settings
    assert "data.lidar.columns" not in manifest.command
    assert "columns" not in DataConfig().model_dump()["lidar"]
    four = load_config(overrides=["data.lidar.columns=4"])
    assert load_config(overrides=[f"data.lidar={four.data.lidar.model_dump(mode='json')}"]) == four


def test_a_configuration_of_other_columns_than_prepared(crkd, refused, folder):
    assert crkd("prepare", "--nuscenes", folder.root).code == 0
    arguments = ("train-teacher", "--preset", "tiny", "--set", "data.lidar.columns=4")
    words = ("data.lidar.columns is 4", "was prepared with 5", "crkd prepare --nuscenes")
    refused(2, words, *arguments)
