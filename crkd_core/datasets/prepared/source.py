"""Finding prepared data for a stage, and checking that a configuration fits it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from crkd_core.artifacts.command import Command
from crkd_core.artifacts.location import absolute
from crkd_core.artifacts.manifest import InputRef
from crkd_core.artifacts.prepared_format import check_format
from crkd_core.artifacts.workspace import Artifact, Workspace
from crkd_core.config.data import NUSCENES_COLUMNS, DataConfig
from crkd_core.config.split_names import TRAIN
from crkd_core.datasets.prepared.prepare_request import STAGE
from crkd_core.datasets.prepared.prepared_data import PreparedData
from crkd_core.datasets.prepared.preset_fit import image_misfit
from crkd_core.errors import ConfigError, DatasetError, UsageError
from crkd_core.progress import Progress

_MAKE = f"crkd {STAGE} --nuscenes DIR"


@dataclass(frozen=True)
class PreparedSource:
    """What decides between several prepared data sets of a workspace.

    Attributes:
        split: which they must have.
        made_from: what a model or targets were made from: preferred where it has the split.
        progress: told where the choice is between equals.
    """

    split: str
    made_from: InputRef | None = None
    progress: Progress | None = None


def open_prepared(
    workspace: Workspace,
    name: str | None,
    nuscenes: Path | None,
    data: DataConfig,
    modalities: Sequence[str],
    needed_for: str,
    source: PreparedSource | None = None,
) -> PreparedData:
    """The prepared data that a stage works on.

    Args:
        name: name of the prepared data; None for the latest that suits `source`.
        nuscenes: where the data set is now, if it moved since it was prepared.
        modalities: sensors that the stage needs.
        needed_for: the command, for messages.

    Raises:
        MissingArtifactError: nothing is prepared.
        StaleArtifactError: it was prepared in an older format.
        ConfigError: a sensor that the detector needs was missing when the data were prepared, or fewer sweeps were
            prepared than the configuration uses.
        DatasetError: the folder of the sensor files is not there.
        UsageError: none of several prepared data have the split.
    """
    prepared = PreparedData(find_prepared(workspace, name, needed_for, source, modalities), nuscenes)
    check_fit(prepared, data, modalities)
    if set(modalities) - {"radar"}:
        check_dataroot(prepared)
    return prepared


def check_objects(prepared: PreparedData, tokens: Sequence[str], data: DataConfig) -> None:
    """Refuse to train on samples without a single object to learn from.

    Raises:
        DatasetError: saying what became of the annotated objects.
    """
    objects = prepared.count_objects(tokens, data.grid)
    if objects.inside:
        return
    if not objects.annotated:
        problem = "none is annotated; unpack the annotations of the training split, and prepare the data again"
    elif not objects.with_points:
        problem = f"none of {objects.annotated} annotated ones has a LiDAR or radar point; check num_lidar_pts"
    else:
        (left, right), (behind, ahead) = data.grid.x_range_m, data.grid.y_range_m
        problem = (
            f"all {objects.with_points} annotated ones with points lie outside of the grid (x {left:g} to {right:g} m, "
            f"y {behind:g} to {ahead:g} m); set data.grid.x_range_m and data.grid.y_range_m, or check the boxes' frame"
        )
    raise DatasetError(f"the {len(tokens)} training samples of {prepared.artifact.label} have no object: {problem}.")


def find_prepared(
    workspace: Workspace,
    name: str | None,
    needed_for: str,
    source: PreparedSource | None = None,
    modalities: Sequence[str] = (),
) -> Artifact:
    """The artifact of :func:`open_prepared`, which has the same arguments and errors but for its files."""
    if name is None and source is not None:
        name = _choose(workspace, source, modalities, needed_for)
    artifact = workspace.find(STAGE, name, needed_for=needed_for, make=_MAKE)
    check_format(artifact)
    return artifact


def prepared_with(workspace: Workspace, split: str, modalities: Sequence[str] = ()) -> list[Artifact]:
    """All prepared data that have a split and the sensors, oldest first."""
    prepared = [PreparedData(artifact) for artifact in workspace.artifacts(STAGE)]
    return [p.artifact for p in prepared if p.has_split(split) and set(modalities) <= set(p.modalities)]


def _choose(workspace: Workspace, source: PreparedSource, modalities: Sequence[str], needed_for: str) -> str | None:
    """Name of the prepared data to take; None for the only ones there are, which then say what they lack."""
    prepared = workspace.artifacts(STAGE)
    if len(prepared) < 2:
        return None
    fitting = prepared_with(workspace, source.split, modalities) or prepared_with(workspace, source.split)
    if not fitting:
        splits = "; ".join(f"{data.name} has {', '.join(PreparedData(data).splits) or 'none'}" for data in prepared)
        raise UsageError(
            f"{needed_for} needs the split {source.split}, which no prepared data have ({splits}); choose another "
            "--split, or prepare data that have it with: crkd prepare --nuscenes DIR"
        )
    if source.made_from is not None and source.made_from.name in {data.name for data in fitting}:
        return source.made_from.name
    if len(fitting) > 1 and source.progress is not None:
        others = ", ".join(data.name for data in fitting[:-1])
        source.progress.message(
            f"using {fitting[-1].label}, the latest that has {source.split} (so has {others}: choose with --prepared)"
        )
    return fitting[-1].name


def check_dataroot(prepared: PreparedData) -> None:
    """Refuse to begin where the sensor files are gone.

    Raises:
        DatasetError: the data set's folder is not there.
    """
    if not prepared.dataroot.is_dir():
        raise DatasetError(
            f"{prepared.dataroot}, the data set of {prepared.artifact.label}, is not a folder; say where it is now "
            "with --nuscenes DIR."
        )


def check_fit(prepared: PreparedData, data: DataConfig, modalities: Sequence[str]) -> None:
    """Refuse a configuration that asks for more than was prepared.

    Raises:
        ConfigError: naming what is asked for and what there is.
    """
    label, available = prepared.artifact.label, prepared.modalities
    absent = [modality for modality in modalities if modality not in available]
    if absent:
        raise ConfigError(
            f"the configuration needs {', '.join(modalities)}, and {label} has {', '.join(available)} "
            "only; choose other modalities, or prepare a data set that has them."
        )
    columns = data.lidar.columns
    if columns not in (NUSCENES_COLUMNS, prepared.lidar_columns):
        raise ConfigError(
            f"data.lidar.columns is {columns} and {label} was prepared with {prepared.lidar_columns}; leave it out, or "
            f"run: crkd prepare --nuscenes {prepared.dataroot} --set data.lidar.columns={columns} --force"
        )
    for modality, needed in (("lidar", data.lidar.sweeps), ("radar", data.radar.sweeps)):
        available_sweeps = prepared.sweeps[modality] if modality in modalities else needed
        if available_sweeps < needed:
            misfit = image_misfit(prepared, data.image) if "camera" in modalities else None
            if misfit:
                raise ConfigError(
                    f"data.{modality}.sweeps asks for {needed} sweeps where {available_sweeps} were prepared; {misfit}"
                )
            raise ConfigError(
                f"data.{modality}.sweeps asks for {needed} sweeps and {label} was prepared with {available_sweeps}; "
                f"set it to at most {available_sweeps}, or run: {_prepare_again(prepared, modality, needed)}"
            )


def split_settings(prepared: PreparedData, split: str) -> dict[str, str]:
    """What a training run's settings say of the split it was trained on: nothing where that is ``train``."""
    official = prepared.official_split(split)
    return {} if split == TRAIN or official == f"mini_{TRAIN}" else {"split": official}


def pin_split(command: Command, split: str) -> Command:
    """The command of a training stage with the split it trains on, unless that is ``train``."""
    return command if split == TRAIN else command.setting("--split", split)


def split_slug(split: str) -> str:
    """A split's name as part of a run's: splits of one's own may be called anything."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", split).strip("-") or "split"


def warn_of_misfit(prepared: PreparedData, data: DataConfig, modalities: Sequence[str], progress: Progress) -> None:
    """Say it where a configuration is plainly made for other images, such as those of a preset that was forgotten."""
    misfit = image_misfit(prepared, data.image) if "camera" in modalities else None
    if misfit:
        progress.warning(misfit)


def _prepare_again(prepared: PreparedData, modality: str, sweeps: int) -> str:
    return prepared.artifact.remake_command(nuscenes=str(absolute(prepared.dataroot)), **{f"{modality}_sweeps": sweeps})


def pin_machine(command: Command, nuscenes: Path | None, device: str) -> Command:
    """The command of a stage with the data set's place and the device, where they were named."""
    if nuscenes is not None:
        command = command.setting("--nuscenes", absolute(nuscenes))
    return command if device == "auto" else command.setting("--device", device)
