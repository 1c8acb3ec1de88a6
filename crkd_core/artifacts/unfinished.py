"""Runs that were stopped: what they were asked for, and the command that continues them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from crkd_core.artifacts.command import command_text, first_command
from crkd_core.artifacts.difference import MadeOf
from crkd_core.artifacts.location import PARTIAL
from crkd_core.artifacts.manifest import MANIFEST_NAME, REQUEST_NAME, InputRef, read_regular
from crkd_core.artifacts.remedy import manifest_of


@dataclass(frozen=True)
class RunRequest:
    """What a run that is not finished was asked for; everything is empty where that cannot be read.

    Attributes:
        command: as the manifest would have recorded it.
        made_of: None where an earlier version did not write it down.
    """

    fingerprint: str = ""
    command: str = ""
    made_of: MadeOf | None = None


def read_request(partial: Path) -> RunRequest:
    """What an unfinished run was asked for."""
    try:
        values: dict[str, Any] = json.loads(read_regular(partial / REQUEST_NAME))
        fingerprint, command = str(values["fingerprint"]), str(values["command"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return RunRequest()
    try:
        inputs = {role: InputRef.model_validate(ref) for role, ref in values["inputs"].items()}
        return RunRequest(fingerprint, command, MadeOf(dict(values["settings"]), inputs))
    except (ValidationError, ValueError, TypeError, KeyError, AttributeError):
        return RunRequest(fingerprint, command)


def continuation(root: Path, stage: str, name: str) -> str:
    """The command that continues an unfinished run, or begins it anew where that is no longer possible."""
    final = root / stage / name
    request = read_request(final.with_name(name + PARTIAL))
    inputs = request.made_of.inputs if request.made_of is not None else {}
    current = {ref: manifest_of(root, ref) for ref in inputs.values()}
    is_outdated = any(manifest is not None and manifest.digest != ref.digest for ref, manifest in current.items())
    # Only a run that was to replace something is unfinished beside a finished one.
    force = is_outdated or (final / MANIFEST_NAME).exists()
    return command_text(request.command or first_command(stage, name), root, force=force)
