"""Time stamps in other units than microseconds are recognised by how far apart things lie."""

import pytest

from crkd_core.config.description_files import nuscenes
from crkd_core.datasets.nuscenes.nuscenes_tables import read_tables
from crkd_core.errors import DatasetError
from tests.support.nuscenes_factory import START_US, write_folder

BOTH = ("sample", "sample_data")


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path)


def convert(folder, factor, tables=BOTH, chosen=lambda record: True, begin=0):
    """Write time stamps in another unit, counted from `begin`."""
    for table in tables:
        for record in folder.tables[table]:
            if chosen(record):
                record["timestamp"] = int((record["timestamp"] - begin) * factor)
    folder.save()
    return read_tables(folder.root / folder.version, nuscenes())


@pytest.mark.parametrize("begin", [0, START_US], ids=["since-1970", "since-the-drive-began"])
@pytest.mark.parametrize("tables", [BOTH, ("sample",), ("sample_data",)])
@pytest.mark.parametrize(("factor", "unit"), [(1e3, "nanoseconds"), (1e-3, "milliseconds"), (1e-6, "")])
def test_other_units_are_refused(folder, tables, factor, unit, begin):
    # Whole seconds of key frames at 2 Hz are equal in pairs, so that their unit cannot always be told.
    words = rf"{tables[0]}\.json are implausible.*{f'looks like {unit}' if unit else ''}.*expected microseconds"
    with pytest.raises(DatasetError, match=words):
        convert(folder, factor, tables, begin=begin)


@pytest.mark.parametrize(
    "chosen",
    [
        lambda record: not record.get("is_key_frame", True),
        lambda record: "RADAR_FRONT-" in record["token"],
        lambda record: "scene-0103" in str(record),
        lambda record: record["token"].startswith("scene-0061-sample-1"),
    ],
    ids=["sweeps", "one-sensor", "one-scene", "one-sample"],
)
@pytest.mark.parametrize("factor", [1e3, 1e-3])
def test_a_mixture_of_units_is_refused(folder, chosen, factor):
    with pytest.raises(DatasetError, match="are implausible"):
        convert(folder, factor, chosen=chosen)


def test_seconds_with_a_fraction_are_named(folder):
    for record in folder.tables["sample"]:
        record["timestamp"] *= 1e-6
    folder.tables["sample"][0]["timestamp"] += 0.25
    folder.save()
    with pytest.raises(DatasetError, match=r"expected a whole number of microseconds .*looks like seconds"):
        read_tables(folder.root / folder.version, nuscenes())


@pytest.mark.parametrize("factor", [0.2, 1.0, 2.0], ids=["10-hertz", "2-hertz", "1-hertz"])
@pytest.mark.parametrize("begin", [0, START_US])
def test_other_rates_are_fine(folder, factor, begin):
    tables = convert(folder, factor, begin=begin)
    assert tables.samples.timestamp_us[1] - tables.samples.timestamp_us[0] == pytest.approx(500_000 * factor, abs=1)


def test_two_clocks_of_one_rate_are_fine(folder):
    convert(folder, 1, ("sample",), begin=START_US)


def test_whole_numbers_written_with_a_point_are_fine(folder):
    for record in folder.tables["sample"]:
        record["timestamp"] = float(record["timestamp"])
    folder.save()
    assert read_tables(folder.root / folder.version, nuscenes()).samples.timestamp_us[0] == START_US


def test_scenes_of_one_sample_have_no_spacing(tmp_path):
    folder = write_folder(tmp_path, scenes={"scene-0061": 1, "scene-0103": 1})
    assert len(read_tables(folder.root / folder.version, nuscenes()).samples.tokens) == 2
