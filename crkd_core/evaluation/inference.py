"""Detections of a trained detector on many samples."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import nn

from crkd_core.config.models import NMSConfig
from crkd_core.data.samples import Batch
from crkd_core.geometry.boxes import Boxes3D
from crkd_core.geometry.grid import BEVGrid
from crkd_core.models.decode import SampleDetections, decode_detections
from crkd_core.progress import Progress

Precision = Literal["fp32", "bf16", "fp16"]
_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


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
