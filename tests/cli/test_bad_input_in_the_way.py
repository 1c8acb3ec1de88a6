"""Things of the user's where a run is, or will be: refused, and never touched."""

import os

import pytest

from tests.support.kills import tree
from tests.support.refusals import damage

MAKE = ("prepare", "--name", "n")


def keep(path, kind, elsewhere):
    """Put something of the user's at `path`."""
    elsewhere.mkdir()
    (elsewhere / "thesis.tex").write_text("years of work")
    if kind == "a folder":
        (path / "figures").mkdir(parents=True)
        (path / "figures" / "thesis.tex").write_text("years of work")
    elif kind == "a folder with a manifest":
        path.mkdir()
        (path / "manifest.json").write_text('{"manifest_version": 3, "name": "n"}')
        (path / "thesis.tex").write_text("years of work")
    elif kind == "a file":
        path.write_text("years of work")
    elif kind == "a link":
        path.symlink_to(elsewhere)
    else:
        path.symlink_to(elsewhere / "nowhere")


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("kind", ["a folder", "a folder with a manifest", "a file", "a link", "a broken link"])
@pytest.mark.parametrize("where", ["n", "n.partial", "n.replaced"])
def test_something_else_where_a_run_will_be(crkd, chain, tmp_path, where, kind, force):
    path = tmp_path / "crkd-workspace" / "prepare" / where
    path.parent.mkdir(parents=True)
    keep(path, kind, tmp_path / "elsewhere")
    before = tree(tmp_path)
    ended = crkd(*MAKE, "--nuscenes", chain.nuscenes, "-w", path.parents[1], *(["--force"] if force else []))
    after = tree(tmp_path)
    if kind == "a folder with a manifest" and where == "n" and force:
        # It may be a run whose manifest is damaged: it is moved, whole.
        assert ended.code == 0
        assert (path.with_name("n.old-1") / "thesis.tex").read_text() == "years of work"
        return
    said = ended.err.splitlines()[-1]
    assert ended.code in (2, 4), ended.err
    assert said.startswith("error: ")
    assert str(path) in said
    assert "Traceback" not in ended.err
    assert after == before


@pytest.mark.parametrize("where", ["finished", "unfinished"])
@pytest.mark.parametrize("mine", ["notes.md", "radar/mine.safetensors", "mine.writing", "folder/thesis.tex"])
def test_a_file_of_the_users_in_a_run(crkd, chain, tmp_path, monkeypatch, where, mine):
    command = (*MAKE, "--nuscenes", chain.nuscenes, "-w", tmp_path / "crkd-workspace")
    folder = tmp_path / "crkd-workspace" / "prepare" / "n"
    if where == "unfinished":
        with monkeypatch.context() as patched:
            patched.setattr("crkd_core.datasets.prepared.radar_shards.write_index", stop)
            assert crkd(*command).code == 130
        folder = folder.with_name("n.partial")
    else:
        assert crkd(*command).code == 0
    path = folder / mine
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    before = tree(tmp_path)
    for options in (("--force",), ("--force", "--no-resume"), *([()] if where == "unfinished" else [])):
        ended = crkd(*command, *options)
        assert ended.code == 2
        assert f"error: {path} is not a file of prepare/n and would be lost: move it away" in ended.err
        assert tree(tmp_path) == before
    path.unlink()
    assert crkd(*command, "--force").code == 0
    assert not folder.with_name("n.partial").exists()


def stop(*_):
    raise KeyboardInterrupt


def test_what_comes_into_the_folder_while_a_run_is_made_is_no_part_of_it(crkd, chain, tmp_path, monkeypatch):
    folder = tmp_path / "crkd-workspace" / "prepare" / "n"

    def add(*_):
        (folder.with_name("n.partial") / "notes.md").write_text("mine")
        return write_index(*_)

    from crkd_core.datasets.prepared.radar_shards import write_index

    monkeypatch.setattr("crkd_core.datasets.prepared.radar_shards.write_index", add)
    assert crkd(*MAKE, "--nuscenes", chain.nuscenes).code == 0
    assert (folder / "notes.md").read_text() == "mine"
    assert "notes.md" not in (folder / "manifest.json").read_text()


def test_a_request_that_is_damaged(crkd, refused, chain, tmp_path, monkeypatch):
    command = (*MAKE, "--nuscenes", chain.nuscenes, "-w", tmp_path / "crkd-workspace")
    partial = tmp_path / "crkd-workspace" / "prepare" / "n.partial"
    for contents in ("", "{", "[]", '{"fingerprint": 1}', "null"):
        with monkeypatch.context() as patched:
            patched.setattr("crkd_core.datasets.prepared.radar_shards.write_index", stop)
            assert crkd(*command, "--force").code == 130
        (partial / "request.json").write_text(contents)
        refused(4, (f"{partial / 'request.json'} is damaged", "--force"), *command)
        assert crkd("status").code == 0
    assert crkd(*command, "--no-resume").code == 0


@pytest.mark.parametrize("what", ["a folder", "a pipe", "a file", "a link"])
def test_something_where_the_lock_is(refused, chain, tmp_path, what):
    lock = tmp_path / "crkd-workspace" / "prepare" / ".n.partial.lock"
    lock.parent.mkdir(parents=True)
    if what == "a folder":
        lock.mkdir()
    elif what == "a pipe":
        os.mkfifo(lock)
    elif what == "a file":
        lock.write_text("mine")
    else:
        lock.symlink_to(tmp_path / "mine")
    refused(2, (f"{lock} is in the way", "move it away"), *MAKE, "--nuscenes", chain.nuscenes, "-w", lock.parents[1])
    assert os.path.lexists(lock)


def test_a_workspace_behind_links(crkd, chain, tmp_path):
    disk = tmp_path / "disk"
    (disk / "prepare").mkdir(parents=True)
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "prepare").symlink_to(disk / "prepare")
    (tmp_path / "linked").symlink_to(tmp_path / "real")
    command = (*MAKE, "--nuscenes", chain.nuscenes, "-w", "linked")
    for more in ((), (), ("--force",)):
        assert crkd(*command, *more).code == 0
    assert [path.name for path in disk.rglob("prepare/*")] == ["n"]


def test_a_read_only_workspace_can_be_read(runner, evaluated, tmp_path):
    workspace = evaluated.copy(tmp_path).workspace
    folders = [workspace.root, *(path for path in workspace.root.rglob("*") if path.is_dir())]
    for stamp in workspace.root.rglob(".verified.json"):
        stamp.unlink()
    try:
        for folder in folders:
            folder.chmod(0o555)
        for command in (("status",), ("evaluate", "--model", "crkd", "--workers", "0")):
            ended = runner.run(*command, "-w", workspace.root)
            assert ended.code == 0, ended.err
    finally:
        for folder in folders:
            folder.chmod(0o755)


@pytest.mark.parametrize("damage_kind", ["cut", "flipped", "gone"])
@pytest.mark.parametrize("file", ["submission.json", "detections.parquet"])
def test_a_damaged_file_of_an_unfinished_evaluation(crkd, evaluated, tmp_path, monkeypatch, file, damage_kind):
    workspace = evaluated.copy(tmp_path).workspace
    folder = workspace.root / "evaluate" / "crkd-val"
    expected = tree(folder)
    command = ("evaluate", "--model", "crkd", "--workers", "0", "--force", "-w", workspace.root)
    with monkeypatch.context() as patched:
        patched.setattr("crkd_core.stages.evaluate.write_scores", stop)
        assert crkd(*command).code == 130
    damage(folder.with_name("crkd-val.partial") / file, damage_kind)
    assert crkd(*command).code == 0
    assert tree(folder) == expected


@pytest.mark.parametrize("damage_kind", ["cut", "flipped"])
def test_a_damaged_picture_of_an_unfinished_run(crkd, evaluated, tmp_path, monkeypatch, damage_kind):
    workspace = evaluated.copy(tmp_path).workspace
    folder = workspace.root / "visualize" / "val"
    expected = tree(folder)
    command = ("visualize", "--samples", "1", "--force", "-w", workspace.root)
    with monkeypatch.context() as patched:
        patched.setattr("crkd_core.stages.visualize.write_report", stop)
        assert crkd(*command).code == 130
    damage(min(folder.with_name("val.partial").glob("0*.png")), damage_kind)
    ended = crkd(*command)
    assert ended.code == 0
    assert "is damaged and is made again" in ended.err
    made = tree(folder)
    assert {path: made[path] for path in made if path.endswith(".png")} == {
        path: expected[path] for path in expected if path.endswith(".png")
    }
