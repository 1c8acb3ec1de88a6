"""Detections of a trained detector on many samples."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from crkd_core.artifacts.run_config import RunConfiguration
from crkd_core.config.models import NMSConfig
from crkd_core.cores import note_loaders
from crkd_core.data.dataset import SampleDataset
from crkd_core.data.loader import LoaderOptions, load_batches
from crkd_core.data.samples import Batch
from crkd_core.evaluation.evaluated_split import EvaluatedSplit
from crkd_core.evaluation.io.detections import Detections
from crkd_core.geometry.boxes import Boxes3D
from crkd_core.geometry.grid import BEVGrid
from crkd_core.models.decode import SampleDetections, decode_detections
from crkd_core.progress import Progress

Precision = Literal["fp32", "bf16", "fp16"]
_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class InferenceOptions:
    """How a detector is run on a split: how boxes are selected, and how samples are loaded.

    Attributes:
        workers: processes that load samples.
    """

    nms: NMSConfig
    device: torch.device
    batch_size: int
    workers: int


def detect(
    detector: nn.Module,
    loader: Iterable[Batch],
    grid: BEVGrid,
    nms: NMSConfig,
    device: torch.device,
    precision: Precision,
    progress: Progress,
    description: str = "detecting",
    total: int | None = None,
) -> Iterator[tuple[str, SampleDetections]]:
    """Detections of every sample that the loader gives, on the CPU, in the model frame without augmentation.

    The detector is put into evaluation mode and computes in float32 unless `precision` asks for autocast; boxes are
    decoded in float32 in any case.

    Args:
        loader: gives batches in the order in which results are wanted.
        grid: the detector's BEV grid.
        nms: how boxes are selected.
        total: number of samples, for the progress report.
    """
    detector.eval()
    with progress.task(description, total=total, unit="samples") as task:
        for batch in loader:
            # Not around the `yield`: the mode would leak into the code that consumes the results.
            with torch.inference_mode(), _autocast(precision, device):
                moved = batch.to(device)
                detections = decode_detections(detector(moved.inputs).head, grid, nms, moved.inputs.bev_augmentation)
            yield from zip(batch.tokens, map(_on_cpu, detections), strict=True)
            task.advance(len(batch))


def detect_split(
    detector: nn.Module,
    configuration: RunConfiguration,
    samples: EvaluatedSplit,
    options: InferenceOptions,
    description: str,
    progress: Progress,
) -> Detections:
    """Detections of a trained detector on all samples of a split, in float32.

    Args:
        configuration: of the detector's run.
        description: for the progress report.

    Raises:
        DatasetError: a sensor file is missing or damaged.
    """
    config, tokens = configuration.config, list(samples.tokens)
    modalities = configuration.detector.modalities
    dataset = SampleDataset(samples.prepared, tokens, config.data, modalities, bev=None, seed=config.train.seed)
    indices = list(range(len(tokens)))
    batches = [indices[start : start + options.batch_size] for start in range(0, len(tokens), options.batch_size)]
    note_loaders(options.workers, progress)
    loading = LoaderOptions(options.workers, option="--workers ", timeout_option=None)
    detections = detect(
        detector,
        load_batches(dataset, batches, loading, options.device),
        config.data.grid.build(),
        options.nms,
        options.device,
        "fp32",
        progress,
        description=description,
        total=len(tokens),
    )
    pose = samples.prepared.global_from_lidar
    return Detections.collect((token, of_sample, pose(token)) for token, of_sample in detections)


def _autocast(precision: Precision, device: torch.device) -> AbstractContextManager:
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=_TYPES[precision])


def _on_cpu(detections: SampleDetections) -> SampleDetections:
    # Tensors of inference mode cannot be used in ordinary code; a copy can.
    boxes, scores, labels = (
        values.cpu().clone() for values in (detections.boxes.tensor, detections.scores, detections.labels)
    )
    return SampleDetections(Boxes3D(boxes), scores, labels)
