"""Which configuration a stage runs with: the command's own, else that of the workspace's teacher."""

import shlex
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from crkd_core.artifacts.artifact import Artifact
from crkd_core.artifacts.command import Command
from crkd_core.artifacts.find_model import MODEL_STAGES, latest_model
from crkd_core.artifacts.manifest import record_file
from crkd_core.artifacts.run_config import CONFIG_NAME, read_run_config
from crkd_core.artifacts.workspace import Workspace
from crkd_core.config.data import DataConfig, ImageConfig
from crkd_core.config.loading import DEFAULT_PRESET, dump_config, load_config, preset_names, with_overrides
from crkd_core.config.models import NMSConfig
from crkd_core.config.schema import Config
from crkd_core.errors import ArtifactError, ConfigError, DamagedArtifactError
from crkd_core.progress import Progress, SilentProgress


def resolve_config(
    workspace: Workspace,
    preset: str | None = None,
    file: Path | None = None,
    overrides: Sequence[str] = (),
    progress: Progress | None = None,
) -> Config:
    """Preset, file and overrides, the last wins.

    Where neither a preset nor a file is named, a workspace that has a trained model keeps to that model's
    configuration (the latest teacher's, else the latest student's), so that the stages after it need no options. Where
    only a file is named, it goes on top of the preset that this model was trained with. `progress` is told of both, and
    warned where the models of the workspace are not of one kind.

    Raises:
        ConfigError: a key, value or file is wrong.
        DamagedArtifactError: that model's configuration is no longer what was written.
        StaleArtifactError: it is of another version of crkd.
    """
    progress = progress or SilentProgress()
    model = latest_model(workspace) if preset is None else None
    if model is None:
        return load_config(preset, file, overrides)
    if file is not None:
        return load_config(_preset_of(model, file, progress), file, overrides)
    _check_undamaged(model)
    config = with_overrides(read_run_config(model), overrides)
    progress.message(f"the configuration is that of {model.label}")
    _warn_of_other_kinds(model, workspace, progress)
    return config


def data_to_prepare(
    workspace: Workspace, preset: str | None = None, file: Path | None = None, overrides: Sequence[str] = ()
) -> DataConfig:
    """What data are prepared for: as many sweeps as preset, file and overrides ask for.

    Where neither a preset nor a file is named, they are at least as many as any model of the workspace uses.

    Raises:
        ConfigError: a key, value or file is wrong.
    """
    if preset is not None or file is not None:
        return resolve_config(workspace, preset, file, overrides).data
    raised = []
    for sensor, least in (("lidar", load_config().data.lidar.sweeps), ("radar", load_config().data.radar.sweeps)):
        used = [settings.get(sensor, {}).get("sweeps", 0) for settings in map(_data_settings, models(workspace))]
        raised.append(f"data.{sensor}.sweeps={max([least, *used])}")
    return load_config(None, None, [*raised, *overrides]).data


def _preset_of(model: Artifact, file: Path, progress: Progress) -> str:
    """The preset that, with the file on top, is nearest to what a model was trained with; of equal ones the default."""
    try:
        trained = dict(_leaves(read_run_config(model).model_dump(mode="json")))
    except ArtifactError:
        return DEFAULT_PRESET
    differences = {}
    for name in (DEFAULT_PRESET, *preset_names()):
        with suppress(ConfigError):
            leaves = dict(_leaves(load_config(name, file).model_dump(mode="json")))
            keys = leaves.keys() | trained.keys()
            differences[name] = sum(leaves.get(key) != trained.get(key) for key in keys)
    nearest = min(differences, key=lambda name: differences[name], default=DEFAULT_PRESET)
    if nearest != DEFAULT_PRESET:
        progress.message(f"{file} goes on top of the preset {nearest}, that of {model.label}; --preset names another")
    return nearest


def _leaves(values: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(values, dict):
        yield path, values
        return
    for key, value in values.items():
        yield from _leaves(value, f"{path}.{key}" if path else str(key))


def _warn_of_other_kinds(model: Artifact, workspace: Workspace, progress: Progress) -> None:
    """Say it where other models see another area or other images than the one whose configuration is taken."""
    own = dict(_kind(model))
    for other in models(workspace):
        differing = [(key, value) for key, value in _kind(other) if own.get(key, value) != value]
        if differing:
            key, value = differing[0]
            progress.warning(
                f"the models of {workspace.root} differ: {model.label}, whose configuration is taken, has data.{key} = "
                f"{own[key]}, and {other.label} has {value}; for the latter's, add --config "
                f"{shlex.quote(str(other.file(CONFIG_NAME)))}"
            )
            return


def _kind(model: Artifact) -> Iterator[tuple[str, Any]]:
    settings = _data_settings(model)
    image = {"decode": ImageConfig().decode, **settings.get("image", {})}
    return _leaves({"grid": settings.get("grid", {}), "image": image})


def _data_settings(model: Artifact) -> dict[str, Any]:
    settings = model.manifest.settings.get("data")
    return settings if isinstance(settings, dict) else {}


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


def models(workspace: Workspace) -> list[Artifact]:
    """All trained models, teachers first, the latest of each first."""
    return [model for stage in MODEL_STAGES for model in reversed(workspace.artifacts(stage))]


def resolve_nms(
    model: Artifact, preset: str | None = None, file: Path | None = None, overrides: Sequence[str] = ()
) -> NMSConfig | None:
    """How a trained model's boxes are to be selected; None where nothing but its own configuration is asked for.

    File and overrides start from the configuration that the model was trained with, unless a preset is named.

    Raises:
        ConfigError: a key or value is wrong, or something is asked for that a trained model cannot change.
        DamagedArtifactError: the model's configuration is not readable.
        StaleArtifactError: it is of another version of crkd.
    """
    if preset is None and file is None and not overrides:
        return None
    own = read_run_config(model)
    role = model.manifest.settings["role"]
    chosen = with_overrides(own, overrides, file=file) if preset is None else load_config(preset, file, overrides)
    nms: NMSConfig = getattr(chosen, role).head.nms
    if file is None and preset is None and chosen != _with_nms(own, role, nms):
        raise ConfigError(
            f"{model.label} is trained: of its configuration only {role}.head.nms can be changed now, found "
            f"{', '.join(overrides)}."
        )
    return nms


def _with_nms(config: Config, role: str, nms: NMSConfig) -> Config:
    detector = getattr(config, role)
    head = detector.head.model_copy(update={"nms": nms})
    return config.model_copy(update={role: detector.model_copy(update={"head": head})})
