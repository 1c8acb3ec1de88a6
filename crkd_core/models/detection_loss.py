"""The detection loss: Gaussian focal loss on the heatmaps and L1 on the boxes at object centres.

Reduction, per task over the whole batch: the focal term is a sum over cells and classes divided by the number of
peaks (at least 1), the box term a weighted sum over objects divided by their number. Where a step has several batches,
both are divided by the numbers of all of them (:func:`count_objects`), so that the batches' terms add up to those of
one batch of all samples. Computed in float32 also under autocast.

Source: CenterPoint; Gaussian focal loss: CornerNet with alpha 2, gamma 4.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from crkd_core.config.models import HeadConfig
from crkd_core.models.box_coder import split_channels
from crkd_core.models.head_targets import HeadTargets
from crkd_core.models.outputs import HeadOutput

_PROBABILITY_MARGIN = 1e-4


def count_objects(targets: HeadTargets) -> Int[Tensor, "tasks 2"]:
    """Peaks and objects of each task: what the terms are divided by. Those of several batches add up."""
    peaks = _sum_by_task((_heatmaps(targets) == 1).sum(dim=(0, 2, 3)), targets.sizes)
    return torch.stack([peaks, torch.stack([task.valid.sum() for task in targets.tasks])], dim=1)


def detection_loss(
    head: HeadOutput, targets: HeadTargets, config: HeadConfig, counts: Int[Tensor, "tasks 2"] | None = None
) -> dict[str, Tensor]:
    """Two terms per task, ``heatmap/<first class>`` and ``box/<first class>``; their sum is the detection loss.

    Args:
        counts: of all batches of the step, see :func:`count_objects`; None where this is its only one.
    """
    with torch.autocast(targets.tasks[0].heatmap.device.type, enabled=False):
        peaks, objects = (count_objects(targets) if counts is None else counts).unbind(dim=1)
        logits = torch.cat([task.heatmap_logits for task in head.tasks], dim=1)
        of_classes = gaussian_focal_loss(logits, _heatmaps(targets)).sum(dim=(0, 2, 3))
        heatmaps = _sum_by_task(of_classes, targets.sizes) / peaks.clamp(min=1)
        cells, codes = zip(*(task.objects() for task in targets.tasks), strict=True)
        predicted = torch.cat([task.codes_at(of_task) for task, of_task in zip(head.tasks, cells, strict=True)])
        of_objects = box_loss(predicted, torch.cat(codes), config)
        boxes = config.box_loss_weight * _sum_by_task(of_objects, [len(part) for part in cells]) / (objects + 1e-4)
    terms: dict[str, Tensor] = {}
    for name, heatmap, box in zip(targets.names, heatmaps.unbind(), boxes.unbind(), strict=True):
        terms |= {f"heatmap/{name}": heatmap, f"box/{name}": box}
    return terms


def _heatmaps(targets: HeadTargets) -> Float[Tensor, "b classes x y"]:
    return torch.cat([task.heatmap for task in targets.tasks], dim=1)


def _sum_by_task(values: Tensor, sizes: Sequence[int]) -> Tensor:
    return torch.stack([part.sum() for part in values.split([*sizes])])


def gaussian_focal_loss(logits: Float[Tensor, "b k x y"], target: Float[Tensor, "b k x y"]) -> Float[Tensor, "b k x y"]:
    """What each cell and class contributes to the heatmap terms.

    Probabilities are kept 1e-4 from 0 and 1; beyond that a cell has no gradient.
    """
    probability = logits.float().sigmoid().clamp(_PROBABILITY_MARGIN, 1 - _PROBABILITY_MARGIN)
    at_peaks = -probability.log() * (1 - probability) ** 2
    elsewhere = -(1 - probability).log() * probability**2 * (1 - target) ** 4
    return torch.where(target == 1, at_peaks, elsewhere)


def box_loss(
    predicted: Float[Tensor, "n channels"], target: Float[Tensor, "n channels"], config: HeadConfig
) -> Float[Tensor, "n"]:
    """What each object contributes to the box terms: weighted L1 between codes at its cell.

    Yaw and velocity can have a quadratic part around zero (`yaw_beta`, `velocity_beta_mps`). Targets that are not
    finite (unknown velocities, the logarithm of a zero height) are left out.
    """
    known = target.isfinite()
    error = split_channels((predicted.float() - torch.where(known, target, 0.0)).abs())
    weighted = replace(
        error,
        rotation=_quadratic_below(error.rotation, config.yaw_beta),
        velocity=config.velocity_weight * _quadratic_below(error.velocity, config.velocity_beta_mps),
    )
    return torch.where(known, torch.cat([*weighted], dim=-1), 0.0).sum(dim=1)


def _quadratic_below(error: Float[Tensor, "*shape"], beta: float) -> Float[Tensor, "*shape"]:
    # Slope 1 from `beta` on, as L1.
    return error if beta == 0 else torch.where(error < beta, error.square() / (2 * beta), error - beta / 2)
