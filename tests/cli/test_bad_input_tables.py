"""Tables that converters write loosely, or wrongly, through the real command."""

import json
import math
import os
import shutil
from pathlib import Path

import pytest

from crkd_core.artifacts.workspace import Workspace
from crkd_core.datasets.prepared.prepared_data import PreparedData
from tests.support.nuscenes_factory import TinyFolder, write_folder


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> TinyFolder:
    return write_folder(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def folder(original, tmp_path) -> TinyFolder:
    """A tiny folder to damage: tables that :meth:`TinyFolder.save` writes, and sensor files."""
    root = Path(shutil.copytree(original.root, tmp_path / "data"))
    return TinyFolder(root, original.version, json.loads(json.dumps(original.tables)))


@pytest.fixture
def refuse(refused, folder):
    """Saves the tables and prepares them, which must be refused in words."""

    def run(*words: str, save: bool = True) -> str:
        if save:
            folder.save()
        return refused(3, words, "prepare", "--nuscenes", folder.root)

    return run


@pytest.fixture
def accept(crkd, folder, tmp_path):
    """Saves the tables and prepares them, which must work."""

    def run(*options: str, save: bool = True) -> PreparedData:
        if save:
            folder.save()
        result = crkd("prepare", "--nuscenes", folder.root, *options)
        assert result.code == 0, result.err
        return PreparedData(Workspace(tmp_path / "crkd-workspace").artifacts("prepare")[-1])

    return run


BAD_TEXTS = [7, ["a"], True, "with\0NUL", "half \ud800"]


@pytest.mark.parametrize(
    ("table", "field"),
    [
        ("scene", "name"), ("scene", "description"), ("log", "location"), ("sensor", "channel"), ("category", "name"),
        ("attribute", "name"), ("sample_data", "filename"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("value", BAD_TEXTS, ids=ascii)
def test_a_text_of_another_kind(folder, refuse, table, field, value):
    folder.tables[table][0][field] = value
    refuse(f"{table}.json is damaged: {field} of the record ", "expected text")


@pytest.mark.parametrize("table", ["scene", "sample", "ego_pose", "instance"])
@pytest.mark.parametrize("value", [None, "", 1.5, ["a"], "with\0NUL", "half \ud800"], ids=ascii)
def test_a_token_of_another_kind(folder, refuse, table, value):
    folder.tables[table][0]["token"] = value
    said = refuse(f"{table}.json is damaged: token of ", "expected")
    assert len(said) < 500


@pytest.mark.parametrize(
    ("table", "field"),
    [
        ("sample", "scene_token"), ("sample_data", "sample_token"), ("sample_data", "ego_pose_token"),
        ("sample_data", "calibrated_sensor_token"), ("calibrated_sensor", "sensor_token"),
        ("sample_annotation", "sample_token"), ("sample_annotation", "instance_token"), ("instance", "category_token"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("value", [1.5, ["a"], "absent"], ids=ascii)
def test_a_link_of_another_kind(folder, refuse, table, field, value):
    record = folder.tables[table][0]
    record[field] = value
    if value == "absent":
        del record[field]
    refuse(f"{table}.json is damaged: ", field, "expected a token")


@pytest.mark.parametrize("value", [None, "", 12345, "not/there"], ids=ascii)
def test_a_link_to_no_record(folder, refuse, value):
    folder.tables["sample_data"][0]["ego_pose_token"] = value
    shown = "" if value is None else value
    refuse(f"ego_pose.json has no record with the token {str(shown)!r}", "sample_data.json refers to")


@pytest.mark.parametrize(
    ("field", "value"),
    [("is_key_frame", "True"), ("is_key_frame", 2), ("is_key_frame", None), ("width", "160"), ("height", -1),
     ("timestamp", "1600000000000000"), ("timestamp", 2**70), ("filename", None), ("filename", "")],
)  # fmt: skip
def test_sensor_data_of_another_kind(folder, refuse, field, value):
    folder.tables["sample_data"][0][field] = value
    refuse(f"sample_data.json is damaged: {field} of the record ", "expected")


@pytest.mark.parametrize(
    "value",
    [
        None, [], 5, "K", [[0, 0, 0]] * 3, [[100, 0, 80], [100, 0, 80], [0, 0, 1]], [[100, 0, 80], [0, 100, 45]],
        [100, 0, 80, 0, 100, 45, 0, 0, 1], [[100, 0, 80, 0], [0, 100, 45, 0], [0, 0, 1, 0]],
        [[math.nan, 0, 80], [0, 100, 45], [0, 0, 1]], [["100", 0, 80], [0, 100, 45], [0, 0, 1]],
        [[0.8, 0, 0.5], [0, 0.8, 0.5], [0, 0, 1]], [[100, 0, 80], [0, 100, 45], [0, 0, 0]],
    ],
    ids=ascii,
)  # fmt: skip
def test_a_camera_matrix_that_is_none(folder, refuse, value):
    camera = next(record for record in folder.tables["calibrated_sensor"] if record["camera_intrinsic"])
    camera["camera_intrinsic"] = value
    refuse("calibrated_sensor.json is damaged: camera_intrinsic of the record", "expected [[fx, s, cx], [0, fy, cy]")


@pytest.mark.parametrize("table", ["calibrated_sensor", "ego_pose"])
@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("rotation", [0, 0, 0, 0], "expected a quaternion"),
        ("rotation", [math.nan, 0, 0, 1], "expected a quaternion"),
        ("translation", [0, math.inf, 0], "expected three finite numbers"),
        ("rotation", [0, 0, 1], "expected 4 numbers"),
        ("translation", None, "expected 3 numbers"),
    ],
)
def test_a_pose_that_is_none(folder, refuse, table, field, value, words):
    folder.tables[table][0][field] = value
    refuse(f"{table}.json", folder.tables[table][0]["token"], f"{field}", words)


def test_two_records_with_one_token(folder, refuse):
    folder.tables["sample"][1]["token"] = folder.tables["sample"][0]["token"]
    refuse("sample.json has two records with the token 'scene-0061-sample-0'")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[{"token": ' + "[" * 100_000 + "]" * 100_000 + "}]", "nested too deeply"),
        ('[{"token": ' + '{"a": ' * 100_000 + "1" + "}" * 100_001 + "]", "nested too deeply"),
        ('[{"token": ' + "9" * 5000 + "}]", "a number of too many digits"),
        ('[] [{"token": "b"}]', "expected nothing after the list, found '[{"),
        ('{"token": "a"}', "expected a JSON list of records"),
        ("", "expected a JSON list of records, found ''"),
    ],
)
def test_json_that_is_no_table(folder, refuse, text, words):
    (folder.root / folder.version / "sample.json").write_text(text)
    refuse("sample.json is not valid at character", words, save=False)


def make_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def make_device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("make", "kind"), [(make_pipe, "a pipe"), (make_device, "a device"), (make_folder, "a folder")]
)
@pytest.mark.parametrize("name", ["log", "sample_data", "visibility"])
def test_a_table_that_is_no_regular_file(folder, refuse, make, kind, name):
    make(folder.root / folder.version / f"{name}.json")
    refuse(f"{name}.json is {kind} and not a regular file", save=False)


@pytest.mark.parametrize(
    ("make", "kind"), [(make_pipe, "a pipe"), (make_device, "a device"), (make_folder, "a folder")]
)
@pytest.mark.parametrize("channel", ["CAM_BACK", "LIDAR_TOP", "RADAR_FRONT"])
@pytest.mark.parametrize("key_frames", [True, False])
def test_a_sensor_file_that_is_no_regular_file(folder, refuse, make, kind, channel, key_frames):
    files = folder.files(channel, key_frames)
    if files:
        make(files[-1])
        refuse("has damaged files", files[-1].name, f"{kind} and not a regular file", save=False)


@pytest.mark.parametrize(
    "name", ["{outside}/{base}", "../outside/{base}", "samples/../../outside/{base}", "samples/../{own}"]
)
def test_a_sensor_file_outside_of_the_data_root(folder, refuse, accept, tmp_path, name):
    outside = Path(shutil.copytree(folder.root / "samples" / "CAM_FRONT", tmp_path / "outside"))
    for record in folder.tables["sample_data"]:
        own = record["filename"]
        if own.startswith("samples/CAM_FRONT/"):
            record["filename"] = name.format(outside=outside, base=Path(own).name, own=own)
    refuse("sample_data.json names the file", "leads out of the data root", "--allow-outside")
    prepared = accept("--allow-outside")
    path = prepared.dataroot / prepared.cameras(prepared.tokens("train")[0]).paths[0]
    assert path.is_file()
    assert prepared.artifact.manifest.command.split(" --").count("allow-outside") == 1


def test_absolute_names_inside_of_the_data_root_become_relative(folder, accept):
    before = [record["filename"] for record in folder.tables["sample_data"]]
    expected = accept("--name", "relative")
    for record, name in zip(folder.tables["sample_data"], before, strict=True):
        record["filename"] = str(folder.root / name)
    prepared = accept("--name", "absolute")
    token = prepared.tokens("train")[0]
    assert prepared.cameras(token).paths == expected.cameras(token).paths


def test_links_inside_of_the_data_root_may_lead_anywhere(folder, accept, tmp_path):
    shutil.move(folder.root / "samples", tmp_path / "elsewhere")
    (folder.root / "samples").symlink_to(tmp_path / "elsewhere")
    for path in sorted((folder.root / "sweeps" / "LIDAR_TOP").iterdir()):
        shutil.move(path, tmp_path / path.name)
        path.symlink_to(tmp_path / path.name)
    accept()


def test_looser_tables(folder, accept):
    for scene in folder.tables["scene"]:
        scene.update(description=None, log_token=None)
    for record in folder.tables["calibrated_sensor"]:
        if not record["camera_intrinsic"]:
            del record["camera_intrinsic"]
    for record in folder.tables["sample_data"]:
        record.update(is_key_frame=int(record["is_key_frame"]), width=record["width"] or None)
    folder.save()
    for path in (folder.root / folder.version).iterdir():
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    prepared = accept(save=False)
    scene = prepared.scene_of(prepared.tokens("train")[0])
    assert (scene.description, scene.location, scene.night, scene.rain) == ("", "", False, False)


@pytest.mark.parametrize("field", ["description", "log_token"])
def test_scenes_without_a_field(folder, accept, field):
    for scene in folder.tables["scene"]:
        del scene[field]
    accept()


def test_a_train_through_rough_terrain_is_no_rain(folder, accept):
    for scene in folder.tables["scene"]:
        scene["description"] = "Rough terrain, train, Knightsbridge"
    prepared = accept()
    scene = prepared.scene_of(prepared.tokens("train")[0])
    assert (scene.night, scene.rain) == (False, False)


def with_other_tokens(folder: TinyFolder, changed) -> None:
    for records in folder.tables.values():
        for record in records:
            for field, value in record.items():
                if value and (field in ("token", "prev", "next") or field.endswith("_token")):
                    record[field] = changed(value)
                elif field.endswith("_tokens"):
                    record[field] = [changed(token) for token in value]


@pytest.mark.parametrize(
    "changed",
    [
        lambda token: f"log/{token}/0",
        lambda token: f"../../{token}",
        lambda token: f"/abs/{token}.",
        lambda token: f'Zürich "{token}" \\ 東京 \n',
        lambda token: token * 30,
        lambda token: "__metadata__" if token == "scene-0061-sample-0" else token,
        lambda token: abs(hash(token)),
    ],
    ids=["slash", "dots", "absolute", "other-letters", "long", "metadata", "numbers"],
)
def test_tokens_of_all_kinds(folder, accept, changed):
    with_other_tokens(folder, changed)
    prepared = accept()
    tokens = prepared.tokens("train")
    assert tokens[0] == str(changed("scene-0061-sample-0"))
    for token in tokens:
        assert len(prepared.radar(token)[0])
        assert len(prepared.annotations(token)) == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda record: record.update(translation=[0, 0, 0]), ("all 3 annotated ones", "outside of the grid")),
        (lambda record: record.update(num_lidar_pts=0), ("none of", "LiDAR or radar point", "num_lidar_pts")),
        (None, ("none is annotated",)),
    ],
    ids=["far-away", "without-points", "not-annotated"],
)
@pytest.mark.parametrize("command", [("train-teacher",), ("distill", "--losses", "none")])
def test_training_on_no_object(folder, crkd, refused, command, change, words):
    if change is None:
        folder.tables["sample_annotation"] = []
    for record in folder.tables["sample_annotation"]:
        # The animal keeps its points: it shows that points were counted.
        if "animal" not in record["token"]:
            change(record)
    folder.save()
    assert crkd("prepare", "--nuscenes", folder.root).code == 0
    words = ("training samples of prepare/v1.0-mini have no object", *words)
    refused(3, words, *command, "--preset", "tiny", "--name", "n")
