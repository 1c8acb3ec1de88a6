"""BEV maps kept on a few cells only: what the teacher says where it matters."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from crkd_core.errors import ConfigError


@dataclass(frozen=True)
class SparseCells:
    """The values of a map [B, C, X, Y] on P of its cells.

    Attributes:
        indices: flat cell indices ``b * X * Y + x * Y + y``, ascending and unique.
        features: the map's channels there.
        batch_size: B, also counting samples without any cell.
        grid_shape: (X, Y).
    """

    indices: Int[Tensor, "p"]
    features: Float[Tensor, "p c"]
    batch_size: int
    grid_shape: tuple[int, int]

    @staticmethod
    def select(bev_map: Float[Tensor, "b c x y"], chosen: Bool[Tensor, "b x y"]) -> "SparseCells":
        """The chosen cells of a map, without its gradient, in float32."""
        indices = chosen.flatten().nonzero().squeeze(1)
        nx, ny = bev_map.shape[2:]
        return SparseCells(
            indices, gather_cells(bev_map.detach(), indices).float(), bev_map.shape[0], (int(nx), int(ny))
        )

    def gather(self, bev_map: Float[Tensor, "b c x y"]) -> Float[Tensor, "p c"]:
        """Another map's channels on the same cells, in float32; gradients flow into that map.

        Raises:
            ConfigError: the map has another batch size, grid or number of channels.
        """
        expected = (self.batch_size, self.features.shape[1], *self.grid_shape)
        if tuple(bev_map.shape) != expected:
            raise ConfigError(
                f"the teacher's cells come from maps of the shape {expected} (batch, channels, x, y) but the student's "
                f"map has {tuple(bev_map.shape)}; give both detectors the same batch, grid and channels"
            )
        return gather_cells(bev_map, self.indices).float()

    def split(self) -> list["SparseCells"]:
        """One batch of one per sample."""
        cells = self.grid_shape[0] * self.grid_shape[1]
        borders = torch.arange(self.batch_size + 1, device=self.indices.device) * cells
        rows = torch.searchsorted(self.indices, borders).tolist()
        return [
            SparseCells(self.indices[start:stop] - sample * cells, self.features[start:stop], 1, self.grid_shape)
            for sample, (start, stop) in enumerate(pairwise(rows))
        ]

    @staticmethod
    def collate(parts: list["SparseCells"]) -> "SparseCells":
        """Several batches, one after the other; the inverse of :meth:`split`."""
        nx, ny = parts[0].grid_shape
        offset, indices = 0, []
        for part in parts:
            indices.append(part.indices + offset * nx * ny)
            offset += part.batch_size
        return SparseCells(torch.cat(indices), torch.cat([part.features for part in parts]), offset, (nx, ny))


def gather_cells(bev_map: Float[Tensor, "b c x y"], indices: Int[Tensor, "p"]) -> Float[Tensor, "p c"]:
    """A map's channels on cells given by their flat indices; touches nothing but those cells."""
    cells = bev_map.shape[2] * bev_map.shape[3]
    sample = torch.div(indices, cells, rounding_mode="floor")
    return bev_map.flatten(2)[sample, :, indices - sample * cells]
