"""Which BEV cells count as foreground when feature maps are compared (paper, section 3.3.2).

Ground-truth boxes are grown before they become masks, because the student locates objects less precisely than the
teacher: radar and camera more so far away, and along the direction in which an object moves.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from crkd_core.config.distill import MSFDConfig
from crkd_core.geometry.boxes import Boxes3D
from crkd_core.geometry.grid import BEVGrid


def foreground_mask(boxes: Boxes3D, grid: BEVGrid, config: MSFDConfig) -> Bool[Tensor, "x y"]:
    """Cells of the grown ground-truth boxes of one sample.

    Width and length grow by a share of the side that depends on the range of the box's centre, plus one that depends
    on the speed along the axis; the sum is clipped to `growth_limits_m`. An unknown (NaN) velocity counts as still.

    ``rotated``: the exact footprint. A cell belongs to it if its centre lies in the grown, rotated rectangle, and the
    cell of a box's centre always does. Speeds are those along the box's own axes.

    ``plain``: the same of the boxes as they are.

    ``released``: the published code's rectangles, for comparison. The speed along x grows the width and that along y
    the length, whatever the heading; the mask is an axis-aligned rectangle between corners of the rotated box, so its
    sides shrink with the angle; the last row and column of the grid are never chosen.

    Args:
        boxes: ground truth in the model frame after augmentation.
        grid: the grid of the maps to compare.
        config: the kind of mask and the growth.
    """
    if len(boxes) == 0:
        return torch.zeros(grid.shape, dtype=torch.bool, device=boxes.tensor.device)
    boxes = Boxes3D(boxes.tensor.float())
    if config.mask == "released":
        return _released_rectangles(boxes, grid, config)
    if config.mask == "plain":
        config = config.model_copy(update={"growth_limits_m": (0.0, 0.0)})
    return _rotated_footprints(boxes, grid, config)


def grown_sides(
    boxes: Boxes3D, speed_across_along_mps: Float[Tensor, "m 2"], config: MSFDConfig
) -> Float[Tensor, "m 2"]:
    """Width and length (m) after growing by range and by the speeds that go with them."""
    growth, more_growth = config.growth
    near, far = config.range_steps_m
    slow, fast = config.speed_steps_mps

    range_m = boxes.centre[:, :2].norm(dim=1, keepdim=True)
    by_range = growth * (range_m > near) + (more_growth - growth) * (range_m >= far)
    speed = speed_across_along_mps.abs()
    by_speed = growth * (speed > slow) + (more_growth - growth) * (speed >= fast)

    sides = boxes.size_wlh[:, :2]
    grown: Tensor = sides + (sides * (by_range + by_speed)).clamp(*config.growth_limits_m)
    return grown


def _rotated_footprints(boxes: Boxes3D, grid: BEVGrid, config: MSFDConfig) -> Bool[Tensor, "x y"]:
    cos, sin = boxes.yaw.cos()[:, None], boxes.yaw.sin()[:, None]
    vx, vy = boxes.velocity.nan_to_num(nan=0.0).split(1, dim=1)
    across_along = torch.cat([vy * cos - vx * sin, vx * cos + vy * sin], dim=1)
    half_width, half_length = (grown_sides(boxes, across_along, config) / 2).split(1, dim=1)

    # Cells in the boxes' own axes: the two coordinates are sums of a term in x and one in y.
    cell_centres = grid.centres(boxes.tensor.device)
    x = cell_centres[:, 0, 0] - boxes.centre[:, :1]
    y = cell_centres[0, :, 1] - boxes.centre[:, 1:2]
    along = (x * cos)[:, :, None] + (y * sin)[:, None, :]
    across = (y * cos)[:, None, :] - (x * sin)[:, :, None]
    inside: Tensor = (along.abs() <= half_length[:, :, None]) & (across.abs() <= half_width[:, :, None])
    return inside.any(dim=0) | _centre_cells(boxes, grid)


def _centre_cells(boxes: Boxes3D, grid: BEVGrid) -> Bool[Tensor, "x y"]:
    cells, inside = grid.locate(boxes.centre[:, :2])
    mask = torch.zeros(grid.shape, dtype=torch.bool, device=boxes.tensor.device)
    x, y = cells[inside].unbind(dim=1)
    mask[x, y] = True
    return mask


def released_cells(boxes: Boxes3D, width_length_m: Float[Tensor, "m 2"], grid: BEVGrid) -> Int[Tensor, "m 2 2"]:
    """Cells (x, y) of two opposite corners of each box's rectangle in the published code, for boxes of these sides.

    The x of both are of box corners that share the back, the y of corners that share the left side. Which of the two
    comes first along an axis depends on the box's angle; cells off the grid are not clipped.
    """
    # Cosine and sine of the released yaw, which `models/box_coder.py` explains.
    old_cos, old_sin = -boxes.yaw.sin(), -boxes.yaw.cos()
    half_width, half_length = (width_length_m / 2).unbind(dim=1)
    shift = torch.stack([-half_length * old_sin, half_width * old_sin], dim=1)
    reach = torch.stack([half_width * old_cos, half_length * old_cos], dim=1)
    centre = boxes.centre[:, :2]
    cells, _ = grid.locate(torch.stack([centre + shift - reach, centre + shift + reach], dim=1))
    return cells


def _released_rectangles(boxes: Boxes3D, grid: BEVGrid, config: MSFDConfig) -> Bool[Tensor, "x y"]:
    sides = grown_sides(boxes, boxes.velocity.nan_to_num(nan=0.0), config)
    return paint_rectangles(released_cells(boxes, sides, grid), grid.shape)


def paint_rectangles(cells: Int[Tensor, "m 2 2"], shape: tuple[int, int]) -> Bool[Tensor, "x y"]:
    """Cells of axis-aligned rectangles between two opposite corners (x, y), as the published code paints them.

    Along each axis the higher end is excluded, and both are clipped to the last cell first, so that the last row and
    column are never chosen.
    """
    first, last = cells.amin(dim=1), cells.amax(dim=1)
    inside_x, inside_y = _between(first[:, 0], last[:, 0], shape[0]), _between(first[:, 1], last[:, 1], shape[1])
    return (inside_x[:, :, None] & inside_y[:, None, :]).any(dim=0)


def _between(first: Int[Tensor, "m"], last: Int[Tensor, "m"], size: int) -> Bool[Tensor, "m n"]:
    """Cells ``first <= i < last`` of one axis, with both ends clipped to the last cell's index."""
    cell = torch.arange(size, device=first.device)
    return (cell >= first.clamp(0, size - 1)[:, None]) & (cell < last.clamp(0, size - 1)[:, None])
