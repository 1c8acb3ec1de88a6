"""Trained detectors as artifacts: weights in safetensors beside the configuration that built them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from crkd_core.artifacts.atomic import write_text
from crkd_core.artifacts.run_config import CONFIG_NAME, RunConfiguration, final_weights, read_run_configuration
from crkd_core.artifacts.shards import read_tensors, write_tensors
from crkd_core.artifacts.workspace import Artifact
from crkd_core.config.loading import dump_config
from crkd_core.config.models import DetectorConfig
from crkd_core.config.schema import Config
from crkd_core.config.train import WeightsKind
from crkd_core.errors import UsageError
from crkd_core.models.detector import Detector, build_detector

WEIGHTS_NAME = "model.safetensors"
"""The weights that a run stands for."""
_OTHERS = "model-{}.safetensors"


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


def write_trained(
    folder: Path,
    weights: Mapping[str, Tensor],
    config: Config,
    others: Mapping[WeightsKind, Mapping[str, Tensor]] | None = None,
) -> None:
    """Write weights and configuration into the folder of a training run.

    Args:
        weights: those that the run stands for.
        others: further ones by kind, which lie beside them.
    """
    write_tensors(folder / WEIGHTS_NAME, weights)
    for kind, other in (others or {}).items():
        write_tensors(folder / _OTHERS.format(kind), other)
    write_text(folder / CONFIG_NAME, dump_config(config))


def weights_name(run: Artifact, kind: WeightsKind | None) -> str:
    """The file with the weights of a kind; None: those that the run stands for.

    Raises:
        UsageError: the run did not keep them.
        DamagedArtifactError: it has none at all.
    """
    final = final_weights(run)
    name = WEIGHTS_NAME if kind in (None, final) else _OTHERS.format(kind)
    if name not in run.manifest.files:
        if name == WEIGHTS_NAME:
            raise run.damaged(name, "the manifest does not list it")
        setting = {"ema": "train.ema_decay", "best": "validate_every"}.get(str(kind), "another final_weights")
        raise UsageError(
            f"{run.label} has no {kind} weights, which a run keeps beside its {final} ones with {setting}."
        )
    return name


def load_trained(
    artifact: Artifact,
    device: torch.device | str = "cpu",
    configuration: RunConfiguration | None = None,
    weights: WeightsKind | None = None,
) -> TrainedModel:
    """Rebuild a trained detector.

    Args:
        configuration: of its run, where it was read already.
        weights: which of the run's; None: those that it stands for.

    Raises:
        UsageError: the run did not keep such weights.
        DamagedArtifactError: a file is damaged, or the weights do not belong to the configuration.
        StaleArtifactError: its configuration is of another version of crkd.
    """
    configuration = configuration or read_run_configuration(artifact)
    config = configuration.config
    radar_features = config.dataset.radar_points.feature_columns
    detector = build_detector(
        configuration.detector, config.data, config.dataset.head_tasks, radar_features=radar_features
    )
    name = weights_name(artifact, weights)
    try:
        detector.load_state_dict(read_tensors(artifact, name))
    except RuntimeError as error:
        raise artifact.damaged(
            name, f"its tensors do not fit the configuration: {str(error).splitlines()[-1].strip()}"
        ) from None
    return TrainedModel(
        name=artifact.name,
        role=artifact.manifest.settings["role"],
        detector=detector.to(device).eval(),
        config=config,
        detector_config=configuration.detector,
        artifact=artifact,
    )
