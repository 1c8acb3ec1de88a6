"""Whether configurations and models belong to prepared data: whose classes, tasks and channels they were made for."""

from crkd_core.artifacts.run_config import read_run_config
from crkd_core.artifacts.workspace import Artifact
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
    own = read_run_config(model).dataset
    difference = description_difference(own, prepared.description)
    if difference is not None:
        raise StaleArtifactError(
            f"{model.label} was trained on {own.text_name}, and {prepared.artifact.label} is "
            f"{prepared.description.text_name} ({difference}); choose other data with --prepared, or train a model on "
            "these."
        )
