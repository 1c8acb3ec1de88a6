"""Finding prepared data for a stage, and checking that a configuration fits it."""

from collections.abc import Sequence
from pathlib import Path

from crkd_core.artifacts.workspace import Workspace
from crkd_core.config.data import DataConfig
from crkd_core.data import preparing
from crkd_core.data.prepared import PreparedData
from crkd_core.errors import ConfigError, DatasetError

STAGE = "prepare"


def open_prepared(
    workspace: Workspace,
    name: str | None,
    nuscenes: Path | None,
    data: DataConfig,
    modalities: Sequence[str],
    needed_for: str,
) -> PreparedData:
    """The prepared data that a stage works on.

    Args:
        name: name of the prepared data; None for the latest.
        nuscenes: where the data set is now, if it moved since it was prepared.
        modalities: sensors that the stage needs.
        needed_for: the command, for messages.

    Raises:
        MissingArtifactError: nothing is prepared.
        StaleArtifactError: it was prepared in an older format.
        ConfigError: a sensor that the detector needs was missing when the data were prepared, or fewer sweeps were
            prepared than the configuration uses.
        DatasetError: the folder of the sensor files is not there.
    """
    artifact = workspace.find(STAGE, name, needed_for=needed_for, make="crkd prepare --nuscenes DIR")
    preparing.check_format(artifact)
    prepared = PreparedData(artifact, nuscenes)
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
            f"only; choose other "
            "modalities, or prepare a data set that has them."
        )
    for modality, wanted in (("lidar", data.lidar.sweeps), ("radar", data.radar.sweeps)):
        found = prepared.sweeps[modality] if modality in modalities else wanted
        if found < wanted:
            raise ConfigError(
                f"data.{modality}.sweeps asks for {wanted} sweeps and {label} was prepared with {found}; set "
                f"it to at most "
                f"{found}, or run: crkd prepare --{modality}-sweeps {wanted} --force"
            )
