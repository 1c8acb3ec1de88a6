"""The configuration of a finished training run, as it lies beside the weights."""

from dataclasses import dataclass

from pydantic import ValidationError

from crkd_core.artifacts.artifact import Artifact
from crkd_core.config.loading import validate_config
from crkd_core.config.models import DetectorConfig
from crkd_core.config.schema import Config
from crkd_core.config.train import WeightsKind
from crkd_core.config.yaml_reader import read_yaml
from crkd_core.errors import ConfigError, StaleArtifactError

CONFIG_NAME = "config.yaml"


@dataclass(frozen=True)
class RunConfiguration:
    """What a model was trained with.

    Attributes:
        config: the whole resolved configuration of its run.
        detector: what built its detector: the section of its role, the plain student's without calibration.
    """

    config: Config
    detector: DetectorConfig


def read_run_configuration(artifact: Artifact) -> RunConfiguration:
    """Everything of a training run that describes its model; errors are those of the two readers below."""
    return RunConfiguration(detector=read_detector_config(artifact), config=read_run_config(artifact))


def read_run_config(artifact: Artifact) -> Config:
    """The resolved configuration of a training run.

    Raises:
        DamagedArtifactError: it is not readable.
        StaleArtifactError: this version of crkd has other keys.
    """
    try:
        values = read_yaml(artifact.file(CONFIG_NAME).read_text(encoding="utf-8"), CONFIG_NAME)
    except (OSError, UnicodeDecodeError, ConfigError) as error:
        raise artifact.damaged(CONFIG_NAME, str(error).rstrip(".")) from None
    try:
        return validate_config(values)
    except ConfigError as error:
        raise _of_another_version(artifact, str(error).rstrip(".")) from None


def read_detector_config(artifact: Artifact) -> DetectorConfig:
    """What built the detector of a training run.

    Raises:
        StaleArtifactError: this version of crkd has other keys.
    """
    try:
        return DetectorConfig.model_validate(artifact.manifest.settings["detector"])
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise _of_another_version(artifact, f"its detector's {key}: {first['msg']}") from None


def final_weights(run: Artifact) -> WeightsKind:
    """The kind of weights that a training run stands for."""
    schedule = run.manifest.settings.get("run")
    kind: WeightsKind = schedule.get("final_weights", "last") if isinstance(schedule, dict) else "last"
    return kind


def _of_another_version(artifact: Artifact, reason: str) -> StaleArtifactError:
    return StaleArtifactError(
        f"{artifact.label} was trained with a configuration that this version of crkd does not know ({reason}); train "
        f"it again with a configuration of today's keys: {artifact.remake_command(config='FILE')}"
    )
