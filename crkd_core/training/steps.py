"""What one training step computes: a batch to named, weighted loss terms."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from crkd_core.config.description import HeadTasks
from crkd_core.config.models import HeadConfig
from crkd_core.data.samples import Batch
from crkd_core.distillation.objective import DistillationObjective
from crkd_core.distillation.targets import TeacherTargets
from crkd_core.geometry.grid import BEVGrid
from crkd_core.models.detection_loss import count_objects, detection_loss
from crkd_core.models.detector import Detector
from crkd_core.models.head_targets import HeadTargets, build_head_targets

TargetSource = Callable[[Batch], TeacherTargets]
"""The teacher's side of the losses for a batch, see :mod:`crkd_core.teacher_cache.sources`."""


@dataclass(frozen=True)
class BatchTargets:
    """What a batch's output is compared with; `teacher` is None where nothing is distilled."""

    head: HeadTargets
    teacher: TeacherTargets | None = None


@dataclass(frozen=True)
class LossCounts:
    """What the losses of a batch divide by: see ``count_objects``, and ``DistillationObjective.count``.

    Those of the batches of a step, on however many processes, add up: with their sum, the batches' loss terms add up to
    those of one batch of all their samples.
    """

    objects: Tensor
    of_losses: tuple[Tensor, ...] = ()

    @staticmethod
    def total(batches: Sequence["LossCounts"]) -> "LossCounts":
        """The counts of several batches together."""
        objects = torch.stack([batch.objects for batch in batches]).sum(dim=0)
        return LossCounts(objects, tuple(sum(counts) for counts in zip(*(batch.of_losses for batch in batches))))

    def summed(self, over_processes: Callable[[Tensor], Tensor]) -> "LossCounts":
        """The counts of all processes; `over_processes` adds up a tensor of each."""
        parts = [part.flatten().to(self.objects) for part in (self.objects, *self.of_losses)]
        objects, *of_losses = over_processes(torch.cat(parts)).split([len(part) for part in parts])
        return LossCounts(objects.view_as(self.objects), tuple(of_losses))


class DetectionStep(nn.Module):
    """The detection loss alone: teacher, plain student and the equal-epoch control."""

    def __init__(self, detector: Detector, head: HeadConfig, grid: BEVGrid, tasks: HeadTasks) -> None:
        super().__init__()
        self._tasks = tasks
        self.detector = detector
        self._head = head
        self._grid = grid

    def forward(
        self,
        batch: Batch,
        progress: float = 0.0,
        targets: BatchTargets | None = None,
        counts: LossCounts | None = None,
    ) -> dict[str, Tensor]:
        """Named, weighted loss terms of a batch.

        Args:
            progress: the share of the run that lies behind (0 to below 1).
            targets: those of :meth:`targets`, where they were made before.
            counts: of all batches of the step, whose terms then add up; None where this is its only one.
        """
        targets = self.targets(batch, progress) if targets is None else targets
        head = self.detector(batch.inputs, box_maps=False).head
        return detection_loss(head, targets.head, self._head, None if counts is None else counts.objects)

    def targets(self, batch: Batch, progress: float = 0.0) -> BatchTargets:
        """Ground truth as the head should say it."""
        return BatchTargets(build_head_targets(batch.boxes, batch.labels, self._grid, self._head, self._tasks))

    def count(self, targets: BatchTargets) -> LossCounts:
        """What the terms are divided by."""
        return LossCounts(count_objects(targets.head))


class DistillationStep(DetectionStep):
    """The detection loss plus the distillation terms (paper, section 3.3): L = L_det + sum of weighted L_kd.

    From `until` (0 to 1) of the run's steps on it is the detection loss alone, and the teacher is not asked (ours,
    after Cho and Hariharan, "On the Efficacy of Knowledge Distillation", ICCV 2019); the paper distils to the end.
    """

    def __init__(
        self,
        detector: Detector,
        head: HeadConfig,
        grid: BEVGrid,
        tasks: HeadTasks,
        objective: DistillationObjective,
        teacher_targets: TargetSource,
        until: float = 1.0,
    ) -> None:
        super().__init__(detector, head, grid, tasks)
        self.objective = objective
        self._until = until
        self._teacher_targets = teacher_targets

    def forward(
        self,
        batch: Batch,
        progress: float = 0.0,
        targets: BatchTargets | None = None,
        counts: LossCounts | None = None,
    ) -> dict[str, Tensor]:
        """Terms of both losses, or of the detection loss alone where the targets have no teacher's."""
        targets = self.targets(batch, progress) if targets is None else targets
        if targets.teacher is None:
            return super().forward(batch, progress, targets, counts)
        output = self.detector(batch.inputs, box_maps=False)
        detection = detection_loss(output.head, targets.head, self._head, None if counts is None else counts.objects)
        return detection | self.objective(output, targets.teacher, None if counts is None else counts.of_losses)

    def targets(self, batch: Batch, progress: float = 0.0) -> BatchTargets:
        """Ground truth and, until the losses stop, teacher targets."""
        targets = super().targets(batch)
        return targets if progress >= self._until else BatchTargets(targets.head, self._teacher_targets(batch))

    def count(self, targets: BatchTargets) -> LossCounts:
        objects = count_objects(targets.head)
        return LossCounts(objects, () if targets.teacher is None else self.objective.count(targets.teacher))
