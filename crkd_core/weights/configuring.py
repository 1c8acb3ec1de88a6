"""Which configuration imported weights get, and the command that gives it to them again."""

from collections.abc import Sequence
from dataclasses import dataclass

from crkd_core.artifacts.command import Command
from crkd_core.artifacts.configuration import pin_configuration, resolve_config
from crkd_core.artifacts.find_model import latest_model
from crkd_core.artifacts.workspace import Workspace
from crkd_core.config.loading import load_config, with_overrides
from crkd_core.config.schema import Config
from crkd_core.progress import Progress
from crkd_core.weights.importing import PublishedCheckpoint


@dataclass(frozen=True)
class ImportCommand:
    """How an import was asked for.

    Attributes:
        stage, name: of the artifact.
        given: as it was typed; None where it was not.
        config: the configuration that was named; None where none was.
        overrides: ``section.field=value`` changes of another one.
    """

    stage: str
    name: str
    given: Command | None = None
    config: Config | None = None
    overrides: Sequence[str] = ()


def choose_config(
    asked: ImportCommand, checkpoint: PublishedCheckpoint, workspace: Workspace, progress: Progress
) -> tuple[Config, Command]:
    """The configuration of imported weights, and a command that names it whatever the workspace holds later.

    It is what was named, else what the file brings, else the workspace's, if that has the file's kind of image
    backbone, else the preset of the published model.

    Raises:
        ConfigError: an override is wrong, or the file's configuration is of another version of crkd.
    """
    if asked.config is not None:
        return asked.config, pin_configuration(asked.given, asked.stage, asked.name, asked.config, workspace)
    own = checkpoint.source.config()
    if own is not None:
        command = asked.given or Command(asked.stage, options=tuple(("--set", change) for change in asked.overrides))
        return with_overrides(own, asked.overrides), command
    if latest_model(workspace) is not None:
        config = resolve_config(workspace)
        if checkpoint.has_backbone_of(config):
            config = with_overrides(config, asked.overrides)
            return config, pin_configuration(asked.given, asked.stage, asked.name, config, workspace)
    progress.message(f"the file decides the configuration: --preset {checkpoint.preset}")
    config = load_config(checkpoint.preset, None, asked.overrides)
    if asked.given is None:
        return config, pin_configuration(None, asked.stage, asked.name, config, workspace)
    return config, asked.given.setting("--preset", checkpoint.preset)


def warn_of_changes(checkpoint: PublishedCheckpoint, config: Config, progress: Progress) -> None:
    """Say it where the model is to compute something else, or see other data, than what it was trained with."""
    own = checkpoint.source.config()
    section = "teacher" if checkpoint.role == "teacher" else "student"
    changed = [
        f"{part}.{key}"
        for part in ("data", section)
        for key, value in (getattr(own, part) if own is not None else ())
        if getattr(getattr(config, part), key) != value
    ]
    if changed:
        progress.warning(
            f"{checkpoint.source.label} was trained with other settings of {', '.join(changed)}; its recorded scores "
            "are not those of this model"
        )
