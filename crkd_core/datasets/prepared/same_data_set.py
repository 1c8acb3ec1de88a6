"""Whether configurations, models and teacher targets are of the classes, tasks and channels of prepared data."""

from crkd_core.artifacts.described import description_of
from crkd_core.artifacts.run_config import read_run_config
from crkd_core.artifacts.workspace import Artifact
from crkd_core.config.description import DatasetDescription
from crkd_core.config.description_difference import description_difference
from crkd_core.config.loading import configured_for
from crkd_core.config.schema import Config
from crkd_core.datasets.prepared.prepared_data import PreparedData
from crkd_core.errors import StaleArtifactError


def configured_for_data(config: Config, prepared: PreparedData) -> Config:
    """A configuration with the description of the data it is used on.

    Raises:
        ConfigError: it says another description, or names what the data do not have.
    """
    return configured_for(config, prepared.description, prepared.artifact.label)


def require_same_data_set(model: Artifact, prepared: PreparedData) -> None:
    """Refuse a trained model whose data were described otherwise, as far as that matters to it.

    Raises:
        StaleArtifactError: naming the difference.
        DamagedArtifactError: the model's configuration cannot be read.
    """
    _compare(read_run_config(model).dataset, f"{model.label} was trained on", prepared, "train a model on these")


def require_targets_of_data_set(targets: Artifact, prepared: PreparedData) -> None:
    """Refuse stored teacher targets of data that were described otherwise, though they are of the same tables.

    Raises:
        StaleArtifactError: naming the difference.
        DamagedArtifactError: their description cannot be read.
    """
    _compare(description_of(targets), f"{targets.label} was made of", prepared, "extract targets of these")


def _compare(own: DatasetDescription, made_of: str, prepared: PreparedData, remedy: str) -> None:
    difference = description_difference(own, prepared.description)
    if difference is not None:
        raise StaleArtifactError(
            f"{made_of} {own.text_name}, and {prepared.artifact.label} is {prepared.description.text_name} "
            f"({difference}); choose other data with --prepared, or {remedy}."
        )
