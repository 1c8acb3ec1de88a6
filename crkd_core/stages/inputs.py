"""Finding prepared data for a stage, and checking that a configuration fits it."""

from collections.abc import Sequence
from pathlib import Path

from crkd_core.artifacts.command import Command
from crkd_core.artifacts.location import absolute
from crkd_core.artifacts.workspace import Workspace
from crkd_core.config.data import DataConfig
from crkd_core.data.prepared import PreparedData
from crkd_core.errors import ConfigError, DatasetError

STAGE = "prepare"
_MAKE = f"crkd {STAGE} --nuscenes DIR"


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
        ConfigError: a sensor that the detector needs was missing when the data were prepared, or fewer sweeps were
            prepared than the configuration uses.
        DatasetError: the folder of the sensor files is not there.
    """
    artifact = workspace.find(STAGE, name, needed_for=needed_for, make=_MAKE)
    prepared = PreparedData(artifact, nuscenes)
    check_fit(prepared, data, modalities)
    if set(modalities) - {"radar"}:
        check_dataroot(prepared)
    return prepared


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
                f"it to at most {found}, or run: {_prepare_again(prepared, modality, wanted)}"
            )


def _prepare_again(prepared: PreparedData, modality: str, sweeps: int) -> str:
    return prepared.artifact.remake_command(nuscenes=str(absolute(prepared.dataroot)), **{f"{modality}_sweeps": sweeps})


def pin_machine(command: Command, nuscenes: Path | None, device: str) -> Command:
    """The command of a stage with the data set's place and the device, where they were named."""
    if nuscenes is not None:
        command = command.setting("--nuscenes", absolute(nuscenes))
    return command if device == "auto" else command.setting("--device", device)
