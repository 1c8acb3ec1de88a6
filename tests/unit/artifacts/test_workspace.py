"""The workspace: nothing is lost, nothing is half-written, nothing stale is used."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from crkd_core.artifacts.atomic import write_bytes, write_text
from crkd_core.artifacts.shards import ItemKey, TensorShards, shard_name, write_index, write_shard
from crkd_core.artifacts.workspace import Workspace
from crkd_core.artifacts.writer import ArtifactRequest
from crkd_core.errors import (
    DamagedArtifactError,
    MissingArtifactError,
    StaleArtifactError,
    UsageError,
    WriteError,
)


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "ws")


def make(workspace, stage="prepare", name="data", settings=None, inputs=None, content="hello", **changes):
    request = ArtifactRequest(stage, name, f"crkd {stage}", settings or {"a": 1}, inputs or {})
    with workspace.write(replace(request, **changes)) as writer:
        if writer.finished:
            return writer.finished
        write_text(writer.path / "table.txt", content)
        return writer.finish({"rows": 1})


def find(workspace, stage="prepare", name=None):
    return workspace.find(stage, name, needed_for="crkd distill", make="crkd prepare --nuscenes DIR")


def test_finished_artifact_is_found_and_reused(workspace):
    made = make(workspace)
    assert find(workspace).manifest.digest == made.manifest.digest
    assert make(workspace, content="other").file("table.txt").read_text() == "hello"
    assert make(workspace, content="other", force=True).file("table.txt").read_text() == "other"


def test_artifacts_of_one_second_keep_their_order(workspace):
    names = ["b", "c", "a", "e", "d"]
    for name in names:
        make(workspace, name=name)
    assert [artifact.manifest.name for artifact in workspace.newest_first("prepare")] == names[::-1]


def test_missing_names_the_command_that_makes_it(workspace):
    with pytest.raises(MissingArtifactError, match="crkd prepare --nuscenes DIR"):
        find(workspace)


def test_unfinished_is_never_found_and_is_continued(workspace):
    with workspace.write(ArtifactRequest("prepare", "data", command="c", settings={"a": 1})) as writer:
        write_text(writer.path / "part.txt", "done already")
    with pytest.raises(MissingArtifactError, match="unfinished"):
        find(workspace)
    with workspace.write(ArtifactRequest("prepare", "data", command="c", settings={"a": 1})) as writer:
        assert writer.resumed
        assert (writer.path / "part.txt").read_text() == "done already"
        writer.finish()
    assert find(workspace).file("part.txt").exists()


def test_other_settings_are_refused_and_the_old_artifact_survives(workspace):
    make(workspace)
    with pytest.raises(StaleArtifactError, match=r"a \(1 -> 2\).*--force"):
        make(workspace, settings={"a": 2})
    assert find(workspace).file("table.txt").read_text() == "hello"


def test_failing_while_remaking_keeps_the_old_artifact(workspace):
    make(workspace)
    with (
        pytest.raises(RuntimeError),
        workspace.write(ArtifactRequest("prepare", "data", command="c", settings={"a": 2}, force=True)) as writer,
    ):
        write_text(writer.path / "table.txt", "half")
        raise RuntimeError
    assert find(workspace).file("table.txt").read_text() == "hello"


def test_unfinished_run_with_other_settings_is_not_discarded_silently(workspace):
    with workspace.write(ArtifactRequest("distill", "crkd", command="c", settings={"a": 1})) as writer:
        write_text(writer.path / "part.txt", "a week of work")
    with pytest.raises(StaleArtifactError, match="unfinished"):
        make(workspace, "distill", "crkd", settings={"a": 2})
    assert (writer.path / "part.txt").exists()
    make(workspace, "distill", "crkd", settings={"a": 2}, replace=True)
    assert not writer.path.exists()


def test_damage_is_found(workspace):
    path = make(workspace).file("table.txt")
    find(workspace)
    path.write_text("hellp")
    with pytest.raises(DamagedArtifactError, match="checksum"):
        find(workspace)
    path.write_text("hell")
    with pytest.raises(DamagedArtifactError, match="expected 5 bytes, found 4"):
        find(workspace)
    path.unlink()
    with pytest.raises(DamagedArtifactError, match="missing"):
        find(workspace)


def test_damage_that_keeps_the_time_stamp_is_found_when_thorough(workspace):
    artifact = make(workspace)
    artifact.verify()
    path = artifact.file("table.txt")
    status = path.stat()
    path.write_text("hellp")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(DamagedArtifactError):
        artifact.verify(thorough=True)


def test_damaged_manifest_is_said_so(workspace):
    artifact = make(workspace)
    (artifact.path / "manifest.json").write_text("{")
    with pytest.raises(DamagedArtifactError, match="manifest"):
        find(workspace)


def test_remaking_an_input_makes_what_was_made_from_it_stale_also_indirectly(workspace):
    data = make(workspace)
    teacher = make(workspace, "train-teacher", "teacher", inputs={"prepared": data.reference()})
    make(workspace, "extract-teacher", "targets", inputs={"teacher": teacher.reference()})
    find(workspace, "extract-teacher")
    make(workspace, content="other data", force=True)
    for stage in ("train-teacher", "extract-teacher"):
        with pytest.raises(StaleArtifactError, match="prepare/data has been remade"):
            find(workspace, stage)


def test_remaking_an_input_with_equal_contents_makes_nothing_stale(workspace):
    data = make(workspace)
    make(workspace, "train-teacher", "teacher", inputs={"prepared": data.reference()})
    make(workspace, force=True)
    assert workspace.staleness(find(workspace, "train-teacher")) is None


def test_logs_do_not_change_the_digest(workspace):
    with workspace.write(ArtifactRequest("distill", "a", command="c", settings={})) as writer:
        write_text(writer.path / "logs" / "times.txt", "1 s")
        first = writer.finish()
    with workspace.write(ArtifactRequest("distill", "a", command="c", settings={}, force=True)) as writer:
        write_text(writer.path / "logs" / "times.txt", "2 s")
        second = writer.finish()
    assert first.manifest.digest == second.manifest.digest


def test_two_writers_of_one_run_are_refused(workspace):
    with (
        workspace.write(ArtifactRequest("prepare", "data", command="c", settings={})),
        pytest.raises(UsageError, match="another process"),
        workspace.write(ArtifactRequest("prepare", "data", command="c", settings={})),
    ):
        pass


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "x.partial"])
def test_odd_names_are_refused(workspace, name):
    with pytest.raises(UsageError):
        workspace.folder("prepare", name)


def test_kill_between_the_two_renames_loses_nothing(workspace):
    artifact = make(workspace)
    os.replace(artifact.path, artifact.path.with_name("data.replaced"))
    assert find(workspace).file("table.txt").read_text() == "hello"


def test_full_disk_is_one_sentence_and_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.bin"
    write_bytes(path, b"old")
    code = (
        "import resource, signal, pathlib, sys\n"
        "from crkd_core.artifacts.atomic import write_bytes\n"
        "from crkd_core.errors import WriteError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: write_bytes(pathlib.Path(sys.argv[1]), b'x' * 5000)\n"
        "except WriteError as error: print(error); sys.exit(error.exit_code)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert done.returncode == 5
    assert "no space is left" in done.stdout
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_path_that_is_no_folder_is_a_write_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError):
        write_text(tmp_path / "file" / "below.txt", "x")


def test_shards_round_trip_and_say_when_damaged(workspace):
    items = {
        ItemKey(f"{i:032x}", view): {"a.b": torch.randn(3, i), "n": torch.arange(i)}
        for i in range(4)
        for view in (0, 1)
    }
    keys = list(items)
    with workspace.write(ArtifactRequest("extract-teacher", "targets", "crkd extract-teacher", {})) as writer:
        write_shard(writer.path / shard_name(0), {key: items[key] for key in keys[:5]})
        write_shard(writer.path / shard_name(1), {key: items[key] for key in keys[5:]})
        assert write_index(writer.path, [shard_name(0), shard_name(1)]) == len(keys)
        artifact = writer.finish()
    shards = TensorShards(artifact)
    assert set(shards.keys()) == set(keys)
    for key in keys:
        read = shards.read(key)
        assert read.keys() == items[key].keys()
        assert all(torch.equal(read[name], items[key][name]) for name in read)
    shard = artifact.file(shard_name(1))
    shard.write_bytes(shard.read_bytes()[:40])
    with pytest.raises(DamagedArtifactError, match="safetensors"):
        TensorShards(artifact).read(keys[-1])
    (artifact.path / "index.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DamagedArtifactError, match=r"index\.parquet"):
        TensorShards(artifact)


def test_manifest_is_readable_json_with_inputs_and_checksums(workspace):
    manifest = json.loads((make(workspace).path / "manifest.json").read_text())
    assert manifest["files"]["table.txt"]["size"] == 5
    assert len(manifest["files"]["table.txt"]["sha256"]) == 64
    assert manifest["command"] == "crkd prepare"
