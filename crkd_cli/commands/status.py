"""``crkd status``."""

import json
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crkd_cli import console, options
from crkd_cli.session import session_of
from crkd_core.progress import format_count, format_size

if TYPE_CHECKING:
    from crkd_core.artifacts.next_step import ArtifactStatus
    from crkd_core.artifacts.status import WorkspaceStatus

_COLOURS = {"finished": "green", "unfinished": "yellow", "running": "cyan", "stale": "red", "damaged": "red"}
_NAMES = {"mean_ap": "mAP", "nds": "NDS", "teacher_mean_ap": "teacher mAP"}
_SHOWN_FACTS = (
    "split", "mean_ap", "nds", "epochs", "loss", "items", "views", "teacher_mean_ap", "samples", "annotations",
)  # fmt: skip


def status(
    context: typer.Context,
    workspace: options.WorkspaceOption = options.DEFAULT_WORKSPACE,
    thorough: Annotated[
        bool, typer.Option("--thorough", help="Read every file and compare its checksum; takes time.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    debug: options.DebugOption = False,
) -> None:
    """Show what is in the workspace, what is stale or damaged and why, and the command to run next."""
    from crkd_core.artifacts.status import workspace_status

    state = workspace_status(session_of(context).workspace(workspace), thorough)
    if as_json:
        console.print_lines(json.dumps(_to_json(state), indent=2, default=str))
        return
    if state.artifacts:
        _print_artifacts(state)
    else:
        console.print_lines(f"{state.root} is empty.")
    # Behind its colon, the last line can be pasted as it is.
    last = (f"why:  {state.next_reason}", f"next: {state.next_command}") if state.next_command else (state.next_reason,)
    console.print_lines(*last)


def _print_artifacts(state: "WorkspaceStatus") -> None:
    from rich.text import Text

    table = console.make_table(["artifact", "state", "when", "size", "facts"], wrap_last_only=True)
    for artifact in state.artifacts:
        table.add_row(
            artifact.label,
            Text(artifact.state, style=_COLOURS[artifact.state]),
            _age(artifact.when),
            format_size(artifact.size_bytes),
            _facts(artifact.facts),
        )
    console.print_table(table)
    for artifact in state.artifacts:
        if artifact.state == "unfinished":
            console.print_lines(f"{artifact.label} is unfinished; continue it with: {artifact.command}")
        elif artifact.reason:
            remedy = "" if artifact.is_misplaced else f"; make it again with: {artifact.command}"
            console.print_lines(f"{artifact.label} is {artifact.state}: {artifact.reason}{remedy}")


def _age(when: str) -> str:
    seconds = (datetime.now(timezone.utc) - datetime.fromisoformat(when)).total_seconds()
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length:.0f} {unit} ago"
    return "now"


def _facts(facts: dict[str, Any]) -> str:
    final = facts.get("final")
    if isinstance(final, dict) and "loss/total" in final:
        facts = {**facts, "loss": final["loss/total"]}
    parts = []
    for name in _SHOWN_FACTS:
        value = facts.get(name)
        shown = _NAMES.get(name, name)
        if isinstance(value, float):
            parts.append(f"{shown} {value:.3f}")
        elif isinstance(value, int):
            parts.append(format_count(value, shown.removesuffix("s")))
        elif isinstance(value, str):
            parts.append(f"{shown} {value}")
    return ", ".join(parts)


def _to_json(state: "WorkspaceStatus") -> dict[str, Any]:
    return {
        "workspace": str(state.root),
        "artifacts": [_artifact_json(artifact) for artifact in state.artifacts],
        "next": {"command": state.next_command, "reason": state.next_reason},
    }


def _artifact_json(artifact: "ArtifactStatus") -> dict[str, Any]:
    return {
        "stage": artifact.stage,
        "name": artifact.name,
        "state": artifact.state,
        "reason": artifact.reason,
        "when": artifact.when,
        "size_bytes": artifact.size_bytes,
        "command": artifact.command,
        "path": str(artifact.path),
        "facts": artifact.facts,
        "inputs": {role: label for role, (label, _) in artifact.inputs.items()},
        "digest": artifact.digest,
    }
