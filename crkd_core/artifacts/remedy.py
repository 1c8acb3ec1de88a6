"""Why an artifact can no longer be used, and which command has to run first so that it can."""

from dataclasses import dataclass
from pathlib import Path

from crkd_core.artifacts.command import Command, command_text
from crkd_core.artifacts.location import absolute
from crkd_core.artifacts.manifest import InputRef, Manifest, read_manifest
from crkd_core.errors import DamagedArtifactError

_FIRST_COMMANDS = {
    "prepare": "crkd prepare --nuscenes DIR --name {name}",
    "train-teacher": "crkd train-teacher --name {name}",
    "extract-teacher": "crkd extract-teacher --name {name}",
    "distill": "crkd distill --name {name}",
    "evaluate": "crkd evaluate",
    "import-weights": "crkd import-weights FILE --as backbone --name {name}",
}


@dataclass(frozen=True)
class Remedy:
    """What to do about an artifact.

    Attributes:
        label: what the command makes: the artifact itself, or what it was made from and has to come first.
        command: to be pasted.
    """

    label: str
    command: str


def folder_of(root: Path, ref: InputRef) -> Path:
    """Where an input lives."""
    return root / ref.stage / ref.name


def staleness(root: Path, manifest: Manifest) -> str | None:
    """Why an artifact no longer matches what it was made from; None where it does.

    An input that was deleted does not make it stale: what was made from it is still what it was.
    """
    for role, ref in manifest.inputs.items():
        made_from = read_manifest(folder_of(root, ref))
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
    """What makes a stale or damaged artifact again; first of all what it was made from, where that is no better.

    Raises:
        DamagedArtifactError: the manifest of something that it was made from cannot be read.
    """
    for ref in manifest.inputs.values():
        made_from = read_manifest(folder_of(root, ref))
        if made_from is None:
            return Remedy(f"{ref.stage}/{ref.name}", command_text(first_command(ref.stage, ref.name), root))
        if wrong_size(folder_of(root, ref), made_from) or staleness(root, made_from):
            return remedy(root, made_from)
    return Remedy(f"{manifest.stage}/{manifest.name}", command_text(own_command(root, manifest), root, force=True))


def first_command(stage: str, name: str) -> str:
    """A command that makes an artifact of which nothing is known but its name."""
    return _FIRST_COMMANDS.get(stage, f"crkd {stage} --name {{name}}").format(name=name)


def own_command(root: Path, manifest: Manifest) -> str:
    """What makes an artifact again, as it was, or after a model whose configuration it keeps to."""
    command, model = Command.parse(manifest.command), manifest.follows
    if command is None or model is None or not _is_made_anew(root, manifest, model):
        return manifest.command
    # Made again because the model whose configuration it keeps to was: then that model's configuration of today.
    return command.moved(root).setting("--config", folder_of(absolute(root), model) / "config.yaml").text(root)


def _is_made_anew(root: Path, manifest: Manifest, model: InputRef) -> bool:
    """Whether the model is another now, and the artifact was made from it."""
    try:
        current = read_manifest(folder_of(root, model))
        return current is not None and current.digest != model.digest and _is_made_from(root, manifest, model)
    except DamagedArtifactError:
        return False


def _is_made_from(root: Path, manifest: Manifest, model: InputRef) -> bool:
    for ref in manifest.inputs.values():
        if (ref.stage, ref.name) == (model.stage, model.name):
            return True
        made_from = read_manifest(folder_of(root, ref))
        if made_from is not None and _is_made_from(root, made_from, model):
            return True
    return False
