"""Radar files and features."""

from pathlib import Path

import numpy as np
import pytest

from crkd_core.datasets.nuscenes.radar import compact_features, expand_features, parse_radar, read_radar
from crkd_core.errors import DatasetError
from tests.support.nuscenes_factory import RADAR_DTYPE, radar_bytes

REAL = Path(__file__).resolve().parents[5] / "shared" / "real-nuscenes"


def points(count=3):
    made = np.zeros(count, dtype=RADAR_DTYPE)
    made["x"] = np.arange(count) + 1
    return made


def test_bytes_after_the_points_are_not_read():
    assert len(parse_radar(radar_bytes(points(3), trailing=b"\x01" * 200), "f")) == 3


def test_a_file_without_points_is_empty():
    assert len(parse_radar(radar_bytes(points(0)), "f")) == 0


def test_rows_with_nan_are_dropped_and_the_others_kept():
    made = points(4)
    made["vx_comp"][1] = np.nan
    made["x"][3] = np.nan
    assert parse_radar(radar_bytes(made), "f")["x"].tolist() == [1.0, 3.0]


def test_a_newline_byte_in_the_first_point_does_not_end_the_header():
    made = points(2)
    made["id"][0] = 0x0A0A
    assert parse_radar(radar_bytes(made), "f")["id"].tolist() == [0x0A0A, 0]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "DATA binary"),
        (b"nonsense\nmore\n", "DATA binary"),
        (radar_bytes(points(5), trailing=b"")[:-50], "expected 215 bytes"),
        (radar_bytes(points(1)).replace(b"WIDTH 1", b"WIDTH x"), "WIDTH is 'x'"),
        (radar_bytes(points(1)).replace(b"dyn_prop", b"dyn_porp"), "lacks dyn_prop"),
    ],
)
def test_damaged_files_are_named(data, said):
    with pytest.raises(DatasetError, match=said) as caught:
        parse_radar(data, "somewhere/radar.pcd")
    assert "somewhere/radar.pcd" in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"gone\.pcd is missing"):
        read_radar(tmp_path / "gone.pcd")


def test_codes_become_one_hots_and_a_thermometer():
    values = np.arange(7, dtype=np.float32)[None]
    row = expand_features(values, np.array([[6, 4, 17, 3]], np.uint8))[0]
    assert row[:7].tolist() == list(range(7))
    assert np.flatnonzero(row[7:]).tolist() == [6, 8 + 4, 13 + 17, 31, 32, 33]


def test_unknown_codes_set_no_column():
    row = expand_features(np.zeros((1, 7), np.float32), np.array([[8, 5, 18, 255]], np.uint8))
    assert not row.any()


def test_a_receding_point_moves_along_its_velocity():
    made = points(1)
    made["x"], made["vx_comp"] = 10.0, 4.0
    turn = np.array([[0.0, -1, 0, 5], [1, 0, 0, 0], [0, 0, 1, 2], [0, 0, 0, 1]])
    values, _ = compact_features(parse_radar(radar_bytes(made), "f"), turn, age_s=0.25)
    np.testing.assert_allclose(values[0], [5, 11, 2, 0, 0, 4, 0.25], atol=1e-6)


def test_the_real_file_reads_sensibly():
    files = list(REAL.glob("samples/RADAR_FRONT/*.pcd"))
    if not files:
        pytest.skip("the real key frame is not beside the repository")
    records = read_radar(files[0])
    assert len(records) == 74
    assert 0 < records["x"].min() < records["x"].max() < 260
    assert (records["z"] == 0).all()
    assert set(np.unique(records["dyn_prop"])) <= set(range(8))


@pytest.mark.devkit
def test_the_real_file_reads_as_with_the_devkit():
    files = list(REAL.glob("samples/RADAR_FRONT/*.pcd"))
    if not files:
        pytest.skip("the real key frame is not beside the repository")
    from nuscenes.utils.data_classes import RadarPointCloud

    every = list(range(18))
    devkit = RadarPointCloud.from_file(str(files[0]), every, every, every).points
    points = read_radar(files[0])
    np.testing.assert_array_equal(devkit, np.stack([points[name].astype(np.float64) for name in points.dtype.names]))
