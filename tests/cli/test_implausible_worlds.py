"""Wrong frames, units, orders of numbers and clocks, which every file format takes: the data report tells of them."""

from collections.abc import Callable

import numpy as np
import pytest

from crkd_core.datasets.prepared.plausibility import empty_boxes, far_boxes, points_inside
from tests.support.nuscenes_factory import TinyFolder, write_folder

Change = Callable[[TinyFolder], None]


@pytest.fixture
def folder(tmp_path) -> TinyFolder:
    return write_folder(tmp_path / "nuscenes", scenes={"scene-0061": 4, "scene-0103": 4})


def _each(table: str, change: Callable[[dict], None], part: str = "") -> Change:
    """A change of every record of a table, or of those whose token has `part` in it."""

    def apply(folder: TinyFolder) -> None:
        for record in folder.tables[table]:
            if part in record["token"]:
                change(record)

    return apply


def _scale(field: str, factor: float) -> Callable[[dict], None]:
    return lambda record: record.update({field: [factor * value for value in record[field]]})


def _reorder(field: str, order: tuple[int, ...]) -> Callable[[dict], None]:
    return lambda record: record.update({field: [record[field][index] for index in order]})


def _set(field: str, value: object) -> Callable[[dict], None]:
    return lambda record: record.update({field: value})


def _freeze(folder: TinyFolder) -> None:
    for pose in folder.tables["ego_pose"]:
        pose["translation"] = [100.0, 50.0, 0.0]


def _latitude_and_longitude(folder: TinyFolder) -> None:
    for pose in folder.tables["ego_pose"]:
        pose["translation"] = [42.0 + 1e-5 * pose["translation"][0], -83.0 + 1e-5 * pose["translation"][1], 0.0]
    for box in folder.tables["sample_annotation"]:
        box["translation"] = [box["translation"][0] + 280_000.0, box["translation"][1] + 4_700_000.0, 0.0]


def _ego_frame(folder: TinyFolder) -> None:
    """The car drives somewhere in a city, the boxes stay around the origin."""
    for pose in folder.tables["ego_pose"]:
        pose["translation"] = [pose["translation"][0] + 600.0, pose["translation"][1] + 1600.0, 0.0]


def _turn_vertically(record: dict) -> None:
    """What 90 degrees of yaw are where w comes last."""
    record["rotation"] = [0.0, 0.0, 0.7071, 0.7071]


def _invert(record: dict) -> None:
    w, x, y, z = record["rotation"]
    record["rotation"] = [w, -x, -y, -z]
    record["translation"] = [-value for value in record["translation"]]


def _late(seconds: float, channel: str) -> Change:
    def late(record: dict) -> None:
        record["timestamp"] += int(seconds * 1e6)

    return _each("sample_data", late, channel)


def _one_file(folder: TinyFolder) -> None:
    records = [r for r in folder.tables["sample_data"] if r["filename"].startswith("samples/CAM_BACK/")]
    for record in records:
        record["filename"] = records[0]["filename"]


def _twice(folder: TinyFolder) -> None:
    for box in [box for box in folder.tables["sample_annotation"] if "car" in box["token"]]:
        folder.tables["sample_annotation"].append({**box, "token": box["token"] + "-again", "prev": "", "next": ""})


def _walking_car(folder: TinyFolder) -> None:
    folder.tables["attribute"][0]["name"] = "pedestrian.moving"


def _other_camera_pose(folder: TinyFolder) -> None:
    _each("ego_pose", _set("translation", [0.0, 0.0, 0.0]), "CAM_FRONT-")(folder)


def _poses_of_key_frames(folder: TinyFolder) -> None:
    """Sweeps are written with the pose of the key frame that they belong to."""
    records = folder.tables["sample_data"]
    keys = {
        (record["sample_token"], record["calibrated_sensor_token"]): record["ego_pose_token"]
        for record in records
        if record["is_key_frame"]
    }
    for record in records:
        record["ego_pose_token"] = keys[record["sample_token"], record["calibrated_sensor_token"]]


def _lidar(change: Callable[[np.ndarray], None]) -> Change:
    def apply(folder: TinyFolder) -> None:
        for path in folder.files("LIDAR_TOP"):
            points = np.fromfile(path, np.float32).reshape(-1, 5)
            change(points)
            points.tofile(path)

    return apply


def _centimetres(points: np.ndarray) -> None:
    points[:, :3] *= 100


def _dim(points: np.ndarray) -> None:
    points[:, 3] /= 255


WRONG = [
    pytest.param(_each("sample_annotation", _scale("translation", 100.0)), "m from the car: are", id="boxes in cm"),
    pytest.param(_ego_frame, "boxes of 2 of 2 scenes (such as scene-0061)", id="boxes in the ego frame"),
    pytest.param(_latitude_and_longitude, "in the same global frame", id="degrees"),
    pytest.param(_latitude_and_longitude, "the car itself does not move in any scene", id="degrees stand still"),
    pytest.param(_freeze, "the car itself does not move in any scene", id="frozen car"),
    pytest.param(_each("sample_annotation", _turn_vertically), "16 of 16 boxes do not stand", id="boxes x y z w"),
    pytest.param(_each("ego_pose", _turn_vertically), "the car does not stand upright in", id="car x y z w"),
    pytest.param(
        _each("calibrated_sensor", _reorder("rotation", (1, 2, 3, 0)), "LIDAR"),
        "LIDAR_TOP is turned to the sky",
        id="LiDAR x y z w",
    ),
    pytest.param(
        _each("calibrated_sensor", _set("rotation", [1.0, 0.0, 0.0, 0.0]), "CAM_BACK_LEFT"),
        "CAM_BACK_LEFT is turned to the sky, the ground or the side: check rotation in calibrated_sensor.json",
        id="camera as the car",
    ),
    pytest.param(
        _each("calibrated_sensor", _reorder("rotation", (1, 2, 3, 0)), "CAM"),
        "turned to the sky, the ground or the side",
        id="cameras x y z w",
    ),
    pytest.param(
        _each("calibrated_sensor", _set("rotation", [0.7071, 0.7071, 0.0, 0.0]), "RADAR_FRONT"),
        "RADAR_FRONT, RADAR_FRONT_LEFT, RADAR_FRONT_RIGHT are turned",
        id="radar on its side",
    ),
    pytest.param(_each("calibrated_sensor", _invert, "CAM"), "turned to the sky", id="inverted cameras"),
    pytest.param(_each("calibrated_sensor", _invert, "LIDAR"), "LIDAR_TOP is below the car", id="inverted LiDAR"),
    pytest.param(
        _each("calibrated_sensor", _scale("translation", 1000.0), "RADAR_FRONT_LEFT"),
        "RADAR_FRONT_LEFT is up to 1,000 m from the car's origin: is translation in calibrated_sensor.json in metres",
        id="sensors in mm",
    ),
    pytest.param(
        _each("sample_annotation", _set("rotation", [0.0, 0.0, 90.0, 0.0])),
        "16 of 16 boxes have a rotation of length 90 or so instead of 1",
        id="boxes in degrees",
    ),
    pytest.param(
        _each("ego_pose", _set("rotation", [35.0, 0.0, 0.0, 0.0])), "ego poses have a rotation of", id="car in degrees"
    ),
    pytest.param(
        _each("calibrated_sensor", _scale("rotation", 2.0), "CAM_FRONT_LEFT"),
        "1 of 12 calibrated sensors have a rotation of length 2 or so",
        id="long calibration",
    ),
    pytest.param(
        _each("sample_annotation", _reorder("size", (1, 0, 2)), "car"),
        "8 of 8 vehicles are wider or higher than long: size is width, length, height",
        id="length first",
    ),
    pytest.param(_each("sample_annotation", _reorder("size", (2, 0, 1)), "car"), "8 of 8 vehicles", id="height first"),
    pytest.param(_each("sample_annotation", _scale("size", 3.281)), "a car is 14.8 m long (median)", id="size in feet"),
    pytest.param(_late(10_800, "CAM_FRONT-"), "CAM_FRONT is up to 10,800 s after the key frames", id="time zone"),
    pytest.param(_late(-3, "CAM_FRONT-"), "CAM_FRONT is up to 3 s before the key frames", id="slow clock"),
    pytest.param(
        _one_file, "8 key-frame records of sample_data share 1 file names, such as samples/CAM_", id="one file"
    ),
    pytest.param(_twice, "8 annotations are of an instance that has another one in the same sample", id="twice"),
    pytest.param(_walking_car, "8 boxes have an attribute of another kind than the class, such as ped", id="walking"),
    pytest.param(_other_camera_pose, "CAM_FRONT is up to 3", id="another pose"),
    pytest.param(
        _poses_of_key_frames,
        "72 of 108 LiDAR and radar files have the ego pose of the one before while the car drives",
        id="one pose a key frame",
    ),
    pytest.param(_lidar(_centimetres), "m away (median): are x, y and z in metres", id="LiDAR units"),
    pytest.param(_lidar(_dim), "no LiDAR intensity is above 0.02", id="LiDAR intensity"),
]


@pytest.mark.parametrize(("change", "sentence"), WRONG)
def test_a_wrong_world_is_told_of(crkd, folder, change, sentence):
    change(folder)
    folder.save()
    result = crkd("prepare", "--check", "--nuscenes", folder.root)
    assert result.code == 0, result.err
    warnings = " ".join(result.out.split()).split("warning: ")[1:]
    assert any(sentence in warning for warning in warnings), result.out
    assert all(len(warning) <= 200 for warning in warnings)


def test_a_good_world_is_not_told_of(crkd, folder):
    result = crkd("prepare", "--check", "--nuscenes", folder.root)
    assert (result.code, "warning" in result.out + result.err) == (0, False), result.out


def test_the_simulated_world_is_not_told_of(crkd, tmp_path):
    made = crkd("simulate", "--size", "tiny", "--scenes", 2, "--val-scenes", 1, "--samples", 2, "--out", "world")
    assert made.code == 0, made.err
    result = crkd("prepare", "--check", "--nuscenes", tmp_path / "world")
    assert (result.code, "warning" in result.out + result.err) == (0, False), result.out


def test_a_few_boxes_far_away_are_no_reason():
    centres = np.array([[20.0, 0.0, 0.0]] * 6 + [[240.0, 0.0, 0.0]] * 4)
    assert list(far_boxes(centres, ["a"] * 10)) == []
    assert list(far_boxes(np.zeros((0, 3)), [])) == []
    # One scene of several is enough.
    (sentence,) = far_boxes(np.concatenate([centres, centres + 500]), ["a"] * 10 + ["b"] * 10)
    assert "the boxes of 1 of 2 scenes (such as b)" in sentence


def test_boxes_that_should_hold_points_are_looked_into():
    boxes = np.array([[10.0, 5.0, 0.0, 2.0, 6.0, 2.0, np.pi / 2, 0.0, 0.0]])
    points = np.array([[10.0, 7.9, 0.5, 1, 0], [12.0, 5.0, 0.0, 1, 0], [10.0, 5.0, 1.9, 1, 0]], np.float32)
    assert points_inside(boxes, points).tolist() == [1]
    recorded = np.full(12, 20, np.int32)
    (sentence,) = empty_boxes(recorded, np.array([0] * 7 + [9] * 5))
    assert sentence.startswith("7 of 12 boxes hold no LiDAR point where the tables count some")
    assert list(empty_boxes(recorded, np.array([0] * 6 + [9] * 6))) == []
    assert list(empty_boxes(recorded[:4], np.zeros(4, np.int64))) == []
    assert list(empty_boxes(np.full(12, 1, np.int32), np.zeros(12, np.int64))) == []
