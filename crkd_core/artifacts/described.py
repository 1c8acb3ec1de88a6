"""The data-set description that an artifact was made with, as its manifest's settings hold it."""

from typing import Any

from crkd_core.artifacts.artifact import Artifact
from crkd_core.config.description import DatasetDescription
from crkd_core.config.description_files import nuscenes, validate_description
from crkd_core.errors import ConfigError

_KEY = "dataset"


def description_settings(description: DatasetDescription) -> dict[str, Any]:
    """What the settings of an artifact say of its data set: nothing where it is nuScenes."""
    return {} if description == nuscenes() else {_KEY: description.model_dump(mode="json", exclude_defaults=True)}


def description_of(artifact: Artifact) -> DatasetDescription:
    """The description that an artifact was made with; that of nuScenes where its settings say nothing.

    Raises:
        DamagedArtifactError: it cannot be read.
    """
    values = artifact.manifest.settings.get(_KEY)
    try:
        return nuscenes() if values is None else validate_description(values)
    except ConfigError as error:
        raise artifact.damaged("manifest.json", f"its data set's description cannot be read: {error}") from None
