"""Radar files and features."""

from pathlib import Path

import numpy as np
import pytest

from crkd_core.datasets.nuscenes.radar import (
    compact_features,
    compact_sweeps,
    expand_features,
    parse_radar,
    read_radar,
    read_sweeps,
)
from crkd_core.errors import DatasetError
from tests.support.nuscenes_factory import RADAR_DTYPE, pcd_bytes, radar_bytes

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


def some_files(folder):
    """Files of nuScenes' layout and others, with points that are not finite, and without any."""
    rng = np.random.default_rng(1)
    made = [points(count) for count in (0, 1, 7, 3, 5)]
    for part in made:
        for name in ("x", "y", "vx_comp", "vy_comp"):
            part[name] = rng.normal(size=len(part)) * 20
    made[3]["y"][1] = np.nan
    order = [*RADAR_DTYPE.names[::-1]]
    shuffled = np.zeros(4, [(name, RADAR_DTYPE[name]) for name in order])
    shuffled["x"], shuffled["vx_comp"], shuffled["pdh0"] = 3.5, 1.25, 2
    data = [*map(radar_bytes, made), pcd_bytes(shuffled), pcd_bytes(made[4], "ascii"), pcd_bytes(made[2], end="\r\n")]
    for number, content in enumerate(data):
        (folder / f"{number}.pcd").write_bytes(content)
    return [folder / f"{number}.pcd" for number in range(len(data))]


def test_sweeps_read_together_are_those_read_one_by_one(tmp_path):
    paths = some_files(tmp_path)
    records, counts = read_sweeps(paths)
    alone = [read_radar(path) for path in paths]
    assert counts.tolist() == [len(part) for part in alone] == [0, 1, 7, 2, 5, 4, 5, 7]
    for name in ("x", "y", "z", "rcs", "vx_comp", "vy_comp", "dyn_prop", "ambig_state", "invalid_state", "pdh0"):
        np.testing.assert_array_equal(records[name], np.concatenate([part[name] for part in alone]))


def test_features_of_many_sweeps_are_those_of_each_to_the_bit(tmp_path):
    paths, rng = some_files(tmp_path), np.random.default_rng(0)
    records, counts = read_sweeps(paths)
    poses, ages = rng.normal(size=(len(paths), 4, 4)), rng.uniform(0, 0.5, len(paths))
    values, codes = compact_sweeps(records, counts, poses, ages)
    alone = [compact_features(read_radar(path), pose, age) for path, pose, age in zip(paths, poses, ages.tolist())]
    np.testing.assert_array_equal(values, np.concatenate([part[0] for part in alone]))
    np.testing.assert_array_equal(codes, np.concatenate([part[1] for part in alone]))


def test_no_sweeps_have_no_records():
    records, counts = read_sweeps([])
    assert len(records) == len(counts) == 0


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda data: data[:-60], "is truncated: expected 301 bytes"),
        (lambda data: data.replace(b"rcs", b"rcz"), "lacks rcs"),
        (lambda data: data.replace(b"DATA binary", b"DATA packed"), "written as 'packed'"),
        (lambda data: b"# DATA binary\n" + data.replace(b"VERSION", b"DATA ascii\nVERSION"), "has no FIELDS line"),
        (lambda data: data[:-20] + b"\xff\x7f\x7f\x7f" * 5, "expected 0 or sizes"),
    ],
)
def test_the_damaged_file_among_many_is_named(tmp_path, spoil, said):
    paths = some_files(tmp_path)
    paths[2].write_bytes(spoil(radar_bytes(points(7), trailing=b"")))
    with pytest.raises(DatasetError, match=said) as together:
        read_sweeps(paths)
    with pytest.raises(DatasetError) as alone:
        read_radar(paths[2])
    assert str(together.value) == str(alone.value)
    assert str(paths[2]) in str(together.value)


def test_a_large_file_is_read_to_its_end(tmp_path):
    made = points(5000)
    made["x"] = 1 + np.arange(5000) % 100
    (tmp_path / "large.pcd").write_bytes(radar_bytes(made))
    records, counts = read_sweeps([tmp_path / "large.pcd"])
    assert counts.tolist() == [5000]
    np.testing.assert_array_equal(records["x"], made["x"])
