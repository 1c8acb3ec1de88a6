"""Swin Transformer image backbone: self-attention within windows that shift from block to block.

Source: Liu et al. 2021. Maps run through the network as [N, H, W, C]. As in the published models a map that is not a
multiple of the patch, the window or 2 is padded with zeros at the bottom and right, and padded tokens take part in
attention; blocks shift their windows also where the whole map fits into one. Patch merging orders its channels as
``torch.nn.Unfold`` does, which the official checkpoints do not (``crkd_core.weights.backbones`` converts them).
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from crkd_core.config.models import SwinConfig
from crkd_core.models.backbones.protocol import Backbone

_PATCH = 4
_MLP_RATIO = 4
_INIT_STD = 0.02


def split_windows(maps: Shaped[Tensor, "n h w c"], window: int) -> Shaped[Tensor, "n windows tokens c"]:
    """[N, H, W, C] of whole windows to [N, windows, tokens, C], windows and their tokens in row-major order."""
    split: Tensor = maps.unflatten(2, (-1, window)).unflatten(1, (-1, window))
    return split.permute(0, 1, 3, 2, 4, 5).flatten(3, 4).flatten(1, 2)


def merge_windows(windows: Float[Tensor, "n windows tokens c"], height: int, width: int) -> Float[Tensor, "n h w c"]:
    """The inverse of :func:`split_windows`."""
    side = round(windows.shape[2] ** 0.5)
    split: Tensor = windows.unflatten(2, (side, side)).unflatten(1, (height // side, width // side))
    return split.permute(0, 1, 3, 2, 4, 5).flatten(3, 4).flatten(1, 2)


def relative_position_index(window: int) -> Int[Tensor, "tokens tokens"]:
    """Row of the bias table for every pair of tokens: their distance down, then right, the most negative first."""
    rows, columns = torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
    position = (rows * (2 * window - 1) + columns).flatten()
    return position[:, None] - position[None, :] + 2 * window * (window - 1)


def foreign_tokens(
    height: int, width: int, window: int, shift: int, device: torch.device
) -> Bool[Tensor, "windows tokens tokens"]:
    """Which pairs of tokens of a window meet only because shifting wraps around the map's border."""

    def region(length: int) -> Tensor:
        cells = torch.arange(length, device=device)
        return (cells >= length - window).long() + (cells >= length - shift).long()

    labels = 3 * region(height)[:, None] + region(width)[None, :]
    tokens = split_windows(labels[None, :, :, None], window)[0, :, :, 0]
    return tokens[:, :, None] != tokens[:, None, :]


class DropPath(nn.Module):
    """Stochastic depth: while training, leaves a residual branch out for a random part of the samples."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Float[Tensor, "n h w c"]) -> Float[Tensor, "n h w c"]:
        if not self.training or self.rate == 0:
            return x
        kept = torch.empty((len(x), 1, 1, 1), dtype=x.dtype, device=x.device).bernoulli_(1 - self.rate)
        return x * (kept / (1 - self.rate))


class WindowAttention(nn.Module):
    """Multi-head self-attention among the tokens of each window, biased by their relative position."""

    relative_position_index: Tensor

    def __init__(self, channels: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (channels // heads) ** -0.5
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=_INIT_STD)
        self.register_buffer("relative_position_index", relative_position_index(window), persistent=False)

    def forward(
        self,
        windows: Float[Tensor, "n windows tokens c"],
        foreign: Bool[Tensor, "windows tokens tokens"] | None = None,
    ) -> Float[Tensor, "n windows tokens c"]:
        """Attention among the tokens of each window (Liu et al. 2021, equation 4).

        Args:
            windows: tokens of n images, window by window.
            foreign: pairs of tokens that a shifted window put together although they are no neighbours in the image;
                they do not see each other.
        """
        qkv = self.qkv(windows).unflatten(-1, (3, self.heads, -1))  # n windows tokens 3 heads d
        query, key, value = qkv.permute(3, 0, 1, 4, 2, 5)  # each n windows heads tokens d
        logits = (query * self.scale) @ key.transpose(-2, -1)
        logits = logits + self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)
        if foreign is not None:
            logits = logits.masked_fill(foreign[:, None], float("-inf"))
        mixed = logits.softmax(dim=-1).to(value.dtype) @ value
        projected: Tensor = self.proj(mixed.transpose(2, 3).flatten(3))
        return projected


class SwinBlock(nn.Module):
    """Window attention and a two-layer perceptron, each in a residual branch behind a LayerNorm."""

    def __init__(self, channels: int, heads: int, window: int, shifted: bool, drop_path: float) -> None:
        super().__init__()
        self.window = window
        self.shift = window // 2 if shifted else 0
        self.norm1 = nn.LayerNorm(channels)
        self.attention = WindowAttention(channels, heads, window)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(
            nn.Linear(channels, _MLP_RATIO * channels), nn.GELU(), nn.Linear(_MLP_RATIO * channels, channels)
        )
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Float[Tensor, "n h w c"]) -> Float[Tensor, "n h w c"]:
        x = x + self.drop_path(self._attend(self.norm1(x)))
        out: Tensor = x + self.drop_path(self.mlp(self.norm2(x)))
        return out

    def _attend(self, x: Tensor) -> Tensor:
        height, width = x.shape[1:3]
        x = F.pad(x, (0, 0, 0, -width % self.window, 0, -height % self.window))
        foreign = None
        if self.shift:
            x = x.roll((-self.shift, -self.shift), dims=(1, 2))
            foreign = foreign_tokens(x.shape[1], x.shape[2], self.window, self.shift, x.device)
        x = merge_windows(self.attention(split_windows(x, self.window), foreign), x.shape[1], x.shape[2])
        if self.shift:
            x = x.roll((self.shift, self.shift), dims=(1, 2))
        return x[:, :height, :width]


class PatchEmbedding(nn.Module):
    """Every patch of 4 x 4 pixels becomes one token."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.projection = nn.Conv2d(3, channels, _PATCH, stride=_PATCH)
        self.norm = nn.LayerNorm(channels)

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n h4 w4 c"]:
        height, width = images.shape[2:]
        images = F.pad(images, (0, -width % _PATCH, 0, -height % _PATCH))
        tokens: Tensor = self.norm(self.projection(images).permute(0, 2, 3, 1))
        return tokens


class PatchMerging(nn.Module):
    """Every 2 x 2 tokens become one, of twice the channels; channel 4 c + 2 row + column before the reduction."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * channels)
        self.reduction = nn.Linear(4 * channels, 2 * channels, bias=False)

    def forward(self, x: Float[Tensor, "n h w c"]) -> Float[Tensor, "n h2 w2 c2"]:
        x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        merged = F.pixel_unshuffle(x.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)
        reduced: Tensor = self.reduction(self.norm(merged))
        return reduced


class SwinTransformer(Backbone):
    """Image backbone; returns the maps of all stages but the first, at 1/8, 1/16 and 1/32 of the input.

    Every returned map passes a LayerNorm of its own, which the next stage does not see. The rate of stochastic depth
    grows linearly from 0 at the first block to ``drop_path`` at the last.
    """

    reductions = (8, 16, 32)

    def __init__(self, config: SwinConfig) -> None:
        super().__init__()
        widths = [config.embed_dims * 2**i for i in range(len(config.depths))]
        rates = iter(torch.linspace(0, config.drop_path, sum(config.depths), device="cpu").tolist())
        self.out_channels = tuple(widths[1:])
        self.patch_embedding = PatchEmbedding(widths[0])
        self.stages = nn.ModuleList(
            nn.Sequential(
                *(SwinBlock(width, heads, config.window, block % 2 == 1, next(rates)) for block in range(depth))
            )
            for width, heads, depth in zip(widths, config.heads, config.depths, strict=True)
        )
        self.mergings = nn.ModuleList(PatchMerging(width) for width, _ in pairwise(widths))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in self.out_channels)
        self.apply(_initialise)

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> tuple[Tensor, ...]:
        x = self.stages[0](self.patch_embedding(images))  # n h/4 w/4 c
        maps = []
        for merging, stage, norm in zip(self.mergings, list(self.stages)[1:], self.norms, strict=True):
            x = stage(merging(x))
            maps.append(norm(x).permute(0, 3, 1, 2).contiguous())
        return tuple(maps)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=_INIT_STD)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
