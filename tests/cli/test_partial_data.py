"""Data sets of which a part is missing: key frames, the whole LiDAR, links to nothing; through the real commands."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from crkd_core.artifacts.workspace import Workspace
from crkd_core.datasets.prepared.prepared_data import PreparedData
from tests.support.nuscenes_factory import TinyFolder, write_folder
from tests.support.refusals import check_message

SCENES = {"scene-0061": 3, "scene-0103": 3}
VERSION = "v1.0-mini"


@pytest.fixture
def folder(tmp_path) -> TinyFolder:
    return write_folder(tmp_path / "nuscenes", scenes=SCENES)


def prepared_in(root: Path, name: str = VERSION) -> PreparedData:
    return PreparedData(Workspace(root).find("prepare", name, needed_for="test", make=""))


def lose(path: Path, loss_kind: str) -> None:
    """Make a file missing in one of the ways in which files are."""
    path.unlink()
    if loss_kind == "dangling link":
        path.symlink_to("/nowhere/file")
    elif loss_kind == "circular link":
        path.symlink_to(path)


@pytest.mark.parametrize("loss_kind", ["gone", "dangling link", "circular link"])
@pytest.mark.parametrize("channel", ["CAM_FRONT", "LIDAR_TOP"])
def test_a_lost_key_frame_file_leaves_its_sample_out(crkd, folder, tmp_path, channel, loss_kind):
    assert crkd("prepare", "--nuscenes", folder.root, "-w", "whole").code == 0
    lost = folder.files(channel)[1]
    lose(lost, loss_kind)
    refusal = crkd("prepare", "--nuscenes", folder.root, "-w", "ws")
    words = (f"{channel}: 1 of 6 key-frame files", lost.name, "--allow-missing samples (leaves out 1 of 6 key frames)")
    check_message(refusal.code, 3, refusal.out, refusal.err, words)
    result = crkd("prepare", "--nuscenes", folder.root, "-w", "ws", "--allow-missing", "samples")
    assert result.code == 0, result.err
    assert "2 mini_train, 3 mini_val" in result.out
    said = " ".join(result.out.split())
    assert "1 of 6 key frames are left out for want of files (1 mini_train), such as scene-0061-sample-1" in said
    assert_same_but_for(prepared_in(tmp_path / "ws"), prepared_in(tmp_path / "whole"), "scene-0061-sample-1", channel)


def assert_same_but_for(part: PreparedData, whole: PreparedData, left_out: str, channel: str) -> None:
    """What is left is what the whole data say of it, links, velocities and sweeps included."""
    tokens = [token for token in whole.tokens("train") if token != left_out]
    assert part.tokens("train") == tokens
    assert part.tokens("val") == whole.tokens("val")
    assert part.split_size("train") == 3
    assert part.left_out_tokens("train") == [left_out]
    assert part.left_out_tokens("val") == []
    table = pq.read_table(part.artifact.file("left_out_samples.parquet")).to_pylist()
    assert table == [{"token": left_out, "scene_name": "scene-0061", "splits": ["mini_train"], "lacks": [channel]}]
    for token in [*tokens, *whole.tokens("val")]:
        assert part.neighbours(token) == whole.neighbours(token)
        np.testing.assert_array_equal(part.global_from_lidar(token), whole.global_from_lidar(token))
        assert part.cameras(token).paths == whole.cameras(token).paths
        annotations, expected = part.annotations(token), whole.annotations(token)
        assert annotations.tokens == expected.tokens
        np.testing.assert_array_equal(annotations.velocity, expected.velocity)
        np.testing.assert_array_equal(annotations.boxes.tensor, expected.boxes.tensor)
        np.testing.assert_array_equal(part.radar(token)[0], whole.radar(token)[0])
        gone = {path for path in whole.lidar_sweeps(token).paths if not (part.dataroot / path).is_file()}
        assert set(part.lidar_sweeps(token).paths) == set(whole.lidar_sweeps(token).paths) - gone


def test_one_archive_of_several(crkd, folder, tmp_path):
    """All files of one scene are missing, and the sweeps that only it needs are not asked for."""
    for path in [*folder.root.glob("s*/*/*")]:
        if int(path.name.split("__")[1].split(".")[0]) < 1_600_000_050_000_000:
            path.unlink()
    refusal = crkd("prepare", "--nuscenes", folder.root, "-w", "ws")
    words = ("CAM_FRONT: 3 of 6 key-frame files", "more sensors", "--allow-missing samples (leaves out 3 of 6")
    check_message(refusal.code, 3, refusal.out, refusal.err, words)
    result = crkd("prepare", "--nuscenes", folder.root, "-w", "ws", "--allow-missing", "samples")
    assert result.code == 0, result.err
    said = " ".join(result.out.split())
    assert "3 of 6 key frames are left out for want of files (3 mini_train, 1 scene entirely)" in said
    assert "no sample in mini_train" in said
    refusal = crkd("train-teacher", "--preset", "tiny", "-w", "ws")
    check_message(refusal.code, 3, "", refusal.err, ("no sample of the split 'mini_train'", "mini_val (3 samples)"))


@pytest.mark.parametrize(
    ("lost", "allow"),
    [
        (["samples/RADAR_FRONT", "samples/CAM_BACK"], "samples,radar"),
        (["sweeps/LIDAR_TOP", "samples/CAM_BACK"], "samples,sweeps"),
        (["sweeps/RADAR_FRONT"], "sweeps"),
    ],
)
def test_what_to_allow_is_named_and_works(crkd, folder, lost, allow):
    for sensor_folder in lost:
        # The first image and the last of everything else: of samples that are not left out for the image.
        choose = min if "CAM" in sensor_folder else max
        choose((folder.root / sensor_folder).iterdir()).unlink()
    said = crkd("prepare", "--nuscenes", folder.root, "-w", "ws").err
    assert f"--allow-missing {allow}" in said
    assert crkd("prepare", "--nuscenes", folder.root, "-w", "ws", "--allow-missing", allow).code == 0


@pytest.mark.parametrize("channel", ["CAM_BACK", "LIDAR_TOP"])
def test_a_key_frame_without_a_record(crkd, folder, tmp_path, channel):
    records = folder.tables["sample_data"]
    records.remove(next(r for r in records if r["is_key_frame"] and f"/{channel}/" in r["filename"]))
    folder.save()
    refusal = crkd("prepare", "--nuscenes", folder.root, "-w", "ws")
    words = (f"{channel}: 1 of 6 key frames have no record in sample_data.json", "--allow-missing samples")
    check_message(refusal.code, 3, refusal.out, refusal.err, words)
    assert crkd("prepare", "--nuscenes", folder.root, "-w", "ws", "--allow-missing", "samples").code == 0
    assert len(prepared_in(tmp_path / "ws").tokens("train")) == 2


@pytest.mark.parametrize("loss_kind", ["gone", "dangling link", "empty"])
def test_a_sensors_folder_without_files(crkd, folder, tmp_path, loss_kind):
    channel_folder = folder.root / "samples" / "CAM_BACK"
    shutil.rmtree(channel_folder)
    if loss_kind == "dangling link":
        channel_folder.symlink_to("/nowhere/folder")
    elif loss_kind == "empty":
        channel_folder.mkdir()
    refusal = crkd("prepare", "--nuscenes", folder.root, "-w", "ws", "--allow-missing", "samples")
    words = ("lacks files of every key frame: CAM_BACK: 6 of 6", "Unpack the missing archives")
    check_message(refusal.code, 3, refusal.out, refusal.err, words)
    assert not (tmp_path / "ws").exists()


def test_an_image_without_permission(runner, folder):
    path = folder.files("CAM_BACK")[0]
    path.chmod(0)
    ended = runner.run("prepare", "--nuscenes", folder.root, "-w", "ws")
    check_message(ended.code, 3, ended.out, ended.err, (path.name, "no permission to read it"))


def test_data_without_lidar(crkd, folder, tmp_path):
    assert crkd("prepare", "--nuscenes", folder.root, "-w", "ws").code == 0
    for kind in ("samples", "sweeps"):
        shutil.rmtree(folder.root / kind / "LIDAR_TOP")
    for allow in (), ("--allow-missing", "samples"):
        refusal = crkd("prepare", "--nuscenes", folder.root, "-w", "ws", *allow)
        words = ("LIDAR_TOP: 6 of 6 key-frame files", "--allow-missing lidar.")
        check_message(refusal.code, 3, refusal.out, refusal.err, words)
    result = crkd("prepare", "--nuscenes", folder.root, "-w", "ws", "--allow-missing", "lidar")
    assert result.code == 0, result.err
    assert "LiDAR none" in " ".join(result.out.split())
    assert "warning: no LiDAR" in result.out
    part, whole = prepared_in(tmp_path / "ws", f"{VERSION}-no-lidar"), prepared_in(tmp_path / "ws")
    assert part.modalities == ("camera", "radar")
    assert whole.modalities == ("camera", "lidar", "radar")
    for table in ("samples", "annotations", "cameras", "bicycle_racks", "radar_sweeps"):
        assert part.artifact.manifest.files[f"{table}.parquet"] == whole.artifact.manifest.files[f"{table}.parquet"]
    assert part.lidar_sweeps(part.tokens("train")[0]).paths == ()


def test_without_lidar_the_next_command_needs_no_teacher(crkd, folder):
    for kind in ("samples", "sweeps"):
        shutil.rmtree(folder.root / kind / "LIDAR_TOP")
    assert crkd("prepare", "--nuscenes", folder.root, "-w", "ws", "--allow-missing", "lidar").code == 0
    shown = crkd("status", "-w", "ws").out.splitlines()
    assert shown[-2].startswith("why:  there is no LiDAR")
    assert shown[-1].startswith("next: crkd distill --losses none")


def test_some_lidar_files_are_not_none(crkd, folder):
    folder.files("LIDAR_TOP")[0].unlink()
    refusal = crkd("prepare", "--nuscenes", folder.root, "-w", "ws", "--allow-missing", "lidar")
    words = ("LIDAR_TOP: 1 of 6 key-frame files", "--allow-missing samples")
    check_message(refusal.code, 3, refusal.out, refusal.err, words)


def test_tables_without_lidar(crkd, folder):
    folder.tables["sample_data"] = [r for r in folder.tables["sample_data"] if "LIDAR" not in r["filename"]]
    folder.save()
    refusal = crkd("prepare", "--nuscenes", folder.root, "-w", "ws", "--allow-missing", "lidar,samples")
    check_message(refusal.code, 3, refusal.out, refusal.err, ("no key frame of LIDAR_TOP", "even where its files"))


@pytest.fixture
def without_lidar(crkd, chain, tmp_path) -> Path:
    """A workspace of the chain with data that have no LiDAR as its only prepared data."""
    world, root = chain.copy_world(tmp_path), chain.copy(tmp_path).workspace.root
    for kind in ("samples", "sweeps"):
        shutil.rmtree(world / kind / "LIDAR_TOP")
    shutil.rmtree(root / "prepare")
    assert crkd("prepare", "--nuscenes", world, "-w", root, "--allow-missing", "lidar").code == 0
    return root


def test_camera_radar_models_work_without_lidar(crkd, without_lidar, chain):
    """Targets that were extracted elsewhere still teach, and scores are those of the complete data."""
    assert crkd("distill", "--name", "again", "-w", without_lidar).code == 0
    trained = without_lidar / "distill" / "again" / "model.safetensors"
    assert trained.read_bytes() == (chain.workspace.root / "distill" / "crkd" / "model.safetensors").read_bytes()
    result = crkd("evaluate", "--model", "again", "--workers", "0", "--json", "-w", without_lidar)
    assert result.code == 0, result.err
    assert json.loads(result.out)["models"][0]["samples"] == 2
    drawn = crkd("visualize", "--model", "again", "--samples", "1", "-w", without_lidar)
    assert drawn.code == 0, drawn.err


@pytest.mark.parametrize("command", [("train-teacher", "--name", "n"), ("extract-teacher", "--name", "n")])
def test_lidar_models_are_refused_without_lidar(refused, without_lidar, command):
    words = ("needs camera, lidar", "v1.0-sim-mini-no-lidar has camera, radar only")
    refused(2, words, *command, "-w", without_lidar)


@pytest.mark.devkit
def test_scores_say_on_how_many_samples(crkd, chain, tmp_path):
    world, root = chain.copy_world(tmp_path), chain.copy(tmp_path).workspace.root
    tables = json.loads((world / "v1.0-sim-mini" / "sample.json").read_text())
    token = PreparedData(chain.workspace.find("prepare", needed_for="test", make="")).tokens("val")[0]
    assert any(sample["token"] == token for sample in tables)
    images = json.loads((world / "v1.0-sim-mini" / "sample_data.json").read_text())
    lost = next(r for r in images if r["sample_token"] == token and "CAM_BACK/" in r["filename"] and r["is_key_frame"])
    (world / lost["filename"]).unlink()
    allowed = ("--allow-missing", "samples", "--name", "part")
    assert crkd("prepare", "--nuscenes", world, "-w", root, *allowed).code == 0
    asked = ("evaluate", "--model", "crkd", "--workers", "0", "--prepared", "part", "-w", root)
    result = crkd(*asked, "--official")
    assert result.code == 0, result.err
    assert "crkd was scored on 1 of 2 samples of mini_val, not on all." in result.out
    assert "The nuScenes devkit agrees" in result.out
    (model,) = json.loads(crkd(*asked, "--json").out)["models"]
    assert (model["samples"], model["samples_of_split"]) == (1, 2)
    manifest = json.loads((root / "evaluate" / "crkd-val" / "manifest.json").read_text())
    assert (manifest["facts"]["samples"], manifest["facts"]["samples_of_split"]) == (1, 2)
    own = json.loads((root / "evaluate" / "crkd-val" / "metrics.json").read_text())["crkd"]
    assert (own["samples"], own["samples_of_split"]) == (1, 2)
