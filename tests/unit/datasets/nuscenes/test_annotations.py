"""Annotated boxes: which are left out, which are refused, and what their numbers of points mean."""

import math

import numpy as np
import pytest

from crkd_core.config.description_files import nuscenes
from crkd_core.datasets.nuscenes.nuscenes_tables import read_tables
from crkd_core.datasets.nuscenes.point_counts import UNKNOWN, may_have_points, total_points
from crkd_core.errors import DatasetError
from tests.support.nuscenes_factory import write_folder


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path)


def read(folder):
    folder.save()
    return read_tables(folder.root / folder.version, nuscenes())


def of_kind(folder, kind):
    return [record for record in folder.tables["sample_annotation"] if f"-{kind}-" in record["token"]]


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("size", [0, 4.5, 1.6], "a size of 0 or below"),
        ("size", [1.9, 4.5, 0.0], "a size of 0 or below"),
        ("size", [1.9, -4.5, 1.6], "a size of 0 or below"),
        ("size", [1.9, 4.5, 1e-300], "a side shorter than 0.001 m"),
        ("size", [1.9, math.nan, 1.6], "a size that is no number"),
        ("size", [1.9, math.inf, 1.6], "a size that is no number"),
        ("translation", [math.nan, 0, 0], "a place that is no number"),
        ("translation", [0, 0, -math.inf], "a place that is no number"),
        ("translation", [1e300, 0, 0], "a place beyond 1e+08 m"),
        ("size", [1.9, 450, 1.6], "a side longer than 100 m"),
        ("rotation", [0, 0, 0, 0], "a rotation that is no quaternion"),
        ("rotation", [math.nan, 0, 0, 0], "a rotation that is no quaternion"),
    ],
)
def test_an_unusable_box_is_left_out_and_counted(folder, field, value, reason):
    before = read(folder).annotations
    of_kind(folder, "car")[1][field] = value
    tables = read(folder)
    assert tables.notes.dropped_boxes == {reason: 1}
    assert [tables.samples.tokens[row] for row in tables.dropped_sample] == ["scene-0061-sample-1"]
    kept = [row for row, token in enumerate(before.token) if token != "scene-0061-car-1"]
    assert tables.annotations.token == [before.token[row] for row in kept]
    assert np.array_equal(tables.annotations.size_wlh, before.size_wlh[kept])
    # Neighbours whose velocity came from the place that is gone have none; nothing becomes 0.
    unknown = np.isnan(tables.annotations.velocity).any(axis=1) & ~np.isnan(before.velocity[kept]).any(axis=1)
    expected = {"scene-0061-car-0", "scene-0061-car-2"} if field == "translation" else set()
    assert {tables.annotations.token[row] for row in np.flatnonzero(unknown)} == expected


def test_a_bicycle_rack_without_a_box_is_named(folder):
    folder.tables["category"].append({"token": "rack", "name": "static_object.bicycle_rack"})
    folder.tables["instance"].append({"token": "rack-1", "category_token": "rack"})
    animal = of_kind(folder, "animal")[0]
    for number, size in enumerate(([1.0, 2.0, 1.0], [1.0, 0.0, 1.0])):
        rack = {**animal, "token": f"rack-{number}", "instance_token": "rack-1", "size": size, "next": ""}
        folder.tables["sample_annotation"].append(rack)
    tables = read(folder)
    assert len(tables.racks.sample) == 1
    assert "1 bicycle racks have an unusable box" in tables.notes.oddities[0]


def test_no_usable_box_at_all_is_refused(folder):
    for record in folder.tables["sample_annotation"]:
        record["size"][2] = 0
    with pytest.raises(DatasetError, match=r"none of the 10 boxes .* is usable: 10 with a size of 0 or below"):
        read(folder)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("size", [1, 2]), ("size", ["1", "2", "3"]), ("size", None), ("translation", [None] * 3), ("translation", {}),
        ("rotation", [0, 0, 1]), ("rotation", 1.5), ("num_lidar_pts", "3"), ("num_lidar_pts", 2.5),
        ("num_radar_pts", [1]), ("num_radar_pts", True), ("attribute_tokens", "attribute-moving"), ("prev", 3.5),
    ],
)  # fmt: skip
def test_a_value_of_another_kind_is_named_by_record_and_field(folder, field, value):
    of_kind(folder, "car")[1][field] = value
    with pytest.raises(DatasetError, match=rf'{field} of the record "scene-0061-car-1" is .*expected'):
        read(folder)


@pytest.mark.parametrize(
    ("links", "word"),
    [
        ({"prev": "scene-0061-car-1"}, "before"),
        ({"next": "scene-0061-car-1"}, "after"),
        ({"prev": "scene-0061-car-2", "next": "scene-0061-car-0"}, "before"),
        ({"next": "scene-0061-walker-2"}, "after"),
    ],
    ids=["own-previous", "own-next", "swapped", "another-object"],
)
def test_annotations_linked_in_a_loop_are_refused(folder, links, word):
    of_kind(folder, "car")[1].update(links)
    with pytest.raises(DatasetError, match=f"the annotation 'scene-0061-car-1' names .* as the one {word} it"):
        read(folder)


def test_samples_linked_in_a_loop_are_refused(folder):
    folder.tables["sample"][1]["next"] = folder.tables["sample"][0]["token"]
    with pytest.raises(
        DatasetError, match="the sample 'scene-0061-sample-1' names 'scene-0061-sample-0' as the one after"
    ):
        read(folder)


def test_links_that_are_null_are_none(folder):
    for record in (*folder.tables["sample_annotation"], *folder.tables["sample"]):
        record.update(prev=record["prev"] or None, next=record["next"] or None)
    assert not np.isnan(read(folder).annotations.velocity[0]).any()


def test_objects_that_nothing_links_are_named(folder):
    for record in folder.tables["sample_annotation"]:
        record.update(prev="", next="")
    tables = read(folder)
    assert np.isnan(tables.annotations.velocity).all()
    assert "all velocities are unknown" in tables.notes.oddities[0]


def set_points(folder, lidar, radar):
    for record in folder.tables["sample_annotation"]:
        for field, value in (("num_lidar_pts", lidar), ("num_radar_pts", radar)):
            record.pop(field, None)
            if value != "absent":
                record[field] = value


@pytest.mark.parametrize(
    ("lidar", "radar", "agrees"),
    [
        (0, 0, False),
        (-1, -1, True),
        (-1, 0, True),
        (-1, 1, False),
        (None, None, False),
        ("absent", "absent", False),
        (math.nan, 0, False),
        (0, None, False),
    ],
)
def test_unknown_numbers_of_points_leave_nothing_out(folder, lidar, radar, agrees):
    set_points(folder, lidar, radar)
    tables = read(folder)
    annotations = tables.annotations
    assert may_have_points(annotations.lidar_points, annotations.radar_points).all()
    assert annotations.devkit_agrees.tolist() == [agrees] * 10
    expected = 0 if radar == 1 else 10
    assert tables.notes.boxes_without_counts == expected


def test_known_numbers_of_points_stay_what_they_are(folder):
    tables = read(folder)
    annotations = tables.annotations
    kept = may_have_points(annotations.lidar_points, annotations.radar_points)
    assert kept.tolist() == (annotations.label == 0).tolist()
    assert annotations.devkit_agrees.all()
    assert tables.notes.boxes_without_counts == 0


def test_points_of_undetected_objects_show_that_someone_counted(folder):
    for record in of_kind(folder, "car"):
        record["num_lidar_pts"] = 0
    annotations = read(folder).annotations
    assert not may_have_points(annotations.lidar_points, annotations.radar_points).any()
    assert annotations.devkit_agrees.all()


def test_the_total_of_points():
    lidar, radar = (np.array(counts, dtype=np.int32) for counts in ([3, 0, 0, UNKNOWN, UNKNOWN], [1, 0, UNKNOWN, 2, 0]))
    assert total_points(lidar, radar).tolist() == [4, 0, UNKNOWN, 2, UNKNOWN]
    assert may_have_points(lidar, radar).tolist() == [True, False, True, True, True]


def rename(folder, table, names):
    for record in folder.tables[table]:
        record["name"] = names.get(record["name"], record["name"])


def test_a_category_that_is_not_nuscenes_is_counted_and_hinted_at(folder):
    rename(folder, "category", {"vehicle.car": "Car"})
    notes = read(folder).notes
    assert notes.ignored_categories == {"Car": 5, "animal": 5}
    assert notes.similar_categories == {"Car": "vehicle.car"}


@pytest.mark.parametrize(
    ("name", "hint"),
    [("Vehicle.Car", "vehicle.car"), ("pedestrian", "human.pedestrian.adult"), ("TRUCK", "vehicle.truck"),
     ("traffic_cone", "movable_object.trafficcone"), ("vehicle.busses.rigid", "vehicle.bus.rigid")],
)  # fmt: skip
def test_no_category_that_is_detected_is_refused(folder, name, hint):
    rename(folder, "category", {"vehicle.car": name, "human.pedestrian.adult": "person"})
    words = rf"none of the 15 annotations .*found {name} \(5\), person \(5\), animal \(5\).*{name} would be {hint}"
    with pytest.raises(DatasetError, match=words):
        read(folder)


def test_an_attribute_that_is_not_nuscenes_counts_as_none(folder):
    rename(folder, "attribute", {"vehicle.moving": "moving"})
    tables = read(folder)
    assert set(tables.annotations.attribute) == {""}
    assert tables.notes.ignored_attributes == {"moving": 5}
    assert tables.notes.similar_attributes["moving"].endswith(".moving")
    assert tables.annotations.devkit_agrees.tolist() == (tables.annotations.label != 0).tolist()


@pytest.mark.parametrize("value", [None, "absent"])
def test_attributes_may_be_absent(folder, value):
    for record in folder.tables["sample_annotation"]:
        record.pop("attribute_tokens")
        if value is None:
            record["attribute_tokens"] = None
    assert set(read(folder).annotations.attribute) == {""}


@pytest.mark.parametrize(
    ("token", "level", "expected"),
    [("3", "", 3), (3, "", 3), ("full", "v80-100", 4), ("7", "", 0), (None, "", 0), ("unheard-of", None, 0)],
)
def test_visibility_by_number_or_level(folder, token, level, expected):
    if level:
        folder.tables["visibility"].append({"token": token, "level": level})
    for record in folder.tables["sample_annotation"]:
        record["visibility_token"] = token
    assert set(read(folder).annotations.visibility.tolist()) == {expected}


def test_a_version_without_annotations_is_fine(folder):
    for table in ("sample_annotation", "instance"):
        folder.tables[table] = []
    assert len(read(folder).annotations.token) == 0
