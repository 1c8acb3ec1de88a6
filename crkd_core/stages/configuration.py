"""Which configuration a stage runs with: the command's own, else that of the workspace's teacher."""

from collections.abc import Sequence
from pathlib import Path

from crkd_core.artifacts.workspace import Artifact, Workspace
from crkd_core.config.loading import load_config
from crkd_core.config.schema import Config

CONFIG_NAME = "config.yaml"


def resolve_config(
    workspace: Workspace, preset: str | None = None, file: Path | None = None, overrides: Sequence[str] = ()
) -> Config:
    """Preset, file and overrides, the last wins.

    Where neither a preset nor a file is named, a workspace that has a trained model keeps to that model's
    configuration (the latest teacher's, else the latest student's), so that the stages after it need no options.

    Raises:
        ConfigError: a key, value or file is wrong.
    """
    if preset is None and file is None:
        earlier = latest_model(workspace)
        if earlier is not None:
            file = earlier.file(CONFIG_NAME)
    return load_config(preset, file, overrides)


def latest_model(workspace: Workspace) -> Artifact | None:
    """The latest teacher, else the latest student."""
    for stage in ("train-teacher", "distill"):
        found = workspace.artifacts(stage)
        if found:
            return found[-1]
    return None
