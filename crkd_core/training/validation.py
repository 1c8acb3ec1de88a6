"""Scores of a detector on the split val while it is trained."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from torch import nn

from crkd_core.config.split_names import VAL
from crkd_core.data.dataset import SampleDataset
from crkd_core.data.loader import LoaderOptions, load_batches
from crkd_core.errors import ConfigError
from crkd_core.evaluation.evaluated_split import EvaluatedSplit
from crkd_core.evaluation.inference import detect
from crkd_core.evaluation.io.detections import Detections
from crkd_core.evaluation.nuscenes.metrics import Metrics
from crkd_core.evaluation.nuscenes.scoring import score
from crkd_core.evaluation.precision import FULL_PRECISION
from crkd_core.models.decode import SampleDetections
from crkd_core.progress import Progress, format_count
from crkd_core.training.distributed import ProcessGroup
from crkd_core.training.training_plan import TrainingPlan


@dataclass(frozen=True)
class Validation:
    """The samples that a run is validated on, divided among its processes."""

    plan: TrainingPlan
    samples: EvaluatedSplit
    processes: ProcessGroup

    def score(self, detector: nn.Module, progress: Progress) -> Metrics | None:
        """Detect in float32 on all samples, each process on its share, and score; None on all but the first.

        The detector is in evaluation mode afterwards.
        """
        tables = self.processes.gather(self._detect(detector, progress))
        if not self.processes.is_first:
            return None
        return score(pa.concat_tables(tables), self.samples.ground_truth).metrics

    def _detect(self, detector: nn.Module, progress: Progress) -> pa.Table:
        plan, config = self.plan, self.plan.config
        # In one piece, so that all together are in the order of the samples.
        tokens = np.array_split(np.array(self.samples.tokens), self.processes.size)[self.processes.rank].tolist()
        prepared, seed, size = self.samples.prepared, config.train.seed, plan.schedule.batch_size
        dataset = SampleDataset(prepared, tokens, config.data, plan.detector.modalities, bev=None, seed=seed)
        indices = list(range(len(tokens)))
        loaded = load_batches(
            dataset,
            [indices[start : start + size] for start in range(0, len(tokens), size)],
            LoaderOptions(config.train.workers, config.train.loader_timeout_s),
            self.processes.device,
        )
        grid, nms, device = config.data.grid.build(), plan.detector.head.nms, self.processes.device
        detections: list[tuple[str, SampleDetections]] = []
        with progress.task(f"validate {plan.name}", total=len(tokens), unit="samples") as task:
            for of_batch in detect(detector, loaded, grid, nms, device, FULL_PRECISION):
                detections += of_batch
                task.advance(len(of_batch))
        pose = prepared.global_from_lidar
        return Detections.collect((token, boxes, pose(token)) for token, boxes in detections).table


def open_validation(
    plan: TrainingPlan, dataset: SampleDataset, processes: ProcessGroup, progress: Progress
) -> Validation | None:
    """The validation of a run on the prepared data of its training samples; None where none is asked for.

    Raises:
        ConfigError: the data have no split val, or it is not annotated.
    """
    every, prepared = plan.schedule.validate_every, dataset.prepared
    if not every:
        return None
    if not prepared.has_split(VAL):
        raise ConfigError(
            f"{plan.schedule_key}.validate_every={every} scores the split {VAL}, which {prepared.artifact.label} does "
            f"not have; prepare data that have it, or set {plan.schedule_key}.validate_every=0."
        )
    samples = EvaluatedSplit(prepared, prepared.official_split(VAL), _spaced(plan, prepared.tokens(VAL)))
    trained_on = len(set(samples.tokens) & set(dataset.tokens))
    if trained_on:
        progress.warning(
            f"{trained_on} of the {format_count(len(samples.tokens), 'sample')} that validate {plan.name} are among "
            "its training samples: their scores say nothing about new data"
        )
    return Validation(plan, samples, processes)


def _spaced(plan: TrainingPlan, tokens: Sequence[str]) -> list[str]:
    number = min(plan.config.train.validate_samples or len(tokens), len(tokens))
    return [tokens[index * len(tokens) // number] for index in range(number)]
