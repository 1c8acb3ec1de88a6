"""Artifacts that cannot be used, through the real commands.

Every file of every stage, cut, with one byte turned round, or gone; models of a version with other configuration keys.
"""

import os

import pytest

from crkd_core.artifacts.manifest import read_manifest, record_file
from tests.support.chain import READERS
from tests.support.refusals import damage

FILES = [
    ("prepare/v1.0-sim-mini", "samples.parquet"),
    ("prepare/v1.0-sim-mini", "annotations.parquet"),
    ("prepare/v1.0-sim-mini", "radar/shard-00001.safetensors"),
    ("train-teacher/teacher", "model.safetensors"),
    ("extract-teacher/targets", "index.parquet"),
    ("extract-teacher/targets", "shard-00002.safetensors"),
    ("distill/crkd", "model.safetensors"),
    ("distill/crkd", "config.yaml"),
    ("evaluate/crkd-val", "detections.parquet"),
    ("evaluate/crkd-val", "metrics.json"),
]
PROBLEMS = {"cut": "bytes, found", "flipped": "its checksum differs", "gone": "the file is missing"}


@pytest.mark.parametrize("damage_kind", PROBLEMS)
@pytest.mark.parametrize(("artifact", "file"), FILES)
def test_a_damaged_file(refused, evaluated, tmp_path, artifact, file, damage_kind):
    workspace = evaluated.copy(tmp_path).workspace
    path = workspace.root / artifact / file
    damage(path, damage_kind)
    stage, name = artifact.split("/")
    remake = {"prepare": "crkd prepare --nuscenes ", "evaluate": "crkd evaluate --model distill/crkd "}.get(
        stage, f"crkd {stage} "
    )
    words = (f"{path} is damaged", PROBLEMS[damage_kind], f"make it again with: {remake}", "--force")
    said = refused(4, words, *READERS[artifact], "-w", workspace.root)
    assert stage in ("prepare", "evaluate") or f"--name {name}" in said


@pytest.mark.parametrize(
    ("artifact", "file", "words"),
    [
        ("prepare/v1.0-sim-mini", "samples.parquet", "it cannot be read as Parquet"),
        ("train-teacher/teacher", "model.safetensors", "its checksum differs from the manifest"),
        ("extract-teacher/targets", "shard-00000.safetensors", "it cannot be read as safetensors"),
    ],
)
def test_damage_that_the_stamps_do_not_show(refused, evaluated, tmp_path, artifact, file, words):
    workspace = evaluated.copy(tmp_path).workspace
    path = workspace.root / artifact / file
    status = path.stat()
    path.write_bytes(b"\xff" * status.st_size)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    refused(4, (f"{path} is damaged", words, "--force"), *READERS[artifact], "-w", workspace.root)


@pytest.mark.parametrize("damage_kind", ["cut", "flipped"])
@pytest.mark.parametrize("artifact", READERS)
def test_a_damaged_manifest(refused, evaluated, tmp_path, artifact, damage_kind):
    workspace = evaluated.copy(tmp_path).workspace
    path = workspace.root / artifact / "manifest.json"
    damage(path, damage_kind)
    words = (f"{path} is damaged", "expected a manifest", "make it again with: crkd ")
    refused(4, words, *READERS[artifact], "-w", workspace.root)


@pytest.mark.parametrize("damage_kind", ["cut", "flipped", "gone"])
def test_the_damaged_configuration_that_later_stages_keep_to(crkd, refused, evaluated, tmp_path, damage_kind):
    workspace = evaluated.copy(tmp_path).workspace
    path = workspace.root / "train-teacher" / "teacher" / "config.yaml"
    good = path.read_bytes()
    damage(path, damage_kind)
    words = (str(path), "is damaged", "--preset or --config", "--force")
    refused(4, words, "train-teacher", "--name", "n", "-w", workspace.root)
    (tmp_path / "mine.yaml").write_bytes(good)
    command = ("train-teacher", "--config", "mine.yaml", "--force", "-w", workspace.root)
    assert crkd(*command).code == 0
    assert path.read_bytes() == good


EVALUATE = ("evaluate", "--split", "train")


@pytest.mark.parametrize(
    ("artifact", "where", "command"),
    [
        ("train-teacher/teacher", "config.yaml", ("train-teacher", "--name", "n")),
        ("train-teacher/teacher", "manifest.json", ("extract-teacher", "--name", "n")),
        ("train-teacher/teacher", "manifest.json", (*EVALUATE, "--model", "teacher")),
        ("distill/crkd", "config.yaml", (*EVALUATE, "--model", "crkd")),
        ("distill/crkd", "config.yaml", (*EVALUATE, "--set", "student.head.nms.max_rotated=10")),
        ("distill/crkd", "manifest.json", (*EVALUATE, "--model", "crkd")),
    ],
)
def test_a_model_of_a_version_with_other_keys(refused, evaluated, tmp_path, artifact, where, command):
    workspace = evaluated.copy(tmp_path).workspace
    folder = workspace.root / artifact
    manifest = read_manifest(folder)
    if where == "manifest.json":
        manifest.settings["detector"]["fuser"]["depth"] = 3
        key = "fuser.depth: Extra inputs"
    else:
        path = folder / where
        path.write_text(path.read_text() + "more: {depth: 3}\n")
        manifest.files[where] = record_file(path)
        key = "config has no key 'more'"
    (folder / "manifest.json").write_text(manifest.sealed().model_dump_json())
    says = f"{artifact} was trained with a configuration that this version of crkd does not know"
    refused(4, (says, key, "--config FILE", "--force"), *command, "-w", workspace.root)


def test_a_damaged_unfinished_run(crkd, refused, evaluated, tmp_path, monkeypatch):
    workspace = evaluated.copy(tmp_path).workspace
    command = ("train-teacher", "--name", "n", "-w", workspace.root)
    with monkeypatch.context() as patched:
        patched.setattr("crkd_core.training.run.write_trained", _stop)
        assert crkd(*command).code == 130
    partial = workspace.root / "train-teacher" / "n.partial"
    checkpoint = partial / "checkpoint.safetensors"
    for damage_kind in ("cut", "flipped"):
        good = checkpoint.read_bytes()
        damage(checkpoint, damage_kind)
        refused(4, (f"{checkpoint} of the unfinished run cannot be used", "checksum", "--no-resume"), *command)
        checkpoint.write_bytes(good)
    damage(checkpoint, "cut")
    assert crkd(*command, "--no-resume").code == 0
    again, first = (workspace.root / "train-teacher" / run / "model.safetensors" for run in ("n", "teacher"))
    assert again.read_bytes() == first.read_bytes()


@pytest.mark.parametrize("damage_kind", ["cut", "flipped", "gone"])
def test_a_training_goes_on_without_its_metrics(crkd, evaluated, tmp_path, monkeypatch, damage_kind):
    workspace = evaluated.copy(tmp_path).workspace
    command = ("train-teacher", "--name", "n", "-w", workspace.root)
    with monkeypatch.context() as patched:
        patched.setattr("crkd_core.training.run.write_trained", _stop)
        assert crkd(*command).code == 130
    damage(workspace.root / "train-teacher" / "n.partial" / "logs" / "metrics.parquet", damage_kind)
    ended = crkd(*command)
    assert ended.code == 0, ended.err
    assert "the metrics of train-teacher n before step 2 cannot be read" in ended.err
    assert "continuing n at step 2 of 2" in ended.err
    again, first = (workspace.root / "train-teacher" / run / "model.safetensors" for run in ("n", "teacher"))
    assert again.read_bytes() == first.read_bytes()
    assert crkd("status", "-w", workspace.root).code == 0
    assert crkd("evaluate", "--model", "n", "--workers", "0", "-w", workspace.root).code == 0
    assert crkd("visualize", "--model", "n", "--samples", "1", "-w", workspace.root).code == 0


def _stop(*_):
    raise KeyboardInterrupt


@pytest.mark.parametrize("damage_kind", ["cut", "flipped"])
@pytest.mark.parametrize("stage", ["prepare", "extract-teacher"])
def test_a_damaged_shard_of_an_unfinished_run(crkd, evaluated, tmp_path, monkeypatch, stage, damage_kind):
    workspace = evaluated.copy(tmp_path).workspace
    data = ("--nuscenes", evaluated.nuscenes) if stage == "prepare" else ()
    command = (stage, *data, "--name", "n", "-w", workspace.root)
    module = {"prepare": "datasets.prepared.radar_shards", "extract-teacher": "teacher_cache.build"}[stage]
    with monkeypatch.context() as patched:
        patched.setattr(f"crkd_core.{module}.write_index", _stop)
        assert crkd(*command).code == 130
    shard = min((workspace.root / stage / "n.partial").rglob("shard-*.safetensors"))
    damage(shard, damage_kind)
    ended = crkd(*command)
    assert ended.code == 0
    assert f"{shard.name} of the unfinished {stage}/n is damaged and is made again" in ended.err
    made = {"prepare": "v1.0-sim-mini", "extract-teacher": "targets"}[stage]
    first, again = (read_manifest(workspace.root / stage / name) for name in (made, "n"))
    assert again.files == first.files
