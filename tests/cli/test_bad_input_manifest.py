"""Manifests that are no longer what a stage wrote: refused by who needs them, shown by status, else ignored."""

import json
import os
import shutil

import pytest

from tests.support.chain import READERS
from tests.support.printed import paste, printed_commands

CHANGES = {
    "no facts": {"facts": {}},
    "no settings": {"settings": {}},
    "no inputs": {"inputs": {"more": None}},
    "no files": {"files": {}},
    "garbage as date": {"created": "yesterday"},
    "a date without a zone": {"created": "2026-01-01T00:00:00"},
    "another name": {"name": "other"},
    "another stage": {"stage": "other"},
    "another version": {"schema_version": 2},
    "a key more": {"more": 1},
    "facts of another type": {"facts": []},
    "a file elsewhere": {"files": {"../thesis.tex": {"size": 1, "sha256": "0" * 64}}},
}
CONTENTS = {"empty": b"", "null": b"null", "a list": b"[]", "binary": b"\xff\x00", "deep": b"[" * 100_000}


def change(path, keys, keep_checksum=True):
    values = json.loads(path.read_text()) | keys
    if not keep_checksum:
        del values["checksum"]
    path.write_text(json.dumps(values))


def check_refused(refused, crkd, workspace, artifact):
    path = workspace.root / artifact / "manifest.json"
    # The workspace is where it is now, not where its commands were recorded.
    remade = ("make it again with: crkd ", f"--workspace {workspace.root} --force")
    words = (f"{path} is damaged (", "expected a manifest", *remade)
    refused(4, words, *READERS[artifact], "-w", workspace.root)
    shown = crkd("status", "--json", "-w", workspace.root)
    assert shown.code == 0
    states = {f"{run['stage']}/{run['name']}": run for run in json.loads(shown.out)["artifacts"]}
    assert states[artifact]["state"] == "damaged"
    assert states[artifact]["reason"].startswith("its manifest")
    assert crkd("status", "-w", workspace.root).code == 0


@pytest.mark.parametrize("what", CHANGES)
@pytest.mark.parametrize("artifact", READERS)
def test_a_changed_manifest(refused, crkd, evaluated, tmp_path, artifact, what):
    workspace = evaluated.copy(tmp_path).workspace
    change(workspace.root / artifact / "manifest.json", CHANGES[what])
    check_refused(refused, crkd, workspace, artifact)


@pytest.mark.parametrize("what", CONTENTS)
def test_a_manifest_that_is_no_manifest(refused, crkd, evaluated, tmp_path, what):
    workspace = evaluated.copy(tmp_path).workspace
    (workspace.root / "train-teacher/teacher/manifest.json").write_bytes(CONTENTS[what])
    check_refused(refused, crkd, workspace, "train-teacher/teacher")


@pytest.mark.parametrize("what", ["a folder", "a pipe", "a huge file"])
def test_a_manifest_that_is_no_file_to_read(refused, crkd, evaluated, tmp_path, what):
    workspace = evaluated.copy(tmp_path).workspace
    path = workspace.root / "train-teacher/teacher/manifest.json"
    path.unlink()
    if what == "a folder":
        path.mkdir()
    elif what == "a pipe":
        os.mkfifo(path)
    else:
        with path.open("wb") as stream:
            stream.truncate(1 << 40)
    said = crkd(*READERS["train-teacher/teacher"], "-w", workspace.root)
    assert said.code == 4
    assert f"{path} is damaged (it cannot be read: " in said.err
    assert "Traceback" not in said.err
    shown = crkd("status", "-w", workspace.root)
    assert shown.code == 0
    assert "train-teacher/teacher is damaged" in shown.out


# Manifests of the first versions have no checksum of themselves: what later stages read of them is looked at.
@pytest.mark.parametrize("what", ["no facts", "no settings", "garbage as date", "a date without a zone"])
@pytest.mark.parametrize("artifact", READERS)
def test_a_changed_manifest_of_an_earlier_version(refused, crkd, evaluated, tmp_path, artifact, what):
    workspace = evaluated.copy(tmp_path).workspace
    change(workspace.root / artifact / "manifest.json", CHANGES[what], keep_checksum=False)
    check_refused(refused, crkd, workspace, artifact)


def test_manifests_of_an_earlier_version_can_be_used(crkd, evaluated, tmp_path):
    workspace = evaluated.copy(tmp_path).workspace
    for path in workspace.root.glob("*/*/manifest.json"):
        change(path, {}, keep_checksum=False)
    assert "damaged" not in crkd("status", "-w", workspace.root).out
    assert crkd(*READERS["evaluate/crkd-val"], "-w", workspace.root).code == 0


def test_the_command_that_a_damaged_manifest_names_makes_it_again(crkd, evaluated, tmp_path):
    workspace = evaluated.copy(tmp_path).workspace
    path = workspace.root / "evaluate" / "crkd-val" / "manifest.json"
    change(path, {"facts": {}})
    said = crkd(*READERS["evaluate/crkd-val"], "-w", workspace.root).err
    paste(crkd, tmp_path, printed_commands(said)[-1])
    assert crkd(*READERS["evaluate/crkd-val"], "-w", workspace.root).code == 0


UNKNOWN = "what it was made from is not known and has to be named"


def test_what_a_manifest_that_is_no_manifest_was_made_from_is_to_be_named(crkd, evaluated, tmp_path):
    root = evaluated.copy(tmp_path / "my folder").workspace.root
    (root / "extract-teacher/targets/manifest.json").write_bytes(b"[]")
    said = crkd("distill", "--name", "reader", "-w", root).err
    assert f"{UNKNOWN} (--teacher NAME); make it again with: crkd extract-teacher --name targets " in said
    assert UNKNOWN in " ".join(crkd("status", "-w", root).out.split())
    (root / "distill/crkd/model.safetensors").unlink()
    said = crkd("evaluate", "--model", "crkd", "--split", "train", "-w", root).err
    first = "first make extract-teacher/targets, which it was made from, again"
    assert f"{first} ({UNKNOWN} (--teacher NAME)) with: crkd extract-teacher --name targets " in said
    paste(crkd, tmp_path, f"{printed_commands(said)[-1]} --teacher teacher --verify 0")
    assert (root / "extract-teacher/targets.old-1/manifest.json").read_bytes() == b"[]"


def test_a_folder_that_is_not_ours_is_to_be_moved_away(crkd, evaluated, tmp_path):
    root = evaluated.copy(tmp_path).workspace.root
    folder = root / "train-teacher" / "teacher"
    (folder / "manifest.json").write_text('{"name": "a web application"}')
    said = crkd("extract-teacher", "--name", "reader", "-w", root).err
    assert (
        f"move {folder}, which something else made, away and make it with: crkd train-teacher --name teacher " in said
    )
    assert "--force" not in said


@pytest.mark.parametrize("damage", [{"facts": {}}, None])
def test_force_replaces_what_has_a_damaged_manifest(crkd, evaluated, tmp_path, damage):
    workspace = evaluated.copy(tmp_path).workspace
    folder = workspace.root / "evaluate" / "crkd-val"
    if damage is None:
        (folder / "manifest.json").write_text("{")
    else:
        change(folder / "manifest.json", damage)
    before = (folder / "submission.json").read_bytes()
    ended = crkd("evaluate", "--model", "crkd", "--workers", "0", "--force", "-w", workspace.root)
    assert ended.code == 0
    assert (folder / "submission.json").read_bytes() == before
    aside = folder.with_name("crkd-val.old-1")
    # Whose files those are can no longer be known: nothing is deleted.
    assert aside.exists() == (damage is None)
    if damage is None:
        assert f"what was there is now at {aside}" in ended.err.replace("\n", "")
        assert (aside / "submission.json").read_bytes() == before
    assert "damaged" not in crkd("status", "-w", workspace.root).out


def test_who_does_not_need_it_is_not_disturbed(crkd, evaluated, tmp_path):
    workspace = evaluated.copy(tmp_path).workspace
    for artifact in ("extract-teacher/targets", "distill/plain", "evaluate/plain-val"):
        path = workspace.root / artifact / "manifest.json"
        if path.exists():
            change(path, {"facts": {}, "settings": {}})
    for command in (
        ("evaluate", "--model", "crkd", "--workers", "0", "--split", "train"),
        ("visualize", "--model", "crkd", "--samples", "1"),
        ("status",),
    ):
        assert crkd(*command, "-w", workspace.root).code == 0


def test_the_latest_is_not_silently_an_older_one(crkd, refused, evaluated, tmp_path):
    workspace = evaluated.copy(tmp_path).workspace
    path = workspace.root / "distill" / "crkd" / "manifest.json"
    change(path, {"facts": {}})
    refused(4, (f"{path} is damaged",), "evaluate", "--workers", "0", "-w", workspace.root)
    assert crkd("evaluate", "--model", "plain", "--workers", "0", "-w", workspace.root).code == 0


def test_a_run_that_was_copied_or_renamed_by_hand(crkd, refused, evaluated, tmp_path):
    workspace = evaluated.copy(tmp_path).workspace
    runs = workspace.root / "train-teacher"
    shutil.copytree(runs / "teacher", runs / "backup")
    assert crkd("extract-teacher", "--name", "n", "-w", workspace.root).code == 0
    words = ("train-teacher/backup", "train-teacher/teacher", "copied or renamed by hand")
    refused(4, words, "extract-teacher", "--teacher", "backup", "--name", "m", "-w", workspace.root)
    refused(4, words, "train-teacher", "--name", "backup", "-w", workspace.root)
    assert "copied or renamed by hand" in " ".join(crkd("status", "-w", workspace.root).out.split())
    (runs / "teacher").rename(runs / "renamed")
    refused(4, ("copied or renamed by hand",), "extract-teacher", "--name", "m", "-w", workspace.root)
    (runs / "renamed").rename(runs / "teacher")
    assert crkd("evaluate", "--model", "teacher", "--workers", "0", "-w", workspace.root).code == 0


@pytest.mark.parametrize("length", [100, 101, 300])
def test_a_name_is_as_long_as_what_is_named_after_it_allows(crkd, refused, evaluated, tmp_path, length):
    workspace = evaluated.copy(tmp_path).workspace
    name = "n" * length
    command = ("distill", "--losses", "none", "--name", name, "-w", workspace.root)
    if length > 100:
        refused(2, ("cannot name a run", "at most 100 letters"), *command)
        return
    assert crkd(*command).code == 0
    assert crkd("evaluate", "--model", name, "--workers", "0", "--curves", "-w", workspace.root).code == 0
    assert crkd("compare", "crkd", name, "-w", workspace.root).code == 0
    assert crkd("visualize", "--model", name, "--samples", "1", "-w", workspace.root).code == 0
