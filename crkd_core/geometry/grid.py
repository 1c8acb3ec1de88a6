"""The bird's-eye-view grid: the only place that turns metres into cells and back."""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class BEVGrid:
    """Square BEV cells over a half-open area ``[lower, upper)`` of the model frame.

    BEV tensors are ``[B, C, X, Y]``: dimension 2 runs along x (right), dimension 3 along y (forward). A point belongs
    to the cell ``floor((p - lower) / cell_m)``: the released code truncates instead, which lets points up to one
    cell below the lower border into cell 0.

    Attributes:
        x_range_m, y_range_m, z_range_m: (lower, upper) in metres.
        cell_m: side of a cell in metres.
        rounding: ``truncate`` repeats the released code, for comparison.
    """

    x_range_m: tuple[float, float]
    y_range_m: tuple[float, float]
    z_range_m: tuple[float, float]
    cell_m: float
    rounding: Literal["floor", "truncate"] = "floor"

    @property
    def shape(self) -> tuple[int, int]:
        """Number of cells along x and y."""
        return (
            round((self.x_range_m[1] - self.x_range_m[0]) / self.cell_m),
            round((self.y_range_m[1] - self.y_range_m[0]) / self.cell_m),
        )

    @property
    def lower_m(self) -> tuple[float, float]:
        """x and y of the outer corner of cell (0, 0), in metres."""
        return (self.x_range_m[0], self.y_range_m[0])

    def with_cell(self, cell_m: float) -> "BEVGrid":
        """The same area in cells of another size."""
        return replace(self, cell_m=cell_m)

    def to_cells(self, xy_m: Float[Tensor, "*n 2"]) -> Float[Tensor, "*n 2"]:
        """Metres to fractional cells: cell i covers [i, i + 1)."""
        lower = torch.tensor(self.lower_m, dtype=xy_m.dtype, device=xy_m.device)
        return (xy_m - lower) / self.cell_m

    def to_metres(self, cells: Float[Tensor, "*n 2"]) -> Float[Tensor, "*n 2"]:
        """Fractional cells to metres; the inverse of :meth:`to_cells`."""
        lower = torch.tensor(self.lower_m, dtype=cells.dtype, device=cells.device)
        return cells * self.cell_m + lower

    def locate(self, xy_m: Float[Tensor, "*n 2"]) -> tuple[Int[Tensor, "*n 2"], Bool[Tensor, "*n"]]:
        """Cell indices and whether they lie on the grid; indices outside are not clipped."""
        cells = self.to_cells(xy_m)
        cells = (cells.floor() if self.rounding == "floor" else cells.trunc()).long()
        nx, ny = self.shape
        inside = (cells[..., 0] >= 0) & (cells[..., 0] < nx) & (cells[..., 1] >= 0) & (cells[..., 1] < ny)
        return cells, inside

    def flatten(self, cells: Int[Tensor, "*n 2"]) -> Int[Tensor, "*n"]:
        """Row-major index ``x * ny + y`` of cells on the grid."""
        return cells[..., 0] * self.shape[1] + cells[..., 1]

    def centres(self, device: torch.device | str | None = None) -> Float[Tensor, "nx ny 2"]:
        """x and y of every cell's centre, in metres."""
        nx, ny = self.shape
        cells = torch.stack(
            torch.meshgrid(torch.arange(nx, device=device), torch.arange(ny, device=device), indexing="ij"), dim=-1
        )
        return self.to_metres(cells.float() + 0.5)
