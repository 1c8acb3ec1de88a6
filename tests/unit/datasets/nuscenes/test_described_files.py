"""LiDAR and radar files of other data sets than nuScenes, as descriptions name their fields."""

import numpy as np
import pytest

from crkd_core.config.description import LidarPoints, RadarPoints
from crkd_core.datasets.nuscenes.described_radar import over_ground, read_described_sweeps
from crkd_core.datasets.nuscenes.lidar import look_at_lidar, read_lidar
from crkd_core.datasets.nuscenes.lidar_format import LidarFormat, tell_columns
from crkd_core.datasets.nuscenes.point_files import look_at_lidars, look_at_radars
from crkd_core.datasets.nuscenes.radar import compact_sweeps
from crkd_core.errors import DatasetError
from crkd_core.progress import SilentProgress
from tests.support.lidar_cloud import cloud
from tests.support.nuscenes_factory import pcd_bytes

KINDS = ("binary", "ascii", "binary_compressed")
TIME_US = 1_600_000_000_000_000
PCD = LidarFormat(reads_pcd=True, intensity_field="intensity", is_described=True)


def columns_of(names, values, dtype="<f4"):
    points = np.zeros(len(values), [(name, dtype) for name in names])
    for column, name in enumerate(names):
        points[name] = np.asarray(values)[:, column]
    return points


# LiDAR.


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["<f4", "<f8"])
def test_lidar_pcd_files_are_read_by_their_header(tmp_path, kind, dtype):
    points = cloud()[:50]
    path = tmp_path / "0.pcd"
    path.write_bytes(
        pcd_bytes(columns_of(("ring", "z", "y", "x", "intensity"), points[:, [4, 2, 1, 0, 3]], dtype), kind)
    )
    read = read_lidar(path, PCD)
    assert read.dtype == np.float32
    np.testing.assert_allclose(read[:, :4], points[:, :4], rtol=1e-6)
    assert not read[:, 4].any()
    assert not read_lidar(path, LidarFormat(reads_pcd=True))[:, 3].any()


def test_points_have_their_own_times(tmp_path):
    points = np.zeros(3, [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("intensity", "u1"), ("timestamp", "<u8")])
    points["timestamp"] = [TIME_US - 50_000, TIME_US, TIME_US + 10_000]
    path = tmp_path / "0.pcd"
    path.write_bytes(pcd_bytes(points))
    timed = LidarFormat(reads_pcd=True, intensity_field="intensity", time_field="timestamp")
    np.testing.assert_allclose(read_lidar(path, timed, TIME_US)[:, 4], [0.05, 0.0, -0.01], atol=1e-6)
    with pytest.raises(DatasetError, match=r"3,600\.1 s from its time stamp by the field timestamp; expected"):
        read_lidar(path, timed, TIME_US + 3_600_010_000)


def test_points_of_a_pcd_file_that_are_not_finite_are_dropped(tmp_path, capsys):
    points = cloud()[:9, :4]
    points[3, 1] = np.nan
    path = tmp_path / "0.pcd"
    path.write_bytes(pcd_bytes(columns_of(("x", "y", "z", "intensity"), points)))
    assert len(read_lidar(path, PCD)) == 8
    look_at_lidar([path], PCD, SilentProgress())
    path.write_bytes(pcd_bytes(columns_of(("x", "y", "z", "intensity"), points[:0])))
    assert read_lidar(path, PCD).shape == (0, 5)


def test_pcd_files_that_do_not_fit_are_named(tmp_path):
    path = tmp_path / "0.pcd"
    path.write_bytes(pcd_bytes(columns_of(("x", "y", "z", "i"), cloud()[:9, :4])))
    with pytest.raises(
        DatasetError, match=r"lacks the field intensity and has x, y, z, i; say lidar_points.intensity_field"
    ):
        read_lidar(path, PCD)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(DatasetError, match="is truncated: expected 144 bytes of points"):
        read_lidar(path, LidarFormat(reads_pcd=True))


@pytest.mark.parametrize("columns", [4, 5, 6])
def test_columns_are_told_from_bare_files(tmp_path, columns):
    paths = [tmp_path / f"{index}.bin" for index in range(3)]
    for index, path in enumerate(paths):
        cloud(seed=index)[:, :columns].tofile(path)
    pcd = tmp_path / "0.pcd"
    pcd.write_bytes(pcd_bytes(columns_of(("x", "y", "z"), cloud()[:9, :3])))
    assert tell_columns([pcd, *paths]) == columns
    assert tell_columns([pcd]) == 5


def test_columns_that_cannot_be_told(tmp_path):
    one, other, few = (tmp_path / f"{name}.bin" for name in ("one", "other", "few"))
    cloud()[:, :4].tofile(one)
    cloud().tofile(other)
    cloud()[:5, :4].tofile(few)
    with pytest.raises(DatasetError, match=r"look like 4 columns \(.*one.bin\) and 6 \(.*other.bin\)"):
        tell_columns([one, other])
    with pytest.raises(DatasetError, match=r"do not tell how many float32 columns it has; say lidar_points.columns"):
        tell_columns([few])
    assert tell_columns([few, one]) == 4


# Radar.


def read(tmp_path, points, layout, sensor_mps=None, kind="binary"):
    path = tmp_path / "radar.pcd"
    path.write_bytes(pcd_bytes(points, kind))
    return read_described_sweeps([path], layout, sensor_mps)[0]


@pytest.mark.parametrize("kind", KINDS)
def test_fields_are_those_of_the_description(tmp_path, kind):
    points = columns_of(("time", "vr_z", "vr_y", "vr_x", "z", "y", "x", "snr"), [[9, 3, 2, 1, 0.5, 4, 30, 12]], "<f8")
    layout = RadarPoints(velocity_fields=("vr_x", "vr_y", "vr_z"), rcs_field="snr", elevation=True)
    (record,) = read(tmp_path, points, layout, kind=kind)
    assert [record[name] for name in ("x", "y", "z", "rcs", "vx_comp", "vy_comp", "vz_comp")] == [
        30,
        4,
        0.5,
        12,
        1,
        2,
        3,
    ]
    assert record["dyn_prop"] == -1
    values, codes = compact_sweeps(read(tmp_path, points, layout), np.array([1]), np.eye(4)[None], np.zeros(1))
    np.testing.assert_allclose(values, [[30, 4, 0.5, 12, 1, 2, 0]])
    assert (codes == 255).all()


def test_what_a_radar_does_not_measure_may_be_left_out(tmp_path):
    points = columns_of(("x", "y", "vx_comp", "vy_comp"), [[10, 0, 1, 2], [np.nan, 0, 0, 0]])
    records = read(tmp_path, points, RadarPoints(rcs_field=None))
    assert len(records) == 1
    assert records["z"][0] == records["rcs"][0] == 0
    with pytest.raises(DatasetError, match="lacks the field z of the description and has x, y, vx_comp, vy_comp"):
        read(tmp_path, points, RadarPoints(rcs_field=None, elevation=True))


def test_codes_are_read_where_they_are_described(tmp_path):
    names = ("x", "y", "z", "rcs", "vx_comp", "vy_comp", "dyn_prop", "ambig_state", "invalid_state", "pdh0")
    (record,) = read(tmp_path, columns_of(names, [[1, 2, 0, 0, 0, 0, 3, 4, 17, 2]]), RadarPoints(codes=True))
    assert [int(record[name]) for name in names[6:]] == [3, 4, 17, 2]
    with pytest.raises(DatasetError, match=r"its pdh0 is 2.5"):
        read(tmp_path, columns_of(names, [[1, 2, 0, 0, 0, 0, 3, 4, 17, 2.5]]), RadarPoints(codes=True))


def test_a_standing_thing_stands_whatever_the_sensor_does(tmp_path):
    generator = np.random.default_rng(0)
    position, sensor = generator.normal(size=(20, 3)) * 30, np.array([8.0, -2.0, 0.5])
    speed = -(position @ sensor) / np.linalg.norm(position, axis=1)
    relative = speed[:, None] * position / np.linalg.norm(position, axis=1, keepdims=True)
    layout = RadarPoints(velocity="relative", velocity_fields=("a", "b", "c"), rcs_field=None, elevation=True)
    for names, values, fields in (
        (("a", "b", "c"), relative, ("a", "b", "c")),
        (("speed",), speed[:, None], ("speed",)),
    ):
        points = columns_of(("x", "y", "z", *names), np.hstack([position, values]), "<f8")
        records = read(tmp_path, points, layout.model_copy(update={"velocity_fields": fields}), sensor[None])
        for name in ("vx_comp", "vy_comp", "vz_comp"):
            np.testing.assert_allclose(records[name], 0, atol=1e-5)


def test_velocity_over_ground_lies_along_the_line_of_sight():
    position = np.array([[10.0, 0, 0], [0, 5.0, 3], [0, 0, 0]])
    relative, sensor = np.array([[-3.0, 7, 0], [0, 1, 0], [1, 1, 1]]), np.tile([4.0, 2.0, 0], (3, 1))
    np.testing.assert_allclose(over_ground(position, relative, sensor, False), [[1, 0, 0], [0, 3, 0], [0, 0, 0]])
    along = over_ground(position, relative, sensor, True)[1]
    np.testing.assert_allclose(along, np.array([0, 5.0, 3]) * (3 * 5 / 34))


def test_values_that_no_radar_measures_are_named_by_their_field(tmp_path):
    points = columns_of(("x", "y", "z", "power", "doppler"), [[1, 2, 0, 9e9, 0]])
    with pytest.raises(DatasetError, match=r"its power is 9e\+09; expected"):
        read(tmp_path, points, RadarPoints(velocity_fields=("doppler",), rcs_field="power"))


# A first description of them.


def test_a_first_description_of_lidar_files(tmp_path):
    bare, pcd = tmp_path / "0.bin", tmp_path / "0.pcd"
    cloud().tofile(bare)
    points = np.zeros(9, [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("reflectivity", "u1"), ("timestamp", "<u8")])
    points["timestamp"] = TIME_US + 5
    pcd.write_bytes(pcd_bytes(points))
    assert look_at_lidars({"A": [(tmp_path / "gone", 0), (bare, TIME_US)]}).values == "{columns: 6}"
    values = "{intensity_field: reflectivity, time_field: timestamp}"
    assert look_at_lidars({"A": [(pcd, TIME_US)]}).values == values
    assert look_at_lidars({"A": [(bare, TIME_US)], "B": [(pcd, TIME_US)]}).values == values
    assert look_at_lidars({"B": [(pcd, TIME_US)], "A": [(bare, TIME_US)]}).values == values
    assert "time_field" not in look_at_lidars({"A": [(pcd, TIME_US * 1000)]}).values
    assert look_at_lidars({"A": []}).values == "{}"
    LidarPoints(intensity_field="reflectivity", time_field="timestamp")


@pytest.mark.parametrize(
    ("names", "velocity", "fields"),
    [
        (("vx", "vy", "vx_comp", "vy_comp"), "compensated", "[vx_comp, vy_comp]"),
        (("vrel_x", "vrel_y", "vrel_z"), "relative", "[vrel_x, vrel_y, vrel_z]"),
        (("vx", "vy"), "relative", "[vx, vy]"),
        (("range_rate",), "relative", "[range_rate]"),
        ((), "compensated", "[vx_comp, vy_comp]"),
    ],
)
def test_a_first_description_of_radar_files(tmp_path, names, velocity, fields):
    path = tmp_path / "0.pcd"
    path.write_bytes(pcd_bytes(columns_of(("x", "y", "z", *names), np.ones((3, 3 + len(names))))))
    values = look_at_radars([tmp_path / "gone.pcd", path]).values
    expected = f"velocity: {velocity}, velocity_fields: {fields}, rcs_field: null, codes: false, elevation: true"
    assert values == f"{{{expected}}}"
