"""Data-set descriptions: those that come with the package, short ones of one's own, and what is wrong with others."""

import re

import pytest
import yaml

from crkd_core.config.description import ClassDescription, DatasetDescription
from crkd_core.config.description_difference import description_difference
from crkd_core.config.description_files import (
    dataset_names,
    dump_description,
    known_description,
    load_description,
    nuscenes,
    validate_description,
)
from crkd_core.config.radar_features import NUSCENES_FEATURES
from crkd_core.errors import ConfigError

FOUR_CAMERAS = """
name: shuttle
classes:
  person: {categories: [pedestrian.any], nms_size_factor: 2}
  van: {categories: [vehicle.van, vehicle.bus], range_m: 80, attributes: [moves, stands], when_moving: moves}
  pole: {static: true, unscored: [velocity_mps]}
cameras: [FRONT, LEFT, RIGHT, REAR]
lidars: [TOP, BUMPER]
"""


def shuttle(**changes: object) -> DatasetDescription:
    return validate_description({**yaml.safe_load(FOUR_CAMERAS), **changes})


@pytest.mark.parametrize("name", dataset_names())
def test_descriptions_of_the_package_survive_round_trips(name):
    description = known_description(name)
    assert description.name == name
    assert validate_description(yaml.safe_load(dump_description(description))) == description
    assert validate_description(description.model_dump(mode="json")) == description


def test_a_short_description_is_enough(tmp_path):
    file = tmp_path / "shuttle.yaml"
    file.write_text(FOUR_CAMERAS)
    description = load_description(file)
    assert description == load_description(str(file)) == shuttle()
    assert description.class_names == ("person", "van", "pole")
    assert description.head_tasks == (("person",), ("van",), ("pole",))
    assert description.label_of_category == {"pedestrian.any": 0, "vehicle.van": 1, "vehicle.bus": 1, "pole": 2}
    assert description.reference == "TOP"
    assert description.channels == ("FRONT", "LEFT", "RIGHT", "REAR", "TOP", "BUMPER")
    assert description.rows_of_cameras == (("FRONT", "LEFT"), ("RIGHT", "REAR"))
    assert description.evaluated_classes == description.class_names
    # Classes that move count double.
    assert description.response_weights == (2.0, 2.0, 1.0)
    assert description.circle_nms_m2 == {}
    assert description.nms_size_factors == {"person": 2.0}
    assert description.glyphs == {"person": "$P$", "van": "$V$", "pole": "$P$"}
    assert len(set(description.colours.values())) == 3
    assert description.text_name == "shuttle"


@pytest.mark.parametrize("count", [1, 2, 3, 5, 6, 7, 8, 11])
def test_cameras_are_arranged_in_rows_that_hold_each_once(count):
    cameras = tuple(f"CAM_{number}" for number in range(count))
    rows = shuttle(cameras=list(cameras)).rows_of_cameras
    assert tuple(camera for row in rows for camera in row) == cameras
    assert max(map(len, rows)) <= 4
    assert max(map(len, rows)) - min(map(len, rows)) <= 1
    assert shuttle(cameras=[]).rows_of_cameras == ()


@pytest.mark.parametrize(
    ("cameras", "titles"),
    [
        (["CAM_FRONT", "CAM_BACK_LEFT"], ["front", "back left"]),
        (["CAMERA_LEFT_FRONT", "CAMERA_LEFT_BACK"], ["front", "back"]),
        (["FRONT", "REAR"], ["front", "rear"]),
        (["CAM_FRONT"], ["front"]),
        (["CAM", "CAM_2"], ["cam", "cam 2"]),
        ([], []),
    ],
)
def test_pictures_call_cameras_by_what_tells_them_apart(cameras, titles):
    assert list(shuttle(cameras=cameras, camera_rows=[]).camera_titles.values()) == titles


def test_colours_that_are_not_given_differ_from_those_that_are():
    classes = {f"class_{number}": {} for number in range(40)}
    classes["class_7"] = {"colour": "#AD9EFF"}
    colours = shuttle(classes=classes).colours
    assert len(set(colours.values())) == 40
    assert colours["class_7"] == "#ad9eff"


def test_the_benchmark_lists_classes_in_its_own_order():
    description = nuscenes()
    assert sorted(description.evaluated_classes) == sorted(description.class_names)
    assert description.evaluated_classes != description.class_names


def test_ends_of_an_object_differ_unless_its_yaw_is_unscored_or_counts_by_half_turns():
    assert ClassDescription().has_front
    assert not ClassDescription(half_turn=True).has_front
    assert not ClassDescription(unscored=("orientation_rad",)).has_front


TRUCKSCENES_RANGES = {150.0: 5, 75.0: 7}


def test_truckscenes_is_what_its_devkit_says():
    description = known_description("truckscenes")
    ranges = [entry.range_m for entry in description.classes.values()]
    assert {value: ranges.count(value) for value in set(ranges)} == TRUCKSCENES_RANGES
    assert len(description.cameras) == 4
    assert len(description.lidars) == len(description.radars) == 6
    assert len(description.attributes) == 11
    assert description.evaluation.protocol == "detection_cvpr_2024"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"clases": {}, "classes": None}, "the description has no key 'clases'; did you mean 'classes'?"),
        ({"classes": {"van": {"rang_m": 3}}}, "has no key 'classes.van.rang_m'; did you mean 'range_m'?"),
        ({"classes": {}}, "'classes': expected"),
        ({"classes": ["van"]}, "'classes': expected keys, found ['van'] (list)"),
        ({"classes": {"the van": {}}}, "letters, digits and underscores"),
        ({"classes": {"all": {}}}, "and not all or mean; found 'all'"),
        ({"tasks": [{"classes": ["person", "van"]}]}, "the class pole is in no task; add it to one"),
        ({"tasks": [{"classes": ["person"]}, {"classes": ["person", "van", "pole"]}]}, "class person is in 2 tasks"),
        ({"tasks": [{"classes": ["person", "pole"]}, {"classes": ["van"]}]}, "van comes before pole"),
        ({"tasks": [{"classes": ["lorry"]}]}, "tasks name the unknown class 'lorry'"),
        ({"tasks": [{"classes": ["person"], "weight": 2}]}, "no key 'tasks.0.weight'; did you mean 'response_weight'?"),
        ({"tasks": []}, "'tasks': expected a list of at least 1"),
        (
            {"classes": {"van": {"categories": ["a", "b"]}, "bus": {"categories": ["b"]}}},
            "the category 'b' belongs to the class van and the class bus; keep it in one",
        ),
        ({"classes": {"van": {"categories": ["bus"]}, "bus": {}}}, "the category 'bus' belongs to the class van and"),
        ({"other_categories": ["pole"]}, "the category 'pole' belongs to the class pole and other_categories"),
        ({"ignored_inside": {"categories": ["pole"]}}, "belongs to the class pole and ignored_inside"),
        ({"ignored_inside": {"classes": ["bike"]}}, "ignored_inside.classes name the unknown class 'bike'"),
        ({"classes": {"van": {"unscored": ["yaw"]}}}, "'orientation_rad', 'velocity_mps' or 'attribute', found 'yaw'"),
        ({"classes": {"van": {"colour": "blue"}}}, "classes.van.colour: a colour is written '#rrggbb', found 'blue'"),
        ({"classes": {"van": {"glyph": "circle"}}}, "classes.van.glyph: a glyph is none"),
        ({"classes": {"van": {"range_m": 0}}}, "'classes.van.range_m': expected greater than 0"),
        ({"classes": {"van": {"when_moving": "moves"}}}, "when_moving is one of the class's attributes (none)"),
        ({"reference_lidar": ["TOP", "BUMPER"]}, "as boxes are in its frame; found TOP, BUMPER"),
        ({"reference_lidar": "ROOF"}, "reference_lidar is one of lidars (TOP, BUMPER), found 'ROOF'"),
        ({"lidars": []}, "'lidars': expected a list of at least 1"),
        ({"radars": ["FRONT"]}, "the channel 'FRONT' is listed 2 times"),
        ({"camera_rows": [["FRONT", "BACK"]]}, "camera_rows name the unknown camera 'BACK'; cameras are FRONT, LEFT"),
        ({"camera_rows": [["FRONT"], ["FRONT"]]}, "camera_rows show FRONT 2 times"),
        ({"splits": {"a": ["one", "two"], "b": ["two"]}}, "the scene 'two' is in the splits a and b; keep it in one"),
        ({"splits": {"a": ["one"]}, "official_splits": "nuscenes"}, "splits and official_splits both say"),
        ({"official_splits": "waymo"}, "'official_splits': expected 'nuscenes' or 'truckscenes', found 'waymo'"),
        ({"format": "waymo"}, "'format': expected 'nuscenes', 'truckscenes' or 't4', found 'waymo'"),
        ({"evaluation": {"class_order": ["van", "pole"]}}, "class_order lists every class, and lacks person"),
        ({"evaluation": {"match_distances_m": [1, 0.5]}}, "match_distances_m rise, found 1, 0.5"),
        ({"evaluation": {"match_distances_m": [1, 3]}}, "2 m, which is not among match_distances_m (1, 3); add it"),
        ({"radar_points": {"features": ["x", "y", "rcs"]}}, "features begin with x, y, z, found x, y, rcs"),
        ({"radar_points": {"features": ["x", "y", "z", "vz"]}}, "features name vz, which only radars that measure"),
        ({"radar_points": {"features": ["x", "y", "z", "snr"]}}, "'radar_points.features.3': expected 'x', 'y', 'z'"),
        ({"longest_past_s": 0}, "'longest_past_s': expected greater than 0"),
        ({"name": "my car"}, "letters, digits, '-', '_' and '.' only, found 'my car'"),
        ({"name": None}, "'name': expected"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_sentence(changes, words):
    values = {key: value for key, value in {**yaml.safe_load(FOUR_CAMERAS), **changes}.items() if value is not None}
    if changes == {"name": None}:
        values["name"] = None
    with pytest.raises(ConfigError, match=re.escape(words)) as caught:
        validate_description(values, "my.yaml")
    assert str(caught.value).startswith("my.yaml: ")
    assert str(caught.value).count(". ") == 0
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "cannot be read: No such file"),
        ("", "my.yaml is empty; crkd prepare --nuscenes FOLDER --describe writes a first"),
        ("- a", "must hold keys such as 'classes:', found list"),
        ("name: a\nname: b", "line 2: the key 'name' stands there twice"),
    ],
)
def test_files_that_are_no_description_are_refused(tmp_path, text, words):
    file = tmp_path / "my.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(words)):
        load_description(file)


def test_unknown_names_are_told_the_known_ones():
    with pytest.raises(ConfigError, match="no data set is named 'nuscene'; did you mean 'nuscenes'"):
        load_description("nuscene")
    with pytest.raises(ConfigError, match=r"a file that ends in \.yaml"):
        load_description("my_car.json")


@pytest.mark.parametrize(
    ("points", "features", "columns"),
    [
        ({}, "x y z rcs vx vy time_lag", 7),
        ({"codes": True}, " ".join(NUSCENES_FEATURES), 45),
        ({"elevation": True}, "x y z rcs vx vy vz time_lag", 8),
        ({"features": ["x", "y", "z", "time_lag", "dyn_prop"], "codes": True}, "x y z time_lag dyn_prop", 12),
        ({"features": NUSCENES_FEATURES}, " ".join(NUSCENES_FEATURES), 45),
    ],
)
def test_radar_points_have_the_features_that_are_measured_unless_said(points, features, columns):
    described = shuttle(radar_points=points).radar_points
    assert " ".join(described.network_features) == features
    assert described.feature_columns == columns


@pytest.mark.parametrize(
    ("changes", "clause"),
    [
        ({}, None),
        ({"name": "other", "camera_rows": [["REAR"]], "splits": {"a": ["scene"]}}, None),
        ({"classes": {"person": {}, "van": {}}}, "classes: without pole"),
        ({"classes": {"person": {}, "van": {}, "cone": {}}}, "classes: cone instead of pole"),
        ({"classes": {"person": {}, "pole": {}, "van": {}}}, "classes: person, pole, van in another order"),
        (
            {"tasks": [{"classes": ["person", "van"]}, {"classes": ["pole"]}]},
            "head tasks: person+van instead of person, van",
        ),
        ({"cameras": ["FRONT", "LEFT", "RIGHT"]}, "cameras: without REAR"),
        ({"reference_lidar": "BUMPER"}, "reference LiDAR: BUMPER instead of TOP"),
        ({"radars": ["R"]}, "radars: R besides none"),
        (
            {"classes": {"person": {"categories": ["pedestrian.any"]}, "van": {}, "pole": {}}},
            "categories of van: van instead of vehicle.van, vehicle.bus",
        ),
        ({"radar_points": {"features": ["x", "y", "z", "rcs", "vx", "vy", "time_lag"]}}, None),
        (
            {"radar_points": {"features": ["x", "y", "z", "rcs"]}},
            "features of radar points: x, y, z, rcs instead of x, y, z, rcs, vx, vy, time_lag",
        ),
        ({"radar_points": {"elevation": True}}, "elevation of radar points: true instead of false"),
    ],
)  # fmt: skip
def test_differences_that_matter_to_models_are_named(changes, clause):
    assert description_difference(shuttle(**changes), shuttle()) == clause
