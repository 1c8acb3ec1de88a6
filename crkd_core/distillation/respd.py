"""Response distillation (paper, section 3.3.4): the teacher's predictions as soft targets, per head task k.

``L = sum over k of w_k (L_cls + L_box)``, dynamic classes counting double (w = 2, 2, 2, 1, 2, 1), with the student's
and the teacher's clipped heatmap probabilities p and t, and ten regression channels r:

- ``L_cls = sum over cells and classes of BCE(p, t) |p - t|^2 / max(#(t > 0.3), 1)``, the quality focal loss of beta 2;
- ``L_box = 40 mean over D and channels of W smooth_l1(r_S, r_T)``, where ``W = sum over classes of t`` and D are the
  cells with W > 0.1. If the whole batch has none, the threshold falls in steps of 0.01 until it has.

This is the ``released`` reading. The paper names the two functions without a weight and a factor: its reading,
``paper``, has ``L_box = mean over D and channels of smooth_l1(r_S, r_T)`` and the same ``L_cls``. (The double sigmoid
of the released code is an accident of float32, not a reading: the published models were trained with a single one.)

``box_weights``, which is ours and all 1 by default, weighs the ten channels of ``L_box`` by what they describe: place,
size, yaw, velocity. A LiDAR teacher may know motion less well than a student with radar.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from crkd_core.config.distill import RespDConfig
from crkd_core.distillation.probability import clipped_sigmoid
from crkd_core.distillation.target_kinds import BoxResponse, SparseCells, Target, TaskResponse
from crkd_core.distillation.targets import TeacherTargets
from crkd_core.distillation.term import LossTerm
from crkd_core.errors import ConfigError
from crkd_core.geometry.boxes import Boxes3D
from crkd_core.geometry.grid import BEVGrid
from crkd_core.models.box_coder import BoxCode, spread_over_channels
from crkd_core.models.outputs import DetectorOutput, HeadOutput, TaskOutput, gather_cells

_FOCAL_BETA = 2
_THRESHOLD_STEP = 0.01


class RespD(LossTerm[RespDConfig]):
    """The loss between predictions; see the module."""

    name = "respd"
    kinds: ClassVar[Mapping[str, type[Target]]] = {"respd": BoxResponse}
    flat_settings = True

    def weights(self) -> dict[str, float]:
        return {"respd": self.section.weight}

    def targets(self, teacher: DetectorOutput, boxes: Sequence[Boxes3D], grid: BEVGrid) -> dict[str, Target]:
        return {"respd": teacher_response(teacher.head, self.section)}

    def compare(self, scalar: str, student: DetectorOutput, targets: TeacherTargets) -> Tensor:
        return respd_loss(student.head, targets.part("respd", BoxResponse, scalar), self.section)

    def count(self, targets: TeacherTargets) -> Tensor:
        """Task by task: positive heatmap cells, then cells with boxes above each threshold of the falling series."""
        teacher = targets.part("respd", BoxResponse, "respd")
        return torch.cat([count_cells(task, self.section) for task in teacher.tasks])

    def compare_share(self, scalar: str, student: DetectorOutput, targets: TeacherTargets, counts: Tensor) -> Tensor:
        return respd_loss(student.head, targets.part("respd", BoxResponse, scalar), self.section, counts)


def teacher_response(head: HeadOutput, config: RespDConfig) -> BoxResponse:
    """What :func:`respd_loss` needs of a teacher's output, without its gradient and in float32.

    Boxes are kept on every cell that the box term may compare, whichever samples share a batch: the cells above the
    threshold that the sample alone would need. A batch's threshold is the highest of its samples', so it selects among
    them.
    """
    return BoxResponse(tuple(_task_response(task, config) for task in head.tasks))


def _task_response(task: TaskOutput, config: RespDConfig) -> TaskResponse:
    heatmap_prob = clipped_sigmoid(task.heatmap_logits.detach())
    weight = heatmap_prob.sum(dim=1)
    threshold = falling_threshold(weight.flatten(1).amax(dim=1), config.box_threshold)
    chosen = weight > threshold[:, None, None]
    return TaskResponse(heatmap_prob, SparseCells.select(task.regression, chosen))


def falling_threshold(highest_weight: Float[Tensor, "*b"], start: float) -> Float[Tensor, "*b"]:
    """The first of ``start, start - 0.01, ...`` that lies below the highest weight, which is positive."""
    thresholds = _thresholds(highest_weight, start)
    below = thresholds < highest_weight[..., None]
    return torch.where(below, thresholds, -torch.inf).amax(dim=-1)


def _thresholds(weight: Tensor, start: float) -> Float[Tensor, "steps"]:
    steps = torch.arange(int(start / _THRESHOLD_STEP) + 2, device=weight.device)
    return (start - _THRESHOLD_STEP * steps.double()).to(weight.dtype)


def count_cells(teacher: TaskResponse, config: RespDConfig) -> Int[Tensor, "n"]:
    """What the two terms of one task are divided by; the numbers of several batches add up.

    Positive heatmap cells, then the cells with boxes above each threshold of :func:`falling_threshold`: the first
    number above 0 says which of them holds, and how many cells lie above it. (A sample keeps no cells below its own
    threshold, which is none that holds for a batch with it.)
    """
    positives = (teacher.heatmap_prob > config.positive_threshold).sum()
    weight = gather_cells(teacher.heatmap_prob, teacher.boxes.indices).sum(dim=1)
    above = (weight[:, None] > _thresholds(weight, config.box_threshold)).sum(dim=0)
    return torch.cat([positives[None], above])


def respd_loss(
    student: HeadOutput, teacher: BoxResponse, config: RespDConfig, counts: Int[Tensor, "n"] | None = None
) -> Float[Tensor, ""]:
    """Both terms of all tasks, weighted by `config.task_weights`.

    Args:
        counts: of all batches of the step, :func:`count_cells` of one task after the other; None: of this one.

    Raises:
        ConfigError: the number of tasks or weights, or the shape of their maps, differ.
    """
    if not len(student.tasks) == len(teacher.tasks) == len(config.task_weights):
        raise ConfigError(
            "distill.respd.task_weights needs one weight per head task of student and teacher, found "
            f"{len(config.task_weights)} for {len(student.tasks)} student and {len(teacher.tasks)} teacher tasks"
        )
    of_tasks = [None] * len(teacher.tasks) if counts is None else counts.chunk(len(teacher.tasks))
    terms = [
        weight * (heatmap_term(task, taught, config, of_step) + box_term(task, taught, config, of_step))
        for task, taught, weight, of_step in zip(
            student.tasks, teacher.tasks, config.task_weights, of_tasks, strict=True
        )
    ]
    return torch.stack(terms).sum()


def heatmap_term(
    student: TaskOutput, teacher: TaskResponse, config: RespDConfig, counts: Int[Tensor, "n"] | None = None
) -> Float[Tensor, ""]:
    """Quality focal loss between the heatmaps of one task, per confident teacher cell of the batch or of `counts`.

    Raises:
        ConfigError: the heatmaps differ in shape.
    """
    p, t = clipped_sigmoid(student.heatmap_logits), teacher.heatmap_prob.detach()
    if p.shape != t.shape:
        raise ConfigError(
            f"response distillation compares equal heatmaps, found {tuple(p.shape)} (batch, classes, x, y) in the "
            f"student and {tuple(t.shape)} in the teacher targets; give both detectors the same grid and classes"
        )
    cross_entropy = -(t * p.log() + (1 - t) * (1 - p).log())
    positives = ((t > config.positive_threshold).sum() if counts is None else counts[0]).clamp(min=1)
    return (cross_entropy * (p - t).abs().pow(_FOCAL_BETA)).sum() / positives


def box_term(
    student: TaskOutput, teacher: TaskResponse, config: RespDConfig, counts: Int[Tensor, "n"] | None = None
) -> Float[Tensor, ""]:
    """Smooth L1 between the regression channels of one task where the teacher sees objects; 0 without any cell.

    The mean is over the cells of the batch or of `counts`.
    """
    cells = teacher.boxes
    cells.check_shape(student.code_shape)
    predicted = student.codes_at(cells.indices).float()
    if len(cells.indices) == 0:
        return predicted.sum()
    weight = gather_cells(teacher.heatmap_prob.detach(), cells.indices).sum(dim=1)
    if counts is None:
        chosen = weight > falling_threshold(weight.max(), config.box_threshold)
        number = chosen.sum()
    else:
        above = counts[1:]
        first = (above > 0).int().argmax()
        chosen, number = weight > _thresholds(weight, config.box_threshold)[first], above[first]
    per_channel = F.smooth_l1_loss(predicted, cells.features.detach(), reduction="none")
    centre, size, yaw, velocity = config.box_weights
    weights = spread_over_channels(BoxCode(centre, centre, size, yaw, velocity))
    per_cell = (per_channel * per_channel.new_tensor(weights)).mean(dim=1)
    if config.reading == "released":
        per_cell = config.box_scale * per_cell * weight
    return (per_cell * chosen).sum() / number
