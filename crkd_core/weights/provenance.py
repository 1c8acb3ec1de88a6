"""Where a trained model came from, as the manifest of shared weights tells it: data, commands and scores."""

import os
from collections.abc import Iterator
from pathlib import Path

from crkd_core.artifacts.command import Command
from crkd_core.artifacts.manifest import InputRef
from crkd_core.artifacts.remedy import manifest_of
from crkd_core.artifacts.workspace import Artifact, Workspace
from crkd_core.datasets.simulated.writer.world_folder import read_marker
from crkd_core.weights.shared import DataSet, Score

_OF_THIS_MACHINE = ("--workspace", "--nuscenes", "--device", "--force")


def data_set(workspace: Workspace, prepared: InputRef | None) -> DataSet | None:
    """The data set of prepared data; None where these are gone or have been remade."""
    manifest = manifest_of(workspace.root, prepared) if prepared is not None else None
    if manifest is None or prepared is None or manifest.digest != prepared.digest:
        return None
    marker = read_marker(Path(manifest.facts["dataroot"]))
    return DataSet(version=manifest.facts["version"], simulation=marker["config"] if marker is not None else None)


def scores_of(workspace: Workspace, model: Artifact) -> tuple[Score, ...]:
    """What evaluations of exactly this model in its workspace say, the oldest first."""
    return tuple(_scores(workspace, model))


def commands_of(workspace: Workspace, model: Artifact) -> tuple[str, ...]:
    """What made a model, the oldest first, without paths of the machine where that was."""
    commands = [portable(model.manifest.command)]
    inputs = dict(model.manifest.inputs)
    while inputs:
        role, ref = inputs.popitem()
        manifest = manifest_of(workspace.root, ref)
        if manifest is not None and manifest.digest == ref.digest and (text := portable(manifest.command)):
            commands.insert(0, text)
            inputs |= {f"{role}/{deeper}": made_from for deeper, made_from in manifest.inputs.items()}
    return tuple(dict.fromkeys(commands))


def portable(text: str) -> str:
    """A recorded command with names of files instead of paths, without what holds on one machine only."""
    command = Command.parse(text)
    if command is None:
        return text
    command = command.without(*_OF_THIS_MACHINE)
    return Command(
        command.name,
        tuple(_name_of(word) for word in command.arguments),
        tuple((option, None if value is None else _name_of(value)) for option, value in command.options),
    ).text(None)


def _name_of(word: str) -> str:
    return Path(word).name if os.path.isabs(word) else word


def _scores(workspace: Workspace, model: Artifact) -> Iterator[Score]:
    for evaluation in workspace.artifacts("evaluate"):
        inputs, facts = evaluation.manifest.inputs, evaluation.manifest.facts
        data = data_set(workspace, inputs.get("prepared"))
        if inputs.get("model") == model.reference() and data is not None and facts.get("mean_ap") is not None:
            yield Score(
                data=data,
                split=facts["split"],
                samples=facts["samples"],
                mean_ap=round(facts["mean_ap"], 4),
                nds=round(facts["nds"], 4),
            )
