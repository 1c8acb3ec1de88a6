"""crkd status on hand-made workspaces."""

import json

import pytest

from crkd_core.artifacts.atomic import write_text
from crkd_core.artifacts.manifest import read_manifest
from crkd_core.artifacts.status import CHAIN, workspace_status
from crkd_core.artifacts.writer import ArtifactRequest


def make_chain(make, until: str = "visualize") -> dict:
    """One artifact per stage, each made from the one before."""
    made: dict = {}
    roles = {
        "train-teacher": {"prepared": "prepare"},
        "extract-teacher": {"teacher": "train-teacher", "prepared": "prepare"},
        "distill": {"targets": "extract-teacher", "prepared": "prepare"},
        "evaluate": {"model": "distill"},
        "visualize": {"model": "evaluate"},
    }
    for stage in CHAIN:
        inputs = {role: made[source] for role, source in roles.get(stage, {}).items()}
        made[stage] = make(stage, f"my-{stage}", inputs=inputs, facts={"mean_ap": 0.25})
        if stage == until:
            break
    return made


def leave_unfinished(workspace, stage: str, command: str) -> None:
    with workspace.write(ArtifactRequest(stage, "half", command=command, settings={"a": 1})) as writer:
        write_text(writer.path / "part.bin", "x" * 1000)


def _set_created(workspace, label: str, when: str) -> None:
    folder = workspace.root / label
    manifest = read_manifest(folder).model_copy(update={"created": when})
    (folder / "manifest.json").write_text(manifest.sealed().model_dump_json())


def test_an_empty_workspace_says_how_to_begin(workspace):
    status = workspace_status(workspace)
    assert status.artifacts == ()
    assert status.next_command == "crkd prepare --nuscenes DIR"
    assert not workspace.root.exists()


@pytest.mark.parametrize("stages", range(1, 6))
def test_the_next_command_is_the_next_stage(workspace, make, stages):
    names = list(CHAIN)
    make_chain(make, until=names[stages - 1])
    status = workspace_status(workspace)
    assert [artifact.state for artifact in status.artifacts] == ["finished"] * stages
    assert status.next_command == CHAIN[names[stages]]


def test_a_complete_chain_needs_nothing(workspace, make):
    make_chain(make)
    status = workspace_status(workspace)
    assert status.next_command is None
    assert "done" in status.next_reason


def test_everything_made_from_a_remade_artifact_is_stale(workspace, make):
    make_chain(make)
    make("prepare", "my-prepare", text="other contents", force=True)
    status = workspace_status(workspace)
    states = {artifact.stage: artifact.state for artifact in status.artifacts}
    assert states == {"prepare": "finished", **dict.fromkeys(list(CHAIN)[1:], "stale")}
    assert status.next_command == "crkd train-teacher --name my-train-teacher --force"
    assert "prepare/my-prepare has been remade" in status.next_reason


def test_a_truncated_file_is_damage(workspace, make):
    made = make_chain(make)
    path = made["extract-teacher"].file("file.txt")
    path.write_text("cont")
    status = workspace_status(workspace)
    (damaged,) = [artifact for artifact in status.artifacts if artifact.state == "damaged"]
    assert damaged.stage == "extract-teacher"
    assert "file.txt" in damaged.reason
    assert status.next_command == "crkd extract-teacher --name my-extract-teacher --force"


def test_changed_bytes_of_the_same_length_are_found_thoroughly(workspace, make):
    made = make_chain(make)
    made["distill"].file("file.txt").write_text("CONTENTS")
    assert "damaged" not in [artifact.state for artifact in workspace_status(workspace).artifacts]
    (damaged,) = [a for a in workspace_status(workspace, thorough=True).artifacts if a.state == "damaged"]
    assert damaged.label == "distill/my-distill"
    assert "checksum" in damaged.reason


def test_an_unreadable_manifest_is_damage(workspace, make):
    made = make_chain(make)
    made["prepare"].file("manifest.json").write_text("{")
    status = workspace_status(workspace)
    assert status.of_stage("prepare")[0].state == "damaged"
    # What can still be read of it is enough to make it again.
    assert status.next_command == "crkd prepare --nuscenes DIR --name my-prepare --force"
    made["train-teacher"].file("manifest.json").write_text("")
    made["prepare"].file("manifest.json").write_text('{\n  "command": "crkd prepare --nuscenes \'my data\'",\n')
    assert workspace_status(workspace).next_command == "crkd prepare --nuscenes 'my data' --force"


def test_an_unfinished_run_is_continued_by_its_own_command(workspace, make):
    make_chain(make, until="prepare")
    leave_unfinished(workspace, "train-teacher", "crkd train-teacher --name half")
    status = workspace_status(workspace)
    (unfinished,) = status.of_stage("train-teacher")
    assert (unfinished.state, unfinished.name) == ("unfinished", "half")
    assert unfinished.size_bytes >= 1000
    assert status.next_command == "crkd train-teacher --name half"


def test_a_run_under_way_is_not_called_unfinished(workspace, make):
    make_chain(make, until="prepare")
    with workspace.write(ArtifactRequest("train-teacher", "busy", command="crkd train-teacher", settings={})):
        status = workspace_status(workspace)
    assert status.of_stage("train-teacher")[0].state == "running"
    assert status.next_command is None
    assert "train-teacher/busy" in status.next_reason


def test_the_plain_student_is_not_the_taught_one(workspace, make):
    made = make_chain(make, until="extract-teacher")
    make("distill", "plain", inputs={"prepared": made["prepare"]})
    assert workspace_status(workspace).next_command == "crkd distill"


def test_a_new_student_is_to_be_evaluated(workspace, make):
    made = make_chain(make)
    make("distill", "newer", inputs={"targets": made["extract-teacher"]}, text="newer")
    _set_created(workspace, "distill/newer", "2099-01-01T00:00:00+00:00")
    assert workspace_status(workspace).next_command == "crkd evaluate"
    make("distill", "plain", text="plain", inputs={"prepared": made["prepare"]})
    _set_created(workspace, "distill/plain", "2100-01-01T00:00:00+00:00")
    assert workspace_status(workspace).next_command == "crkd evaluate --model newer"


def test_looking_changes_nothing(workspace, make):
    make_chain(make)
    before = {path: path.stat().st_mtime_ns for path in workspace.root.rglob("*")}
    workspace_status(workspace)
    assert {path: path.stat().st_mtime_ns for path in workspace.root.rglob("*")} == before


def test_the_command_shows_all_of_it(crkd, workspace, make):
    make_chain(make, until="train-teacher")
    make("prepare", "my-prepare", text="other", force=True)
    result = crkd("status")
    assert result.code == 0
    for expected in ("prepare/my-prepare", "finished", "stale", "mAP 0.250", "8 B"):
        assert expected in result.out
    assert "next: crkd train-teacher --name my-train-teacher --force" in result.out
    assert "\x1b" not in result.out


def test_the_command_to_run_next_can_be_pasted(crkd, make):
    make_chain(make, until="train-teacher")
    assert crkd("status").out.splitlines()[-2:] == [
        "why:  the teacher's targets are not extracted yet",
        "next: crkd extract-teacher",
    ]


def test_unfinished_and_damaged_runs_are_listed_with_their_commands(crkd, workspace, make):
    made = make_chain(make)
    leave_unfinished(workspace, "distill", "crkd distill --name half")
    shown = crkd("status").out.splitlines()
    assert "distill/half is unfinished; continue it with: crkd distill --name half" in shown
    assert shown[-1] == "all six stages are done"
    made["visualize"].file("file.txt").unlink()
    remedy = "make it again with: crkd visualize --name my-visualize --force"
    assert f"visualize/my-visualize is damaged: file.txt is missing; {remedy}" in crkd("status").out.splitlines()


def test_data_of_an_older_format_are_stale(crkd, workspace, make):
    make_chain(make)
    folder = workspace.root / "prepare" / "my-prepare"
    manifest = read_manifest(folder)
    older = manifest.model_copy(update={"settings": manifest.settings | {"format": 1}})
    (folder / "manifest.json").write_text(older.sealed().model_dump_json())
    status = workspace_status(workspace)
    (prepared,) = status.of_stage("prepare")
    assert (prepared.state, prepared.command) == ("stale", "crkd prepare --name my-prepare --force")
    assert "it was prepared in an older format (1, this version needs 3)" in prepared.reason
    assert status.next_command == prepared.command


def test_json(crkd, make):
    make_chain(make, until="distill")
    values = json.loads(crkd("status", "--json").out)
    assert [artifact["stage"] for artifact in values["artifacts"]] == list(CHAIN)[:4]
    assert values["artifacts"][1]["inputs"] == {"prepared": "prepare/my-prepare"}
    assert values["next"]["command"] == "crkd evaluate"


def test_the_workspace_comes_from_option_or_environment(crkd, make, workspace, monkeypatch, tmp_path):
    make_chain(make, until="prepare")
    moved = tmp_path / "elsewhere"
    workspace.root.rename(moved)
    assert "is empty" in crkd("status").out
    assert "my-prepare" in crkd("status", "-w", moved).out
    monkeypatch.setenv("CRKD_WORKSPACE", str(moved))
    assert "my-prepare" in crkd("status").out


def test_completion_offers_runs_presets_and_losses(make, workspace, monkeypatch, tmp_path):
    from types import SimpleNamespace

    from crkd_cli import options
    from crkd_cli.commands.distill import complete_losses

    make_chain(make, until="distill")
    context = SimpleNamespace(params={"workspace": workspace.root})
    assert options.complete_teacher(context, "") == ["my-train-teacher"]
    assert options.complete_model(context, "my-d") == ["my-distill"]
    assert [name for name, _ in options.complete_preset("ti")] == ["tiny"]
    assert complete_losses("csrd,r") == ["csrd,reld", "csrd,respd"]
