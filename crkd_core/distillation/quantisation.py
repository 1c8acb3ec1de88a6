"""Eight bits for a number: linear codes with a scale of each channel, and a code for probabilities."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from crkd_core.distillation.probability import PROBABILITY_MARGIN

_LEVELS = 255


@dataclass(frozen=True)
class ChannelCodes:
    """Values [P, C] in 8 bits: ``lowest + scale * code`` in each channel, off by at most half a scale.

    Attributes:
        codes: 0 to 255; 0 is exactly zero in channels without negative values, as those of a ReLU.
        scale, lowest: of the channels; the scale of a channel of zeros is 0.
    """

    codes: UInt8[Tensor, "p c"]
    scale: Float[Tensor, "c"]
    lowest: Float[Tensor, "c"]

    @staticmethod
    def of(values: Float[Tensor, "p c"]) -> "ChannelCodes":
        """The codes nearest to the values, between the channels' extremes (and zero)."""
        with_zero = torch.cat([values.float(), values.new_zeros((1, values.shape[1]), dtype=torch.float32)])
        lowest = with_zero.amin(dim=0)
        scale = (with_zero.amax(dim=0) - lowest) / _LEVELS
        codes = ((values.float() - lowest) / torch.where(scale > 0, scale, 1.0)).round()
        return ChannelCodes(codes.clamp(0, _LEVELS).to(torch.uint8), scale, lowest)

    def values(self) -> Float[Tensor, "p c"]:
        """What the codes stand for, in float32."""
        return self.codes.float() * self.scale + self.lowest


def probability_codes(probability: Float[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
    """Codes 0 to 255, evenly spaced in the square root from 1e-4 to 1 - 1e-4 (both exact).

    A probability p is off by about ``sqrt(p) / 255`` at most. What counts in the losses is the absolute error, but
    there are thousands of nearly empty cells for each peak, and those must not be off by 1/500.
    """
    lowest, highest = _root_limits()
    root = probability.float().clamp(PROBABILITY_MARGIN, 1 - PROBABILITY_MARGIN).sqrt()
    return ((root - lowest) * (_LEVELS / (highest - lowest))).round().to(torch.uint8)


def probabilities(codes: UInt8[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """What :func:`probability_codes` stand for, in float32."""
    lowest, highest = _root_limits()
    return codes.float().mul_((highest - lowest) / _LEVELS).add_(lowest).square_()


def _root_limits() -> tuple[float, float]:
    return PROBABILITY_MARGIN**0.5, (1 - PROBABILITY_MARGIN) ** 0.5
