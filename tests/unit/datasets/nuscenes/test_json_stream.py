"""Reading JSON tables record by record."""

import json

import pytest

from crkd_core.datasets.nuscenes import json_stream
from crkd_core.datasets.nuscenes.json_stream import iterate_records
from crkd_core.errors import DatasetError

RECORDS = [{"token": f"t{index}", "text": 'a ] { } [ " ä', "list": [1.5, -2]} for index in range(50)]


def write(tmp_path, text):
    path = tmp_path / "scene.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize("indent", [None, 0, 2])
@pytest.mark.parametrize("chunk", [7, 64, 1 << 22])
def test_records_come_back_whatever_the_layout_and_the_chunks(tmp_path, monkeypatch, indent, chunk):
    monkeypatch.setattr(json_stream, "_CHUNK_CHARACTERS", chunk)
    path = write(tmp_path, json.dumps(RECORDS, indent=indent))
    assert list(iterate_records(path)) == RECORDS


def test_an_empty_table_has_no_records(tmp_path):
    assert list(iterate_records(write(tmp_path, "[\n]"))) == []


@pytest.mark.parametrize("end", [1, 20, 400, 1000])
def test_a_truncated_table_is_named_with_the_position(tmp_path, end):
    path = write(tmp_path, json.dumps(RECORDS)[:end])
    with pytest.raises(DatasetError, match=r"scene\.json is truncated or not valid JSON at character \d+"):
        list(iterate_records(path))


@pytest.mark.parametrize("text", ['{"token": 1}', "", "hello", "[1, 2]"])
def test_anything_but_a_list_of_records_is_refused(tmp_path, text):
    with pytest.raises(DatasetError, match=r"scene\.json"):
        list(iterate_records(write(tmp_path, text)))


def test_bytes_that_are_not_text_are_refused(tmp_path):
    with pytest.raises(DatasetError, match="not UTF-8"):
        list(iterate_records(write(tmp_path, b"[\xff\xfe]")))


def test_a_broken_record_in_a_large_table_is_found_without_reading_on(tmp_path, monkeypatch):
    monkeypatch.setattr(json_stream, "_LONGEST_RECORD", 100)
    monkeypatch.setattr(json_stream, "_CHUNK_CHARACTERS", 300)
    path = write(tmp_path, json.dumps(RECORDS).replace('"token": "t9"', '"token" "t9"'))
    with pytest.raises(DatasetError, match=r"not valid at character \d+: expected a whole record"):
        list(iterate_records(path))
