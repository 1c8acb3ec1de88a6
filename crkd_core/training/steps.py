"""What one training step computes: a batch to named, weighted loss terms."""

from collections.abc import Callable

from torch import Tensor, nn

from crkd_core.config.models import HeadConfig
from crkd_core.data.samples import Batch
from crkd_core.distillation.objective import DistillationObjective
from crkd_core.distillation.targets import TeacherTargets
from crkd_core.geometry.grid import BEVGrid
from crkd_core.models.detection_loss import detection_loss
from crkd_core.models.detector import Detector
from crkd_core.models.head_targets import build_head_targets
from crkd_core.models.outputs import HeadOutput

TargetSource = Callable[[Batch], TeacherTargets]
"""The teacher's side of the losses for a batch, see :mod:`crkd_core.teacher_cache.sources`."""


class DetectionStep(nn.Module):
    """The detection loss alone: teacher, plain student and the equal-epoch control."""

    def __init__(self, detector: Detector, head: HeadConfig, grid: BEVGrid) -> None:
        super().__init__()
        self.detector = detector
        self._head = head
        self._grid = grid

    def forward(self, batch: Batch, progress: float = 0.0) -> dict[str, Tensor]:
        """Named, weighted loss terms of a batch; `progress` is the share of the run that lies behind (0 to below 1)."""
        return self.detection_terms(self.detector(batch.inputs).head, batch)

    def detection_terms(self, head: HeadOutput, batch: Batch) -> dict[str, Tensor]:
        """Heatmap and box terms against the ground truth."""
        targets = build_head_targets(batch.boxes, batch.labels, self._grid, self._head)
        return detection_loss(head, targets, self._head)


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
        objective: DistillationObjective,
        teacher_targets: TargetSource,
        until: float = 1.0,
    ) -> None:
        super().__init__(detector, head, grid)
        self.objective = objective
        self._until = until
        self._teacher_targets = teacher_targets

    def forward(self, batch: Batch, progress: float = 0.0) -> dict[str, Tensor]:
        if progress >= self._until:
            return super().forward(batch)
        targets = self._teacher_targets(batch)
        output = self.detector(batch.inputs)
        return self.detection_terms(output.head, batch) | self.objective(output, targets)
