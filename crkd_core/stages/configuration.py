"""Which configuration a stage runs with: the command's own, else that of the workspace's teacher."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from crkd_core.artifacts.command import Command
from crkd_core.artifacts.manifest import record_file
from crkd_core.artifacts.workspace import Artifact, Workspace
from crkd_core.config.loading import DEFAULT_PRESET, dump_config, load_config, with_overrides
from crkd_core.config.models import NMSConfig
from crkd_core.config.schema import Config
from crkd_core.errors import ConfigError, DamagedArtifactError
from crkd_core.stages.models import latest_model
from crkd_core.training.run_config import CONFIG_NAME, read_run_config


def resolve_config(
    workspace: Workspace, preset: str | None = None, file: Path | None = None, overrides: Sequence[str] = ()
) -> Config:
    """Preset, file and overrides, the last wins.

    Where neither a preset nor a file is named, a workspace that has a trained model keeps to that model's
    configuration (the latest teacher's, else the latest student's), so that the stages after it need no options.

    Raises:
        ConfigError: a key, value or file is wrong.
        DamagedArtifactError: that model's configuration is no longer what was written.
        StaleArtifactError: it is of another version of crkd.
    """
    if preset is None and file is None:
        earlier = latest_model(workspace)
        if earlier is not None:
            _check_undamaged(earlier)
            return with_overrides(read_run_config(earlier), overrides)
    return load_config(preset, file, overrides)


def pin_configuration(command: Command | None, stage: str, name: str, config: Config, workspace: Workspace) -> Command:
    """The command of a stage, such that it will have this configuration whatever becomes of files and models.

    A preset stays as it was given. A file, and what a model of the workspace was trained with, are kept as a copy in
    the workspace.

    Args:
        command: as it was given; None where the stage was not called from the command line.
        name: of the artifact.
    """
    if command is None:
        return Command(stage).keeping(workspace.root, name, dump_config(config))
    file = command.get("--config")
    if file is not None:
        return command.without("--preset", "--set").keeping(workspace.root, Path(file).stem, dump_config(config))
    model = latest_model(workspace) if not command.has("--preset") else None
    if model is not None:
        kept = command.keeping(workspace.root, model.name, dump_config(read_run_config(model)))
        return replace(kept, follows=model.reference())
    return command if command.has("--preset") else command.setting("--preset", DEFAULT_PRESET)


def _check_undamaged(model: Artifact) -> None:
    path = model.file(CONFIG_NAME)
    try:
        if record_file(path) == model.manifest.files.get(CONFIG_NAME):
            return
        problem = "its checksum differs from the manifest"
    except OSError as error:
        problem = f"it cannot be read: {error.strerror or error}"
    raise DamagedArtifactError(
        f"{path}, which says how {model.label} was trained, is damaged ({problem}); name the configuration with "
        f"--preset or --config, and make {model.label} again with it and --force."
    )


def resolve_nms(
    model: Artifact, preset: str | None = None, file: Path | None = None, overrides: Sequence[str] = ()
) -> NMSConfig | None:
    """How a trained model's boxes are to be selected; None where nothing but its own configuration is asked for.

    Overrides start from the configuration that the model was trained with.

    Raises:
        ConfigError: a key or value is wrong, or something is asked for that a trained model cannot change.
        DamagedArtifactError: the model's configuration is not readable.
        StaleArtifactError: it is of another version of crkd.
    """
    if preset is None and file is None and not overrides:
        return None
    own = read_run_config(model)
    role = model.manifest.settings["role"]
    wanted = with_overrides(own, overrides) if preset is None and file is None else load_config(preset, file, overrides)
    nms = getattr(wanted, role).head.nms
    if file is None and preset is None and wanted != _with_nms(own, role, nms):
        raise ConfigError(
            f"{model.label} is trained: of its configuration only {role}.head.nms can be changed now, found "
            f"{', '.join(overrides)}."
        )
    return nms


def _with_nms(config: Config, role: str, nms: NMSConfig) -> Config:
    detector = getattr(config, role)
    head = detector.head.model_copy(update={"nms": nms})
    return config.model_copy(update={role: detector.model_copy(update={"head": head})})
