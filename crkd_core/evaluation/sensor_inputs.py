"""LiDAR and radar input of an evaluated model: how many samples lack points or sweeps."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from crkd_core.artifacts.tables import numbers_of, read_table
from crkd_core.config.data import DataConfig
from crkd_core.datasets.prepared import preparing
from crkd_core.datasets.prepared.prepared_data import PreparedData


@dataclass(frozen=True)
class SensorInput:
    """What the evaluated model was given of one sensor.

    Attributes:
        name: lidar or radar.
        sweeps: of each sample, as configured, the key frame included.
        samples: evaluated samples.
        empty: of them, those without a single point; None where it was not counted.
        alone: of them, those with no sweep before the key frame.
    """

    name: str
    sweeps: int
    samples: int
    empty: int | None
    alone: int


def sensor_inputs(
    prepared: PreparedData, tokens: Sequence[str], data: DataConfig, modalities: Sequence[str]
) -> tuple[SensorInput, ...]:
    """What a model gets of LiDAR and radar on the samples `tokens`.

    Raises:
        DamagedArtifactError: a table cannot be read.
    """
    is_evaluated = np.zeros(prepared.artifact.manifest.facts["samples"], dtype=bool)
    is_evaluated[prepared.rows(tokens)] = True
    inputs = []
    if "lidar" in modalities:
        table = read_table(prepared.artifact, preparing.LIDAR_SWEEPS, ("sample", "age_s"))
        alone = len(tokens) - _samples_with(table, "age_s", is_evaluated)
        inputs.append(SensorInput("lidar", data.lidar.sweeps, len(tokens), None, alone))
    if "radar" in modalities:
        table = read_table(prepared.artifact, preparing.RADAR_SWEEPS, ("sample", "age_s", "points"))
        empty, alone = (len(tokens) - _samples_with(table, column, is_evaluated) for column in ("points", "age_s"))
        inputs.append(SensorInput("radar", data.radar.sweeps, len(tokens), empty, alone))
    return tuple(inputs)


def _samples_with(sweeps: pa.Table, column: str, is_evaluated: NDArray[np.bool_]) -> int:
    """Of the evaluated samples, those that have a sweep with a positive value in the column."""
    is_positive = np.zeros(len(is_evaluated), dtype=bool)
    is_positive[numbers_of(sweeps["sample"])[numbers_of(sweeps[column]) > 0]] = True
    return int((is_positive & is_evaluated).sum())
