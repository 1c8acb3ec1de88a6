"""A trained model as the source of an evaluation's detections."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from crkd_core.artifacts.command import Command
from crkd_core.artifacts.described import description_settings
from crkd_core.artifacts.manifest import InputRef
from crkd_core.artifacts.run_config import RunConfiguration, final_weights
from crkd_core.artifacts.tables import write_table
from crkd_core.artifacts.workspace import Artifact, Workspace
from crkd_core.config.models import NMSConfig
from crkd_core.config.split_names import VAL
from crkd_core.config.train import WeightsKind
from crkd_core.datasets.prepared.source import pin_machine, split_slug
from crkd_core.errors import UsageError, quoted
from crkd_core.evaluation.evaluated_split import EvaluatedSplit
from crkd_core.evaluation.identity import STAGE, Subject, Variant, choose_name
from crkd_core.evaluation.inference import InferenceOptions, SplitDetection
from crkd_core.evaluation.io.detections import SUBMISSION_NAME, TABLE_NAME, read_parts, write_submission
from crkd_core.evaluation.nuscenes.metrics import Metrics
from crkd_core.evaluation.precision import FULL_PRECISION, PRECISIONS, Precision
from crkd_core.evaluation.report import AnalysisRequest
from crkd_core.evaluation.sensor_inputs import SensorInput, sensor_inputs
from crkd_core.progress import Progress


@dataclass(frozen=True)
class EvaluateRequest:
    """A trained model to evaluate.

    Attributes:
        model: name of a training run; None for the latest student, or the teacher where there is no student.
        split: train, val or test, or an official split name such as ``mini_val``.
        nuscenes: where the data set is now, if it moved since it was prepared.
        batch_size, workers: how samples are loaded; they change the results by rounding at most.
        precision: number type that the model computes in; another one is another evaluation.
        weights: which of the run's, see ``final_weights``; None: those that it stands for.
        prepared: name of the prepared data; None for those the model was trained on, or the latest.
        nms: how boxes are selected from the head's peaks; None for the model's own configuration.
        official: run the data set's devkit too, on the submission and the data set's own tables, and compare.
        analysis: what is wanted beyond the scores; None for nothing.
        command: as it was given, for the manifest; None where there was none.
    """

    model: str | None = None
    split: str = VAL
    nuscenes: Path | None = None
    device: str = "auto"
    batch_size: int = 4
    workers: int = 2
    precision: Precision = FULL_PRECISION
    weights: WeightsKind | None = None
    force: bool = False
    prepared: str | None = None
    nms: NMSConfig | None = None
    official: bool = False
    analysis: AnalysisRequest | None = None
    command: Command | None = None

    def box_selection(self, configuration: RunConfiguration) -> NMSConfig:
        """How boxes are selected from the head's peaks, of a model with this configuration."""
        return self.nms or configuration.detector.head.nms

    def inference(self, configuration: RunConfiguration, device: torch.device) -> InferenceOptions:
        """How a model with this configuration is run."""
        nms = self.box_selection(configuration)
        return InferenceOptions(nms, device, self.batch_size, self.workers, self.precision)

    def check(self) -> None:
        """Refuse options that make no sense.

        Raises:
            UsageError: naming them.
        """
        if self.batch_size < 1 or self.workers < 0:
            raise UsageError(
                f"evaluation needs a batch size of at least 1 and no fewer than 0 workers, found {self.batch_size} and "
                f"{self.workers}."
            )
        if self.precision not in PRECISIONS:
            raise UsageError(f"a precision is one of {', '.join(PRECISIONS)}, found {quoted(self.precision)}.")


@dataclass(frozen=True)
class ModelSource:
    """A trained model, and the samples it is run on.

    Attributes:
        configuration: what it was trained with, read once.
        detection: runs the model on all samples.
    """

    request: EvaluateRequest
    model: Artifact
    configuration: RunConfiguration
    samples: EvaluatedSplit
    detection: SplitDetection

    @property
    def subject(self) -> Subject:
        """What is scored."""
        return Subject(self.model.name, self.model.stage)

    @property
    def settings(self) -> dict[str, Any]:
        """What determines the detections beside the inputs."""
        nms = self.request.box_selection(self.configuration).model_dump(mode="json")
        settings = {"split": self.samples.split, "precision": self.request.precision, "nms": nms}
        settings |= description_settings(self.samples.prepared.description)
        return settings if self.weights is None else {**settings, "weights": self.weights}

    @property
    def weights(self) -> WeightsKind | None:
        """Which of the run's weights, where they are not those that it stands for."""
        return None if self.request.weights == final_weights(self.model) else self.request.weights

    @property
    def inputs(self) -> dict[str, InputRef]:
        """Artifacts that the evaluation is made from, by role."""
        return {"model": self.model.reference(), "prepared": self.samples.prepared.artifact.reference()}

    def name(self, workspace: Workspace) -> str:
        """What the evaluation is called."""
        slug, data = split_slug(self.request.split), self.samples.prepared.artifact.name
        variant = Variant(precision=self.request.precision, weights=self.weights)
        return choose_name(workspace, self.subject, slug, self.samples.split, data, variant)

    def command(self) -> Command:
        """The command that makes this evaluation again, whatever models and data come later."""
        command = (self.request.command or Command(STAGE)).without("--preset", "--config", "--set")
        command = command.setting("--model", self.model.label).setting("--split", self.request.split)
        command = command.setting("--prepared", self.samples.prepared.artifact.name)
        if self.request.precision != FULL_PRECISION:
            command = command.setting("--precision", self.request.precision)
        if self.weights is not None:
            command = command.setting("--weights", self.weights)
        role, own = self.model.manifest.settings["role"], self.configuration.detector.head.nms.model_dump(mode="json")
        for field, value in self.settings["nms"].items():
            if value != own[field]:
                command = command.adding("--set", f"{role}.head.nms.{field}={json.dumps(value)}")
        return pin_machine(command, self.request.nuscenes, self.request.device)

    def fill(self, folder: Path, rank: int, size: int, progress: Progress) -> None:
        """Detect what is the share of the process of a rank, of `size` processes, and was not detected yet."""
        if not _is_detected(folder):
            self.detection.fill(folder, rank, size, f"{STAGE} {self.model.name}", progress)

    def write(self, folder: Path, progress: Progress) -> tuple[EvaluatedSplit, pa.Table]:
        """Write submission and table of what all processes detected, unless a stopped run did; samples and table."""
        if _is_detected(folder):
            return self.samples, read_parts(folder, [TABLE_NAME])
        detections = self.detection.read(folder)
        modalities = self.configuration.detector.modalities
        write_submission(folder / SUBMISSION_NAME, detections, self.samples.tokens, modalities)
        write_table(folder / TABLE_NAME, detections.table)
        return self.samples, detections.table

    def samples_of(self, finished: Artifact) -> EvaluatedSplit:
        """The samples of a finished evaluation of this source."""
        return self.samples

    def submission(self, folder: Path) -> Path:
        """The nuScenes result file of the evaluation in a folder."""
        return folder / SUBMISSION_NAME

    def sensor_inputs(self) -> tuple[SensorInput, ...]:
        """What the model was given."""
        data, modalities = self.configuration.config.data, self.configuration.detector.modalities
        return sensor_inputs(self.samples.prepared, self.samples.tokens, data, modalities)

    def facts(self, samples: EvaluatedSplit, metrics: Metrics | None) -> dict[str, Any]:
        """What is worth knowing of the finished evaluation without opening its files."""
        grid = self.configuration.config.data.grid
        facts: dict[str, Any] = {
            "model": self.model.name,
            "role": self.model.manifest.settings.get("role"),
            "modalities": self.model.manifest.settings["detector"]["modalities"],
            "split": samples.split,
            "samples": len(samples.tokens),
            **samples.facts(),
            "extent_m": max(abs(edge) for edge in (*grid.x_range_m, *grid.y_range_m)),
        }
        return facts if metrics is None else facts | {"mean_ap": metrics.mean_ap, "nds": metrics.nds}


def _is_detected(folder: Path) -> bool:
    """The table is written last, whole: with it, the detections of a killed evaluation are complete."""
    return all((folder / name).exists() for name in (SUBMISSION_NAME, TABLE_NAME))
