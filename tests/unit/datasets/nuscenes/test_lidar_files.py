"""LiDAR files: their columns, and what cannot be points."""

import io

import numpy as np
import pytest

from crkd_core.datasets.nuscenes.lidar import look_at_lidar, read_lidar
from crkd_core.datasets.nuscenes.lidar_columns import likely_columns, looks_like_float64
from crkd_core.datasets.nuscenes.lidar_format import LidarFormat
from crkd_core.errors import DatasetError
from crkd_core.progress import SilentProgress
from tests.support.lidar_cloud import cloud

SHAPES = {
    3: lambda points: points[:, :3],
    4: lambda points: points[:, :4],
    5: lambda points: points[:, :5],
    6: lambda points: points,
    7: lambda points: np.column_stack([points, points[:, 5] * 2 - 1]),
}


@pytest.fixture
def write(tmp_path):
    def to_file(values, dtype=np.float32):
        np.asarray(values, dtype=dtype).tofile(tmp_path / "sweep.pcd.bin")
        return tmp_path / "sweep.pcd.bin"

    return to_file


def test_points_come_back_as_written(write):
    points = cloud()[:, :5]
    np.testing.assert_array_equal(read_lidar(write(points)), points)


@pytest.mark.parametrize("columns", SHAPES)
def test_other_columns_are_read_where_the_data_set_has_them(write, columns):
    points = cloud()
    read = read_lidar(write(SHAPES[columns](points)), LidarFormat(columns))
    assert read.shape == (len(points), 5)
    assert read.dtype == np.float32
    kept = 5 if columns == 5 else min(columns, 4)
    np.testing.assert_array_equal(read[:, :kept], points[:, :kept])
    assert not read[:, kept:].any()


def test_few_points_that_do_not_tell_are_looked_at_before_training(write):
    path = write(cloud()[:20, :4])
    assert len(read_lidar(path)) == 16
    with pytest.raises(DatasetError, match="its fifth column is no ring index"):
        look_at_lidar([path], LidarFormat(), SilentProgress())
    look_at_lidar([path], LidarFormat(4), SilentProgress())


@pytest.mark.parametrize("order", ["fired", "by ring", "shuffled"])
@pytest.mark.parametrize("columns", SHAPES)
@pytest.mark.parametrize("scale", [1, 1 / 255])
def test_values_tell_the_number_of_columns(order, columns, scale):
    points = cloud()
    points[:, 3] *= scale
    rows = {"fired": slice(None), "by ring": np.argsort(points[:, 4], kind="stable")}
    shuffled = np.random.default_rng(1).permutation(len(points))
    values = SHAPES[columns](points)[rows.get(order, shuffled)]
    assert likely_columns(values.ravel()) == columns
    assert not looks_like_float64(values.tobytes())
    assert looks_like_float64(values.astype(np.float64).tobytes())


def test_noise_and_few_points_do_not_tell():
    assert likely_columns(np.random.default_rng(0).normal(size=5000).astype(np.float32)) is None
    assert likely_columns(cloud()[:20].ravel()) is None


@pytest.mark.parametrize("columns", [3, 4, 6, 7])
def test_other_columns_than_five_are_named_whether_or_not_the_size_fits(write, columns):
    for count in (960, 955):  # 955 x 4 x 4 bytes are a multiple of 20, and so are 955 points of any columns
        path = write(SHAPES[columns](cloud())[:count])
        with pytest.raises(DatasetError, match=f"look like {columns} columns.* --set data.lidar.columns={columns}"):
            read_lidar(path)


def test_a_fifth_column_that_is_no_ring_is_still_the_fifth(write):
    points = cloud()[:, [0, 1, 2, 3, 5]]
    np.testing.assert_array_equal(read_lidar(write(points)), points)


@pytest.mark.parametrize("columns", [4, 5])
def test_float64_is_named(write, columns):
    path = write(SHAPES[columns](cloud()), np.float64)
    with pytest.raises(DatasetError, match="look like float64: convert them to float32"):
        read_lidar(path)


@pytest.mark.parametrize("count", [0, 4])
def test_other_formats_are_named(tmp_path, count):
    stream = io.BytesIO()
    np.save(stream, cloud()[:, :5])
    for name, data in {"a numpy file": stream.getvalue(), "a PCD file": b"# .PCD v0.7\n" + b"x" * 8}.items():
        (tmp_path / "sweep.bin").write_bytes(data + b"x" * (-len(data) % 20 + count))
        with pytest.raises(DatasetError, match=f"it is {name} with a header"):
            read_lidar(tmp_path / "sweep.bin")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("column", range(5))
def test_points_that_are_not_finite_are_dropped(write, value, column):
    points = cloud()[:, :5]
    points[::7, column] = value
    kept = np.delete(points, np.s_[::7], axis=0)
    np.testing.assert_array_equal(read_lidar(write(points)), kept)
    if column < 4:
        np.testing.assert_array_equal(read_lidar(write(points[:, :4]), LidarFormat(4))[:, :4], kept[:, :4])


@pytest.mark.parametrize(("column", "name"), enumerate(("x", "y", "z", "intensity")))
def test_values_that_no_lidar_measures_are_named(write, column, name):
    points = cloud()[:, :5]
    points[-1, column] = 3e38
    with pytest.raises(DatasetError, match=f"its {name} is 3e.38; expected metres"):
        read_lidar(write(points))


def test_a_file_of_nothing_finite_is_named(write):
    points = np.full((9, 5), np.nan)
    points[:, 4] = 1
    with pytest.raises(DatasetError, match="none of its 9 points is finite"):
        read_lidar(write(points))


def test_a_truncated_file_is_named_with_its_size(tmp_path):
    (tmp_path / "sweep.pcd.bin").write_bytes(b"\0" * 27)
    with pytest.raises(DatasetError, match=r"sweep\.pcd\.bin is damaged: expected a multiple of 20 bytes .* found 27"):
        read_lidar(tmp_path / "sweep.pcd.bin")


def test_an_empty_file_has_no_points(tmp_path):
    (tmp_path / "sweep.pcd.bin").touch()
    assert read_lidar(tmp_path / "sweep.pcd.bin").shape == (0, 5)
