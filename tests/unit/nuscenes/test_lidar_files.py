"""LiDAR files."""

import numpy as np
import pytest

from crkd_core.errors import DatasetError
from crkd_core.nuscenes.lidar import read_lidar


def test_points_come_back_as_written(tmp_path):
    points = np.arange(15, dtype=np.float32).reshape(3, 5)
    points.tofile(tmp_path / "sweep.pcd.bin")
    np.testing.assert_array_equal(read_lidar(tmp_path / "sweep.pcd.bin"), points)


def test_a_truncated_file_is_named_with_its_size(tmp_path):
    (tmp_path / "sweep.pcd.bin").write_bytes(b"\0" * 27)
    with pytest.raises(DatasetError, match=r"sweep\.pcd\.bin is damaged: expected a multiple of 20 bytes .* found 27"):
        read_lidar(tmp_path / "sweep.pcd.bin")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"gone\.pcd\.bin is missing"):
        read_lidar(tmp_path / "gone.pcd.bin")
