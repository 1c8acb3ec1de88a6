"""Which description a version folder fits, by the channels in its table of sensors."""

from pathlib import Path

from crkd_core.artifacts.location import quoted
from crkd_core.config.description import DatasetDescription
from crkd_core.config.description_files import dataset_names, known_description, nuscenes
from crkd_core.config.explaining import suggestion
from crkd_core.datasets.nuscenes.channels import SensorChannels
from crkd_core.datasets.nuscenes.records import TableReader
from crkd_core.datasets.nuscenes.table_records import SensorRecord
from crkd_core.errors import DatasetError

CAMERA, LIDAR, RADAR = "camera", "lidar", "radar"
_NAMED = 12


def sensors_of(folder: Path) -> dict[str, str]:
    """Channel and modality ("" where the table does not say it) of every sensor of a version folder.

    Raises:
        DatasetError: the table is missing or damaged.
    """
    table = TableReader(folder, "sensor", SensorRecord)
    return {table.text(record, "channel"): table.text(record, "modality", "").lower() for record in table}


def recognise(folder: Path) -> DatasetDescription:
    """The description that comes with the package and names the LiDAR of a version folder; nuScenes' comes first.

    Raises:
        DatasetError: none does.
    """
    sensors = sensors_of(folder)
    description = _with_reference_in(sensors)
    if description is None:
        raise _unknown_sensors(folder, sensors)
    return description


def check_channels(folder: Path, description: DatasetDescription) -> None:
    """Refuse channels of a description that the tables do not have, or have as another kind of sensor.

    The files of nuScenes' own sensors may be missing, and are then told as such.

    Raises:
        DatasetError: naming one.
    """
    sensors, channels = sensors_of(folder), SensorChannels.of(description)
    if description in _known_descriptions() and not _has_reference(sensors, description):
        known = _with_reference_in(sensors)
        if known is None:
            raise _unknown_sensors(folder, sensors)
        raise DatasetError(
            f"{folder} has the sensors of {known.text_name} and not those of {description.text_name}; say --dataset "
            f"{known.name}."
        )
    if description == nuscenes():
        return
    kinds = (
        ("cameras", CAMERA, channels.cameras),
        ("lidars", LIDAR, channels.lidars),
        ("radars", RADAR, channels.radars),
    )
    for field, modality, names in kinds:
        for name in names:
            if name not in sensors:
                raise DatasetError(
                    f"{field} of the description {description.name} name {name!r}, which sensor.json of {folder} does "
                    f"not have{suggestion(name, list(sensors))}"
                )
            if sensors[name] not in ("", modality):
                raise DatasetError(
                    f"{field} of the description {description.name} name {name!r}, which sensor.json of {folder} calls "
                    f"a {sensors[name]}; move it to the sensors of its kind."
                )


def _known_descriptions() -> list[DatasetDescription]:
    return [nuscenes(), *map(known_description, dataset_names())]


def _with_reference_in(sensors: dict[str, str]) -> DatasetDescription | None:
    return next((entry for entry in _known_descriptions() if _has_reference(sensors, entry)), None)


def _has_reference(sensors: dict[str, str], description: DatasetDescription) -> bool:
    # A name that differs in case is told by the reader.
    return description.reference.lower() in {name.lower() for name in sensors}


def _unknown_sensors(folder: Path, sensors: dict[str, str]) -> DatasetError:
    return DatasetError(
        f"{folder} has the sensors {_some(sensors)}, which no data set that crkd knows has; add --dataset car.yaml "
        f"after you describe yours: crkd prepare --nuscenes {quoted(folder.parent)} --describe --out car.yaml"
    )


def _some(sensors: dict[str, str]) -> str:
    names = sorted(sensors)
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "") if names else "none"
