"""Probabilities of heatmap logits."""

from jaxtyping import Float
from torch import Tensor

# Probabilities stay this far from 0 and 1.
PROBABILITY_MARGIN = 1e-4


def clipped_sigmoid(logits: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Probabilities in float32, kept off 0 and 1; clipped ones pass no gradient."""
    return logits.float().sigmoid().clamp(PROBABILITY_MARGIN, 1 - PROBABILITY_MARGIN)
