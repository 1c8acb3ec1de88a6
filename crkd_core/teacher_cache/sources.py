"""Where a training step gets the teacher's side of the losses: the live teacher, or what the loader read."""

import torch

from crkd_core.config.distill import DistillConfig
from crkd_core.data.samples import Batch
from crkd_core.distillation.losses import build_terms, decode_targets
from crkd_core.distillation.targets import TeacherTargets
from crkd_core.distillation.term import targets_of_terms
from crkd_core.geometry.grid import BEVGrid
from crkd_core.models.detector import Detector
from crkd_core.models.outputs import DetectorOutput


class FrozenTeacher:
    """A teacher that cannot change: evaluation mode, no gradients, not a submodule of what is trained.

    It is a plain object on purpose: a submodule would follow ``train()`` of its parent, as in the released code, whose
    teacher therefore normalises by batch statistics and drifts. `train_mode` repeats that for comparison.
    """

    def __init__(self, detector: Detector, grid: BEVGrid, config: DistillConfig, train_mode: bool = False) -> None:
        self._detector = detector.requires_grad_(False).train(train_mode)
        self._grid = grid
        self._terms = build_terms(config)

    def __call__(self, batch: Batch) -> TeacherTargets:
        return self.targets(self.output(batch), batch)

    @torch.no_grad()
    def output(self, batch: Batch) -> DetectorOutput:
        """What the teacher computes from a batch."""
        return self._detector(batch.inputs)

    def targets(self, output: DetectorOutput, batch: Batch) -> TeacherTargets:
        """What of it the losses need."""
        return targets_of_terms(self._terms, output, batch.boxes, self._grid)


class StoredTargets:
    """Teacher targets that the loader read from the cache."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def __call__(self, batch: Batch) -> TeacherTargets:
        if batch.targets is None:
            raise ValueError("the batch carries no stored teacher targets; give the dataset its target shards")
        # Decoded where they were read: for a GPU these are hundreds of small operations, and it waits for many of them.
        samples = [
            decode_targets(item).mirrored(axes) for item, axes in zip(batch.targets, batch.mirrored, strict=True)
        ]
        return TeacherTargets.join(samples).to(self._device)
