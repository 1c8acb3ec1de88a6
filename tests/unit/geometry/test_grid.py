"""The BEV grid: metres to cells and back, and its half-open borders."""

from dataclasses import replace

import pytest
import torch

from crkd_core.config.data import GridConfig
from crkd_core.geometry.grid import BEVGrid

GRID = BEVGrid((-54.0, 54.0), (-27.0, 27.0), (-5.0, 3.0), 0.6)


def test_shape_counts_cells_along_x_then_y():
    assert GRID.shape == (180, 90)


@pytest.mark.parametrize("cell_m", [0.3, 0.6, 0.45, 2.7])
def test_a_configured_grid_has_as_many_cells(cell_m):
    config = GridConfig(x_range_m=(-54.0, 54.0), y_range_m=(-54.0, 54.0), cell_m=cell_m)
    assert config.cells == config.build().shape


def test_metres_and_cells_are_inverse():
    xy = torch.randn(100, 2, dtype=torch.float64) * 20
    torch.testing.assert_close(GRID.to_metres(GRID.to_cells(xy)), xy)


@pytest.mark.parametrize(
    ("x", "cell", "inside"),
    [(-54.0, 0, True), (-54.001, -1, False), (-54.59, -1, False), (53.999, 179, True), (54.0, 180, False)],
)
def test_borders_are_half_open_and_nothing_below_falls_into_cell_zero(x, cell, inside):
    cells, is_inside = GRID.locate(torch.tensor([[x, 0.0]], dtype=torch.float64))
    assert cells[0, 0] == cell
    assert bool(is_inside[0]) is inside


def test_centres_lie_in_their_own_cells_and_flatten_is_row_major():
    centres = GRID.centres().double()
    cells, inside = GRID.locate(centres)
    assert inside.all()
    assert torch.equal(GRID.flatten(cells).flatten(), torch.arange(180 * 90))


def test_other_cell_size_keeps_the_area():
    assert GRID.with_cell(0.3).shape == (360, 180)


@pytest.mark.parametrize(
    ("x", "cell", "inside"),
    [(-54.0, 0, True), (-54.59, 0, True), (-54.61, -1, False), (53.999, 179, True), (54.0, 180, False)],
)
def test_truncating_grids_take_one_cell_more_below_the_border(x, cell, inside):
    grid = replace(GRID, rounding="truncate")
    cells, is_inside = grid.locate(torch.tensor([[x, 0.0]], dtype=torch.float64))
    assert cells[0, 0] == cell
    assert bool(is_inside[0]) is inside
    assert grid.with_cell(0.3).rounding == "truncate"
