"""Tables are decoded to typed records; what the fast decoder refuses is read with care, to the same records."""

import json

import numpy as np
import pytest
from msgspec import UNSET

from crkd_core.datasets.nuscenes import json_stream, records
from crkd_core.datasets.nuscenes.json_stream import UnusualTable, iterate_typed
from crkd_core.datasets.nuscenes.records import TableReader
from crkd_core.datasets.nuscenes.table_records import AnnotationRecord, PoseRecord, SampleDataRecord
from crkd_core.errors import DatasetError

POSES = [
    {"token": f"{row:032x}", "rotation": [1, 0.5, 0.0, -1e-3], "translation": [row, 2.5, -3.0], "more": {"a": [{}, {}]}}
    for row in range(50)
]


def reader(tmp_path, text, name="ego_pose", record=PoseRecord):
    (tmp_path / f"{name}.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    return TableReader(tmp_path, name, record)


def rows(table):
    return [(record.token, list(record.rotation), list(record.translation)) for record in table]


@pytest.mark.parametrize("chunk", [64, 300, 1 << 22])
@pytest.mark.parametrize("indent", [None, 0, 2])
def test_typed_records_are_those_of_the_careful_reader(tmp_path, monkeypatch, indent, chunk):
    monkeypatch.setattr(json_stream, "_CHUNK_BYTES", chunk)
    expected = [(pose["token"], pose["rotation"], pose["translation"]) for pose in POSES]
    assert rows(reader(tmp_path, json.dumps(POSES, indent=indent))) == expected


@pytest.mark.parametrize(
    "odd",
    [
        "\ufeff" + json.dumps(POSES),
        json.dumps(POSES)[:-1] + ",]",
        json.dumps(POSES).replace('}, {"token"', '} {"token"', 1),
        json.dumps([*POSES[:30], POSES[30] | {"more": "a text with }, { and [ in it"}, *POSES[31:]]),
        json.dumps([*POSES[:30], POSES[30] | {"more": float("nan")}, *POSES[31:]]),
        json.dumps([*POSES[:30], POSES[30] | {"more": "half \ud800"}, *POSES[31:]]),
        json.dumps([*POSES[:30], POSES[30] | {"more": "Zürich"}, *POSES[31:]], ensure_ascii=False),
    ],
    ids=["mark", "comma", "no-comma", "braces", "nan", "surrogate", "not-ascii"],
)
@pytest.mark.parametrize("chunk", [300, 1 << 22])
def test_odd_tables_lose_and_repeat_nothing(tmp_path, monkeypatch, odd, chunk):
    monkeypatch.setattr(json_stream, "_CHUNK_BYTES", chunk)
    monkeypatch.setattr(records, "_BATCH", 7)
    assert [token for token, *_ in rows(reader(tmp_path, odd))] == [pose["token"] for pose in POSES]


def test_what_nuscenes_writes_never_needs_the_careful_reader(tmp_path, monkeypatch):
    monkeypatch.setattr(json_stream, "_CHUNK_BYTES", 500)
    poses = [{name: pose[name] for name in ("token", "rotation", "translation")} for pose in POSES]
    path = reader(tmp_path, json.dumps(poses, indent=0)).path
    assert sum(len(batch) for batch in iterate_typed(path, PoseRecord)) == len(POSES)


@pytest.mark.parametrize("text", ["", "{}", "[", '[{"token": "a"}', '[{"token": "a"}] more', b'[{"a": "\xff"}]', "[1]"])
def test_the_typed_decoder_takes_no_broken_table(tmp_path, text):
    table = reader(tmp_path, text)
    with pytest.raises(UnusualTable):
        list(iterate_typed(table.path, PoseRecord))
    with pytest.raises(DatasetError, match=r"ego_pose\.json"):
        list(table)


def test_an_absent_field_is_unset_and_null_is_none(tmp_path):
    (record,) = reader(tmp_path, '[{"token": "a", "rotation": null}]')
    assert record.rotation is None
    assert record.translation is UNSET


def test_a_wrong_value_deep_in_a_table_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(json_stream, "_CHUNK_BYTES", 300)
    poses = [*POSES[:40], POSES[40] | {"translation": [1, "2", 3]}, *POSES[41:]]
    table = reader(tmp_path, json.dumps(poses))
    with pytest.raises(
        DatasetError, match=rf'translation of the record "{40:032x}" is \[1, "2", 3\], expected 3 numbers'
    ):
        for batch in table.batches():
            table.numbers(batch, {"translation": 3})


def test_columns_take_what_records_take(tmp_path):
    data = [
        {"token": 7, "width": 1600.0, "height": None, "is_key_frame": 1, "timestamp": 5.0, "ego_pose_token": None},
        {"token": "b", "width": 3, "is_key_frame": False, "timestamp": 6, "ego_pose_token": 12},
    ]
    table = reader(tmp_path, json.dumps(data), "sample_data", SampleDataRecord)
    batch = list(table)
    assert table.own_tokens(batch) == ["7", "b"]
    assert table.integers(batch, "width", default=0).tolist() == [1600, 3]
    assert table.integers(batch, "height", default=0).tolist() == [0, 0]
    assert table.flags(batch, "is_key_frame").tolist() == [True, False]
    assert table.timestamps_us(batch).tolist() == [5, 6]
    assert table.links(batch, "ego_pose_token") == ["", "12"]
    assert table.numbers([], {"a": 3, "b": 4}).shape == (0, 7)
    with pytest.raises(DatasetError, match="lacks the field 'height'"):
        table.integers(batch[1:], "height")


def test_nan_and_infinity_in_boxes_are_read(tmp_path):
    data = [{"token": "a", "translation": [float("nan"), float("inf"), 1], "size": [1, 2, 3], "rotation": [1, 0, 0, 0]}]
    table = reader(tmp_path, json.dumps(data), "sample_annotation", AnnotationRecord)
    numbers = table.numbers(list(table), {"translation": 3, "size": 3, "rotation": 4})
    np.testing.assert_array_equal(numbers, [[np.nan, np.inf, 1, 1, 2, 3, 1, 0, 0, 0]])
