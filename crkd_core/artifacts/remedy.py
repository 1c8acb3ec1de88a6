"""Why an artifact can no longer be used, and which command has to run first so that it can."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from crkd_core.artifacts.command import Command, command_text, first_command, unknown_inputs
from crkd_core.artifacts.location import absolute
from crkd_core.artifacts.manifest import InputRef, Manifest, read_manifest
from crkd_core.artifacts.run_folder import RunFolder
from crkd_core.errors import DamagedArtifactError


@dataclass(frozen=True)
class Remedy:
    """What to do about an artifact.

    Attributes:
        label: what the command makes: the artifact itself, or what it was made from and has to come first.
        command: to be pasted.
        unknown: what the command does not say because nobody knows; empty where it says all.
    """

    label: str
    command: str
    unknown: str = ""


def folder_of(root: Path, ref: InputRef) -> Path:
    """Where an input lives."""
    return root / ref.stage / ref.name


def manifest_of(root: Path, ref: InputRef) -> Manifest | None:
    """What an input's name stands for today; None where that is nothing, or cannot be read."""
    folder = RunFolder(folder_of(root, ref), ref.stage, ref.name).locate()
    with suppress(DamagedArtifactError):
        manifest = read_manifest(folder) if folder is not None else None
        if manifest is not None and (manifest.stage, manifest.name) == (ref.stage, ref.name):
            return manifest
    return None


def staleness(root: Path, manifest: Manifest) -> str | None:
    """Why an artifact no longer matches what it was made from; None where it does.

    An input that was deleted or damaged does not make it stale: what was made from it is still what it was.
    """
    for role, ref in manifest.inputs.items():
        made_from = manifest_of(root, ref)
        if made_from is not None and made_from.digest != ref.digest:
            return f"its {role} {ref.stage}/{ref.name} has been remade since"
        deeper = staleness(root, made_from) if made_from is not None else None
        if deeper:
            return f"its {role} {ref.stage}/{ref.name} is stale ({deeper})"
    return None


def wrong_size(folder: Path, manifest: Manifest) -> str | None:
    """The first file that is missing or has another size than recorded; None where there is none."""
    for relative, record in manifest.files.items():
        try:
            size = (folder / relative).stat().st_size
        except OSError:
            return f"{relative} is missing"
        if size != record.size:
            return f"{relative} has {size} bytes instead of {record.size}"
    return None


def remedy(root: Path, manifest: Manifest) -> Remedy:
    """What makes a stale or damaged artifact again; first of all what it was made from, where that is no better."""
    for ref in manifest.inputs.values():
        made_from = manifest_of(root, ref)
        if made_from is None:
            return _first_again(root, ref)
        if wrong_size(folder_of(root, ref), made_from) or staleness(root, made_from):
            return remedy(root, made_from)
    return Remedy(f"{manifest.stage}/{manifest.name}", command_text(own_command(root, manifest), root, force=True))


def _first_again(root: Path, ref: InputRef) -> Remedy:
    """What makes an input again that is not there, or whose manifest cannot be read."""
    command, damaged = "", False
    try:
        read_manifest(folder_of(root, ref))
    except DamagedArtifactError as error:
        command, damaged = error.command or "", True
    text = command_text(command or first_command(ref.stage, ref.name), root, force=damaged)
    return Remedy(f"{ref.stage}/{ref.name}", text, "" if command else unknown_inputs(ref.stage))


def own_command(root: Path, manifest: Manifest) -> str:
    """What makes an artifact again, as it was, or after a model whose configuration it keeps to."""
    command, model = Command.parse(manifest.command), manifest.follows
    if command is None or model is None or not _is_made_from(root, manifest, model):
        return manifest.command
    current = manifest_of(root, model)
    if current is None or current.digest == model.digest:
        return manifest.command
    # Made again because the model whose configuration it keeps to was: then that model's configuration of today.
    return command.moved(root).setting("--config", folder_of(absolute(root), model) / "config.yaml").text(root)


def _is_made_from(root: Path, manifest: Manifest, model: InputRef) -> bool:
    for ref in manifest.inputs.values():
        if (ref.stage, ref.name) == (model.stage, model.name):
            return True
        made_from = manifest_of(root, ref)
        if made_from is not None and _is_made_from(root, made_from, model):
            return True
    return False
