"""Trained detectors as artifacts: weights in safetensors beside the configuration that built them."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from crkd_core.artifacts.atomic import write_text
from crkd_core.artifacts.run_config import CONFIG_NAME, RunConfiguration, read_run_configuration
from crkd_core.artifacts.shards import read_tensors, write_tensors
from crkd_core.artifacts.workspace import Artifact
from crkd_core.config.loading import dump_config
from crkd_core.config.models import DetectorConfig
from crkd_core.config.schema import Config
from crkd_core.models.detector import Detector, build_detector

WEIGHTS_NAME = "model.safetensors"


@dataclass(frozen=True)
class TrainedModel:
    """A detector with the configuration it was trained with.

    Attributes:
        name: name of its run.
        role: "teacher" or "student".
        detector: on the device asked for, in evaluation mode.
        config: the whole configuration of its run.
        detector_config: what built `detector`: the section of its role, the plain student's without calibration.
        artifact: where it came from.
    """

    name: str
    role: str
    detector: Detector
    config: Config
    detector_config: DetectorConfig
    artifact: Artifact


def write_trained(folder: Path, detector: nn.Module, config: Config) -> None:
    """Write weights and configuration into the folder of a training run."""
    write_tensors(folder / WEIGHTS_NAME, detector.state_dict())
    write_text(folder / CONFIG_NAME, dump_config(config))


def load_trained(
    artifact: Artifact, device: torch.device | str = "cpu", configuration: RunConfiguration | None = None
) -> TrainedModel:
    """Rebuild a trained detector.

    Args:
        configuration: of its run, where it was read already.

    Raises:
        DamagedArtifactError: a file is damaged, or the weights do not belong to the configuration.
        StaleArtifactError: its configuration is of another version of crkd.
    """
    configuration = configuration or read_run_configuration(artifact)
    detector = build_detector(configuration.detector, configuration.config.data)
    try:
        detector.load_state_dict(read_tensors(artifact, WEIGHTS_NAME))
    except RuntimeError as error:
        raise artifact.damaged(
            WEIGHTS_NAME, f"its tensors do not fit the configuration: {str(error).splitlines()[-1].strip()}"
        ) from None
    return TrainedModel(
        name=artifact.name,
        role=artifact.manifest.settings["role"],
        detector=detector.to(device).eval(),
        config=configuration.config,
        detector_config=configuration.detector,
        artifact=artifact,
    )
