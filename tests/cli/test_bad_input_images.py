"""Camera images and their sizes, through ``crkd prepare``."""

from functools import partial

import pyarrow.parquet as pq
import pytest
from PIL import Image

from crkd_core.artifacts.manifest import read_manifest
from tests.support.nuscenes_factory import write_folder

SIZE = (160, 90)


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "data", scenes={"scene-0061": 2, "scene-0103": 1})


def camera_records(folder, channel=""):
    return [record for record in folder.tables["sample_data"] if f"/CAM_{channel}" in record["filename"]]


def resave(path, size=SIZE, mode="RGB", **options):
    kind = "PNG" if mode in ("I;16", "RGBA", "1", "P", "LA") else "JPEG"
    Image.new(mode, size, options.pop("colour", 0)).save(path, kind, **options)


def prepared_sizes(tmp_path):
    table = pq.read_table(tmp_path / "crkd-workspace" / "prepare" / "v1.0-mini" / "cameras.parquet")
    return list(zip(table["width"].to_pylist(), table["height"].to_pylist(), strict=True))


@pytest.mark.parametrize("value", [0, None, "absent"])
@pytest.mark.parametrize("fields", [("width", "height"), ("width",), ("height",)])
def test_sizes_that_records_lack_come_from_the_files(crkd, folder, tmp_path, value, fields):
    for record in camera_records(folder, "FRONT"):
        for field in fields:
            record[field] = value
            if value == "absent":
                del record[field]
    folder.save()
    assert crkd("prepare", "--nuscenes", folder.root).code == 0
    assert prepared_sizes(tmp_path) == [SIZE] * 18
    manifest = read_manifest(tmp_path / "crkd-workspace" / "prepare" / "v1.0-mini")
    assert manifest.facts["image_sizes"]["CAM_FRONT"] == {"160x90": 3}
    assert manifest.settings["image_sizes"]["CAM_FRONT"] == {"160x90": 3}


def test_ordinary_data_keep_their_settings(crkd, folder, tmp_path):
    assert crkd("prepare", "--nuscenes", folder.root).code == 0
    assert "image_sizes" not in read_manifest(tmp_path / "crkd-workspace" / "prepare" / "v1.0-mini").settings


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("recorded", [(320, 180), (160, 0), (1, 1)])
def test_a_record_with_another_size_than_its_file(refused, folder, number, recorded):
    record = camera_records(folder, "BACK_LEFT")[number]
    record["width"], record["height"] = recorded
    folder.save()
    if recorded == (160, 0):
        resave(folder.root / record["filename"], (80, 45))
    words = (record["filename"], f"sample_data.json says {recorded[0]} x {recorded[1]} px", "restore the images")
    refused(3, words, "prepare", "--nuscenes", folder.root)


def test_images_that_were_all_resized(refused, folder):
    for record in camera_records(folder):
        resave(folder.root / record["filename"], (80, 45))
    words = ("is 80 x 45 px and sample_data.json says 160 x 90 px", "camera matrices")
    refused(3, words, "prepare", "--nuscenes", folder.root)


def test_a_camera_matrix_of_another_size(refused, folder):
    for record in camera_records(folder):
        record["width"] = record["height"] = 0
        resave(folder.root / record["filename"], (80, 45))
    folder.save()
    words = ("the camera matrix of CAM_FRONT has its centre at (80, 45) px of 80 x 45 px", "scale the matrix")
    refused(3, words, "prepare", "--nuscenes", folder.root)


def test_a_camera_matrix_that_is_far_off(crkd, folder):
    for record in camera_records(folder):
        record["width"] = record["height"] = 0
        resave(folder.root / record["filename"], (112, 63))
    folder.save()
    result = crkd("prepare", "--nuscenes", folder.root)
    assert result.code == 0
    assert "CAM_BACK has its centre at (80, 45) px of 112 x 63 px, far from" in " ".join(result.err.split())


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


@pytest.mark.parametrize(
    ("save", "words"),
    [
        (partial(resave, mode="I;16", colour=3000), ("16-bit grey", "convert")),
        (partial(resave, mode="1"), ("1-bit", "convert")),
        (partial(resave, mode="CMYK"), ("CMYK", "convert")),
        (partial(resave, exif=exif(6)), ("EXIF orientation 6", "upright")),
        (partial(resave, exif=exif(2)), ("EXIF orientation 2",)),
        (partial(resave, size=(8, 8)), ("8 x 8 px, too small",)),
        (lambda path: path.write_bytes(b"\0" * 900), ("cannot be decoded", "unpack")),
        (lambda path: path.write_bytes(path.read_bytes()[:9]), ("cannot be decoded", "unpack")),
    ],
)
def test_images_that_are_none_of_a_camera(refused, folder, save, words):
    record = camera_records(folder, "FRONT")[0]
    record["width"] = 0
    folder.save()
    save(folder.root / record["filename"])
    refused(3, (record["filename"], *words), "prepare", "--nuscenes", folder.root)
