"""Radar files that converters and PCL write: the same points in other types, orders, encodings and headers."""

import re

import numpy as np
import pytest

from crkd_core.datasets.nuscenes.pcd import PcdError, decompress_lzf
from crkd_core.datasets.nuscenes.radar import RADAR_RECORD, compact_features, encode_radar, parse_radar
from crkd_core.errors import DatasetError
from tests.support.nuscenes_factory import RADAR_DTYPE, pcd_bytes, radar_bytes

NAMES = RADAR_DTYPE.names
CODES = ("dyn_prop", "ambig_state", "invalid_state", "pdh0")


@pytest.fixture
def points():
    made = np.zeros(4, dtype=RADAR_DTYPE)
    for index, name in enumerate(NAMES):
        made[name] = [index % 5, 3, 7, 1]
    made["x"] = [2.8, 40.4, -3.0, 9.6]
    made["rcs"] = [-3.5, 12.0, 0.0, 31.5]
    return made


def retyped(points, dtypes):
    """The points with other types, and perhaps another order or more fields."""
    made = np.zeros(len(points), dtype=dtypes)
    for name in NAMES:
        made[name] = points[name]
    return made


def check_same(data, points):
    records = parse_radar(data, "f")
    for name in NAMES:
        np.testing.assert_array_equal(records[name], points[name], err_msg=name)
    pairs = zip(compact_features(records, np.eye(4), 0.1), compact_features(points, np.eye(4), 0.1), strict=True)
    for read, expected in pairs:
        np.testing.assert_array_equal(read, expected)
        assert read.dtype == expected.dtype


def as_float(name):
    return RADAR_DTYPE[name].kind == "f"


LAYOUTS = {
    "integers of 32 bits": [(name, "<f4" if as_float(name) else "<i4") for name in NAMES],
    "all float32": [(name, "<f4") for name in NAMES],
    "all float64": [(name, "<f8") for name in NAMES],
    "unsigned": [(name, "<f4" if as_float(name) else "u1") for name in NAMES],
    "integers of 64 bits": [(name, "<f4" if as_float(name) else "<u8") for name in NAMES],
    "another order": [(name, RADAR_DTYPE[name]) for name in reversed(NAMES)],
    "codes first": sorted(((name, RADAR_DTYPE[name]) for name in NAMES), key=lambda field: as_float(field[0])),
    "more fields": [("time", "<f8"), *((name, RADAR_DTYPE[name]) for name in NAMES), ("normal", "<f4", (3,))],
    "padding": [("_0", "u1", (3,)), *((n, RADAR_DTYPE[n]) for n in NAMES[:9]), ("_1", "<f4"),
                *((n, RADAR_DTYPE[n]) for n in NAMES[9:])],
}  # fmt: skip


@pytest.mark.parametrize("kind", ["binary", "ascii", "binary_compressed"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_points_are_the_same_in_every_layout(points, layout, kind):
    check_same(pcd_bytes(retyped(points, LAYOUTS[layout]), kind), points)


@pytest.mark.parametrize("kind", ["binary", "ascii", "binary_compressed"])
def test_lines_of_a_header_may_end_as_on_windows(points, kind):
    check_same(pcd_bytes(points, kind, end="\r\n"), points)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (rb"COUNT .*\n", b""),
        (rb"HEIGHT .*\n", b""),
        (rb"POINTS .*\n", b""),
        (rb"VERSION .*\n", b""),
        (rb"WIDTH 4\nHEIGHT 1", b"WIDTH 2\nHEIGHT 2"),
        (rb"# \.PCD.*\n", b"# DATA binary\n# WIDTH 9\n\n"),
        (rb"FIELDS", b"  FIELDS"),
    ],
)
def test_headers_that_say_the_same(points, old, new):
    data = radar_bytes(points)
    changed = re.sub(old, new, data, count=1)
    assert changed != data
    check_same(changed, points)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (rb"SIZE .*\n", b"", "no SIZE line"),
        (rb"TYPE .*\n", b"", "no TYPE line"),
        (rb"FIELDS .*\n", b"", "no FIELDS line"),
        (rb"WIDTH .*\n", b"", "no WIDTH line"),
        (rb"WIDTH 4", b"WIDTH", "WIDTH line of its header has 0 values"),
        (rb"WIDTH 4", b"WIDTH -4", "WIDTH is '-4'"),
        (rb"WIDTH 4", b"WIDTH 4.0", "WIDTH is '4.0'"),
        (rb"WIDTH 4", b"WIDTH " + b"9" * 9000, "expected a whole number"),
        (rb"WIDTH 4", b"WIDTH 3", "WIDTH 3 x HEIGHT 1, which is not POINTS 4"),
        (rb"HEIGHT 1", b"HEIGHT 2", "WIDTH 4 x HEIGHT 2, which is not POINTS 4"),
        (rb"POINTS 4", b"POINTS 5", "which is not POINTS 5"),
        (
            rb"WIDTH 4\nHEIGHT 1\n(.*)\nPOINTS 4",
            rb"WIDTH 1000000000000\n\1",
            "truncated: expected 43000000000000 bytes",
        ),
        (rb"SIZE 4", b"SIZE 2", "field x has TYPE F of SIZE 2"),
        (rb"SIZE 4 4", b"SIZE 4", "names 18 FIELDS and gives SIZE of 17"),
        (rb"TYPE F", b"TYPE C", "field x has TYPE C"),
        (rb"COUNT 1", b"COUNT 3", "lacks x"),
        (rb"COUNT 1", b"COUNT 0", "lacks x"),
        (rb"COUNT 1", b"COUNT 1 1", "gives COUNT of 19"),
        (rb"vx_comp ", b"vx_radial ", "lacks vx_comp"),
        (rb" pdh0 ", b" x ", "names the field x twice"),
        (rb"WIDTH 4\n", b"WIDTH 4\nWIDTH 4\n", "two lines WIDTH"),
        (rb"DATA binary", b"DATA base64", "written as 'base64'"),
        (rb"DATA binary", b"DAMA binary", "'DATA binary' or 'DATA ascii'"),
    ],
)
def test_headers_that_contradict_themselves_are_named(points, old, new, said):
    data = radar_bytes(points)
    changed = re.sub(old, new, data, count=1)
    assert changed != data
    with pytest.raises(DatasetError, match=re.escape(said)) as caught:
        parse_radar(changed, "folder/radar.pcd")
    assert "folder/radar.pcd" in str(caught.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("layout", ["all float32", "all float64"])
def test_a_record_with_a_value_that_is_not_finite_is_dropped(points, layout, name, value):
    made = retyped(points, LAYOUTS[layout])
    made[name][1] = value
    for kind in ("binary", "ascii"):
        assert parse_radar(pcd_bytes(made, kind), "f")["x"].tolist() == points["x"][[0, 2, 3]].tolist()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", [name for name in NAMES if as_float(name)])
def test_also_in_the_layout_of_nuscenes(points, name, value):
    points[name][1] = value
    assert parse_radar(radar_bytes(points), "f")["pdh0"].tolist() == points["pdh0"][[0, 2, 3]].tolist()


@pytest.mark.parametrize("layout", ["nuscenes", "all float64"])
@pytest.mark.parametrize(("name", "value"), [("rcs", 1e30), ("x", 9e-41), ("vy_comp", -2000), ("z", 5e4)])
def test_values_that_no_radar_measures_are_named(points, layout, name, value):
    made = points if layout == "nuscenes" else retyped(points, LAYOUTS[layout])
    made[name][2] = value
    with pytest.raises(DatasetError, match=f"its {name} is .* expected 0 or sizes from 1e-30 to 1000"):
        parse_radar(pcd_bytes(made), "f")


@pytest.mark.parametrize("name", CODES)
@pytest.mark.parametrize("value", [256 + 3, -129, 2.5, 1e300])
def test_codes_that_would_turn_into_others_are_named(points, name, value):
    made = retyped(points, LAYOUTS["all float64"])
    made[name][2] = value
    with pytest.raises(DatasetError, match=f"its {name} is .* whole numbers from -128 to 255"):
        parse_radar(pcd_bytes(made), "f")


def test_large_numbers_of_other_fields_are_kept(points):
    made = retyped(points, LAYOUTS["integers of 32 bits"])
    made["id"] = 70_000
    assert parse_radar(pcd_bytes(made), "f")["id"].tolist() == [70_000] * 4


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("1 2\n" * 4, "point 1 has 2 numbers; expected 18"),
        ("1 " * 18 + "\n", "truncated: expected 4 lines of points, found 1"),
        (("1 " * 18 + "\n") * 5, "expected 4 lines of points, found 5"),
        (("1 " * 17 + "wide\n") * 4, "the vy_rms of point 1 is 'wide'"),
        ("", "truncated"),
    ],
)
def test_text_that_is_not_the_points_is_named(points, body, said):
    header = pcd_bytes(points, "ascii").partition(b"DATA ascii\n")
    with pytest.raises(DatasetError, match=said):
        parse_radar(header[0] + header[1] + body.encode(), "f")


@pytest.mark.parametrize("kept", [0, 4, 8, 20, 100, -1])
def test_a_compressed_body_that_was_cut_is_named(points, kept):
    data = pcd_bytes(points, "binary_compressed")
    body = data.index(b"compressed\n") + len(b"compressed\n")
    with pytest.raises(DatasetError, match="truncated"):
        parse_radar(data[: body + kept] if kept >= 0 else data[:-1], "f")


@pytest.mark.parametrize(
    ("at", "said"), [(4, r"said to be \d+ bytes; expected 172"), (8, "points are damaged"), (8 + 33, "are damaged")]
)
def test_a_compressed_body_with_wrong_bytes_is_named(points, at, said):
    data = bytearray(pcd_bytes(points, "binary_compressed"))
    data[data.index(b"compressed\n") + len(b"compressed\n") + at] ^= 0xE5
    with pytest.raises(DatasetError, match=said):
        parse_radar(bytes(data), "f")


def test_copies_in_compressed_data():
    near = bytes([0, ord("a"), 0b001_00000, 0])  # "a", then 3 bytes from 1 back: a run
    assert decompress_lzf(near, 4) == b"aaaa"
    far = bytes([2]) + b"abc" + bytes([0b111_00000, 4, 2])  # 7 + 2 + 4 bytes from 3 back
    assert decompress_lzf(far, 16) == b"abc" * 5 + b"a"


@pytest.mark.parametrize(
    "packed",
    [b"\x00", b"\x05ab", b"\x20", b"\x20\x00", b"\xe0\x01", b"\x00a\x20\x01", b"\x00a" * 3, b"\x00a\xe0\xff\x00"],
)
def test_damaged_compressed_data_are_refused(packed):
    with pytest.raises(PcdError, match="damaged"):
        decompress_lzf(packed, 2)


@pytest.mark.parametrize("kind", ["binary", "ascii", "binary_compressed"])
@pytest.mark.parametrize("layout", ["another order", "all float32"])
def test_a_file_without_points_is_empty(points, layout, kind):
    assert len(parse_radar(pcd_bytes(retyped(points[:0], LAYOUTS[layout]), kind), "f")) == 0


def test_written_points_are_read_again(points):
    data = encode_radar(points)
    assert RADAR_RECORD == RADAR_DTYPE
    assert len(data) == 4096 + points.nbytes
    np.testing.assert_array_equal(parse_radar(data, "f"), points)
    assert len(encode_radar(points[:0])) == 4096 + RADAR_RECORD.itemsize
    assert len(parse_radar(encode_radar(points[:0]), "f")) == 0
