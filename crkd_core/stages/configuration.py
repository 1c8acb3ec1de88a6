"""Which configuration a stage runs with: the command's own, else that of the workspace's teacher."""

from collections.abc import Sequence
from pathlib import Path

from crkd_core.artifacts.manifest import record_file
from crkd_core.artifacts.workspace import Artifact, Workspace
from crkd_core.config.loading import load_config, with_overrides
from crkd_core.config.models import NMSConfig
from crkd_core.config.schema import Config
from crkd_core.errors import ConfigError, DamagedArtifactError
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


def latest_model(workspace: Workspace) -> Artifact | None:
    """The latest teacher, else the latest student.

    Raises:
        DamagedArtifactError: its manifest is damaged.
    """
    for stage in ("train-teacher", "distill"):
        latest = next(workspace.newest_first(stage), None)
        if latest is not None:
            return latest
    return None


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
