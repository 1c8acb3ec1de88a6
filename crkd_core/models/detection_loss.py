"""The detection loss: Gaussian focal loss on the heatmaps and L1 on the boxes at object centres.

Reduction, per task over the whole batch: the focal term is a sum over cells and classes divided by the number of
peaks (at least 1), the box term a weighted sum over objects divided by their number. Where a step has several batches,
both are divided by the numbers of all of them (:func:`count_objects`), so that the batches' terms add up to those of
one batch of all samples. Computed in float32 also under autocast.

Source: CenterPoint; Gaussian focal loss: CornerNet with alpha 2, gamma 4.
"""

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from crkd_core.config.classes import HEAD_TASKS
from crkd_core.config.models import HeadConfig
from crkd_core.models.box_coder import split_channels
from crkd_core.models.head_targets import HeadTargets, TaskTargets
from crkd_core.models.outputs import HeadOutput

_PROBABILITY_MARGIN = 1e-4


def count_objects(targets: HeadTargets) -> Int[Tensor, "tasks 2"]:
    """Peaks and objects of each task: what the terms are divided by. Those of several batches add up."""
    counts = [torch.stack([(task.heatmap == 1).sum(), task.valid.sum()]) for task in targets.tasks]
    return torch.stack(counts)


def detection_loss(
    head: HeadOutput, targets: HeadTargets, config: HeadConfig, counts: Int[Tensor, "tasks 2"] | None = None
) -> dict[str, Tensor]:
    """Two terms per task, ``heatmap/<first class>`` and ``box/<first class>``; their sum is the detection loss.

    Args:
        counts: of all batches of the step, see :func:`count_objects`; None where this is its only one.
    """
    terms = {}
    of_step: list[tuple[Tensor, Tensor] | tuple[None, None]] = [(None, None)] * len(HEAD_TASKS)
    if counts is not None:
        of_step = [(peaks, objects) for peaks, objects in counts]
    with torch.autocast(targets.tasks[0].heatmap.device.type, enabled=False):
        for classes, output, target, (peaks, objects) in zip(
            HEAD_TASKS, head.tasks, targets.tasks, of_step, strict=True
        ):
            terms[f"heatmap/{classes[0]}"] = gaussian_focal_loss(output.heatmap_logits, target.heatmap, peaks)
            box = box_loss(output.regression, target, config, objects)
            terms[f"box/{classes[0]}"] = config.box_loss_weight * box
    return terms


def gaussian_focal_loss(
    logits: Float[Tensor, "b k x y"], target: Float[Tensor, "b k x y"], peak_count: Int[Tensor, ""] | None = None
) -> Float[Tensor, ""]:
    """Sum over all cells and classes divided by the number of peaks (cells with target 1), at least 1.

    Probabilities are kept 1e-4 from 0 and 1; beyond that a cell has no gradient.

    Args:
        peak_count: of all batches of the step; None: of this one.
    """
    probability = logits.float().sigmoid().clamp(_PROBABILITY_MARGIN, 1 - _PROBABILITY_MARGIN)
    peaks = target == 1
    at_peaks = -probability.log() * (1 - probability) ** 2
    elsewhere = -(1 - probability).log() * probability**2 * (1 - target) ** 4
    count = peaks.sum() if peak_count is None else peak_count
    return torch.where(peaks, at_peaks, elsewhere).sum() / count.clamp(min=1)


def box_loss(
    regression: Float[Tensor, "b c x y"],
    target: TaskTargets,
    config: HeadConfig,
    object_count: Int[Tensor, ""] | None = None,
) -> Float[Tensor, ""]:
    """Weighted L1 at the objects' cells, summed and divided by the number of objects.

    Yaw and velocity can have a quadratic part around zero (`yaw_beta`, `velocity_beta_mps`). Targets that are not
    finite (unknown velocities, the logarithm of a zero height) are left out.

    Args:
        object_count: of all batches of the step; None: of this one.
    """
    rows = target.cells[:, None].expand(-1, regression.shape[1], -1)
    predicted = regression.float().flatten(2).gather(2, rows).transpose(1, 2)
    known = target.boxes.isfinite() & target.valid[..., None]
    error = split_channels((predicted - torch.where(known, target.boxes, 0.0)).abs())
    weighted = replace(
        error,
        rotation=_quadratic_below(error.rotation, config.yaw_beta),
        velocity=config.velocity_weight * _quadratic_below(error.velocity, config.velocity_beta_mps),
    )
    count = target.valid.sum() if object_count is None else object_count
    return torch.where(known, torch.cat([*weighted], dim=-1), 0.0).sum() / (count + 1e-4)


def _quadratic_below(error: Float[Tensor, "*shape"], beta: float) -> Float[Tensor, "*shape"]:
    # Slope 1 from `beta` on, as L1.
    return error if beta == 0 else torch.where(error < beta, error.square() / (2 * beta), error - beta / 2)
