"""Cross-stage radar distillation (paper, section 3.3.1): the teacher's *output* teaches the radar's *feature*.

``L = mean over samples and cells |A - Y|`` with the radar activation A and the teacher's scene-level objectness Y.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from crkd_core.models.outputs import HeadOutput

# Probabilities stay this far from 0 and 1.
PROBABILITY_MARGIN = 1e-4


def clipped_sigmoid(logits: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Probabilities in float32, kept off 0 and 1; clipped ones pass no gradient."""
    return logits.float().sigmoid().clamp(PROBABILITY_MARGIN, 1 - PROBABILITY_MARGIN)


def objectness(head: HeadOutput) -> Float[Tensor, "b x y"]:
    """How much each cell looks like the centre of any object, in [1e-4, 1 - 1e-4].

    Per task the sigmoid of the mean of its classes' logits (not the mean of their sigmoids), then the mean over tasks.
    """
    tasks = [clipped_sigmoid(task.heatmap_logits.detach().float().mean(dim=1)) for task in head.tasks]
    return torch.stack(tasks).mean(dim=0)


def csrd_loss(radar_activation: Float[Tensor, "b 1 x y"], objectness: Float[Tensor, "b x y"]) -> Float[Tensor, ""]:
    """Mean absolute difference over all samples and cells.

    Args:
        radar_activation: the student's, not negative and not bounded above.
        objectness: the teacher's, see :func:`objectness`.
    """
    return (radar_activation[:, 0].float() - objectness.detach().float()).abs().mean()
