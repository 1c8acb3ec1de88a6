"""The data report at the end of crkd prepare, and crkd prepare --check, which writes nothing."""

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from crkd_core.artifacts.manifest import Manifest
from crkd_core.datasets.prepared.data_report import BoxCounts, DataReport, Motion, Range, SampleCounts, SensorData
from tests.support.nuscenes_factory import RADAR_DTYPE, TinyFolder, radar_bytes, write_folder
from tests.support.refusals import check_message, snapshot

Change = Callable[[TinyFolder], None]


@pytest.fixture
def folder(tmp_path) -> TinyFolder:
    return write_folder(tmp_path / "nuscenes", scenes={"scene-0061": 4, "scene-0103": 4})


def said(out: str) -> str:
    """What was printed, line breaks aside."""
    return " ".join(out.split())


def test_a_good_folder_has_a_short_calm_report(crkd, folder, tmp_path):
    result = crkd("prepare", "--nuscenes", folder.root, "-w", "ws")
    assert result.code == 0, result.err
    assert "warning" not in result.out + result.err
    lines = result.out.splitlines()
    assert len(lines) <= 12
    assert all(len(line) <= 80 for line in lines if not line.startswith("prepared"))
    for line in (
        "samples       4 mini_train, 4 mini_val",
        "annotations   16",
        "              of 2 classes, 50% without points, 0% without velocity",
        "not detected  8 boxes of other categories",
        "images        160 x 90 px",
        "key frames    0.50 s apart, in 2 scenes",
    ):
        assert any(printed.startswith(line) for printed in lines), result.out
    assert "boxes up to 4.1 m/s (car)" in result.out


def test_the_report_is_shown_again_and_is_kept(crkd, folder, tmp_path):
    first = crkd("prepare", "--nuscenes", folder.root, "-w", "ws")
    again = crkd("prepare", "--nuscenes", folder.root, "-w", "ws")
    assert "up to date" in again.err
    assert again.out == first.out
    path = tmp_path / "ws" / "prepare" / "v1.0-mini" / "manifest.json"
    manifest = json.loads(path.read_text())
    report = DataReport.from_json(manifest["facts"]["report"])
    assert report is not None
    assert report.samples.per_split == {"mini_train": 4, "mini_val": 4}
    assert report.to_json() == manifest["facts"]["report"]
    # Data that an earlier version prepared have no report, and need none.
    del manifest["facts"]["report"]
    path.write_text(Manifest.model_validate(manifest).sealed().model_dump_json())
    old = crkd("prepare", "--nuscenes", folder.root, "-w", "ws")
    assert (old.code, old.err) == (0, again.err)
    assert "annotations  16" in old.out


@pytest.mark.parametrize("processes", [1, 2])
def test_check_says_the_same_and_writes_nothing(crkd, folder, tmp_path, processes):
    before = snapshot(tmp_path)
    checked = crkd("prepare", "--check", "--nuscenes", folder.root, "-w", "ws", "--processes", processes)
    assert checked.code == 0, checked.err
    assert snapshot(tmp_path) == before
    assert not (tmp_path / "ws").exists()
    prepared = crkd("prepare", "--nuscenes", folder.root, "-w", "ws")
    assert checked.out.splitlines()[1:] == prepared.out.splitlines()[1:]
    assert checked.out.startswith("checked")


def test_check_refuses_what_prepare_refuses(crkd, folder, tmp_path):
    folder.files("RADAR_FRONT")[2].write_bytes(b"")
    folder.files("CAM_BACK")[0].unlink()
    for more in (), ("--check",):
        refusal = crkd("prepare", "--nuscenes", folder.root, "-w", "ws", *more)
        check_message(refusal.code, 3, refusal.out, refusal.err, ("CAM_BACK: 1 of 8",))
    refusal = crkd("prepare", "--nuscenes", folder.root, "-w", "ws", "--check", "--allow-missing", "samples")
    check_message(refusal.code, 3, refusal.out, refusal.err, ("RADAR_FRONT", "damaged"))
    assert not (tmp_path / "ws").exists()


def _empty_radar(*channels: str) -> Change:
    def change(folder: TinyFolder) -> None:
        for channel in channels or ("RADAR_FRONT", "RADAR_FRONT_LEFT", "RADAR_FRONT_RIGHT", "RADAR_BACK_LEFT",
                                    "RADAR_BACK_RIGHT"):  # fmt: skip
            for path in folder.files(channel) + folder.files(channel, key_frames=False):
                path.write_bytes(radar_bytes(np.zeros(0, RADAR_DTYPE)))

    return change


def _rename_scene(folder: TinyFolder) -> None:
    folder.tables["scene"][1]["name"] = "scene-9999"


def _double_time(factor: float) -> Change:
    def change(folder: TinyFolder) -> None:
        start = folder.tables["sample"][0]["timestamp"]
        for sample in folder.tables["sample"]:
            sample["timestamp"] = int(start + (sample["timestamp"] - start) * factor)

    return change


def _far_apart(folder: TinyFolder) -> None:
    for sample in folder.tables["sample"][2:4]:
        sample["timestamp"] += 5_000_000


def _jump(folder: TinyFolder) -> None:
    cars = [record for record in folder.tables["sample_annotation"] if "car" in record["token"]]
    cars[1]["translation"][0] += 500.0


def _ego_jump(folder: TinyFolder) -> None:
    for record in folder.tables["ego_pose"]:
        if record["token"].startswith("pose-LIDAR_TOP") and record["token"].endswith("500000"):
            record["translation"][0] += 900.0


def _no_points(folder: TinyFolder) -> None:
    for record in folder.tables["sample_annotation"][1:]:
        record["num_lidar_pts"] = record["num_radar_pts"] = 0


def _no_links(folder: TinyFolder) -> None:
    for record in folder.tables["sample_annotation"]:
        record["prev"] = record["next"] = ""


def _nothing_annotated(folder: TinyFolder) -> None:
    folder.tables["sample_annotation"] = []


def _another_size(folder: TinyFolder) -> None:
    path = folder.files("CAM_BACK")[0]
    Image.new("RGB", (200, 112)).save(path)
    record = next(r for r in folder.tables["sample_data"] if r["filename"].endswith(path.name))
    record["width"], record["height"] = 200, 112


@pytest.mark.parametrize(
    ("change", "warning"),
    [
        (_empty_radar(), "no radar point in any of 8 samples: radar models would learn from cameras only"),
        (_empty_radar("RADAR_FRONT"), "no point in any sample from RADAR_FRONT"),
        (_rename_scene, "4 of 8 samples are in no split and will not be used (scenes scene-9999)"),
        (_rename_scene, "no sample in mini_val"),
        (_double_time(0.1), "key frames are 0.05 s apart; those of nuScenes 0.5 s"),
        (_far_apart, "1 key frame follows the one before at once or after more than 1.5 s (up to 5.5 s)"),
        (_jump, "a car moves at 100"),
        (_ego_jump, "the car itself moves at"),
        (_no_points, "94% of the boxes hold no point; training and metrics leave them out"),
        (_no_links, "100% of the boxes have no velocity"),
        (_nothing_annotated, "no box of the ten detection classes is annotated"),
        (_another_size, "images of 2 sizes (px): 47 of 160 x 90, 1 of 200 x 112"),
    ],
)
def test_a_bad_folder_is_seen_at_once(crkd, folder, change, warning):
    change(folder)
    folder.save()
    result = crkd("prepare", "--check", "--nuscenes", folder.root)
    assert result.code == 0, result.err
    assert f"warning: {warning}" in said(result.out)
    assert all(len(line) <= 80 for line in result.out.splitlines()[1:])


def test_a_version_without_public_annotations_is_not_warned_of(crkd, tmp_path):
    folder = write_folder(tmp_path / "test", version="v1.0-test", scenes={"scene-0077": 2})
    folder.tables["sample_annotation"], folder.tables["instance"] = [], []
    folder.save()
    result = crkd("prepare", "--check", "--nuscenes", folder.root)
    assert result.code == 0, result.err
    assert "warning" not in result.out


def test_what_reading_the_tables_left_out_is_told():
    """Every part of the tables' notes becomes a sentence."""
    good = DataReport(
        samples=SampleCounts(10, 1, {"train": 10}),
        boxes=BoxCounts({"car": 100}),
        sensors=SensorData([], False, {"1600 x 900": 60}, Range(10.0, 10.0, 10.0), Range(100.0, 200.0, 300.0)),
        motion=Motion(Range(0.5, 0.5, 0.5), 0, Range(0.0, 5.0, 9.0), Range(0.0, 3.0, 12.0), "car"),
    )
    assert good.warnings == []
    boxes = BoxCounts(
        {"car": 100},
        without_counts=60,
        dropped={"a size of zero": 3},
        ignored=7,
        ignored_categories={"vehicle.Car": 7},
        similar_categories={"vehicle.Car": "vehicle.car"},
        ignored_attributes={"vehicle.flying": 2, "vehicle.Moving": 1},
        similar_attributes={"vehicle.Moving": "vehicle.moving"},
    )
    warnings = replace(good, boxes=boxes, oddities=["something is odd"]).warnings
    assert warnings == [
        "3 boxes dropped: a size of zero",
        "7 boxes of 'vehicle.Car' are not detected; nuScenes' name is vehicle.car",
        "attributes that nuScenes does not have are ignored: 'vehicle.flying' of 2 boxes, 'vehicle.Moving' of 1 box "
        "(is vehicle.moving meant?)",
        "60 boxes do not say how many points are inside; such a box counts as having some",
        "something is odd",
    ]
    assert DataReport.from_json({"samples": {}}) is None
    assert DataReport.from_json(None) is None
