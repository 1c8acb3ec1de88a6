"""Pooling of lifted image features into BEV cells: every pixel's feature, weighted by its depth probabilities, is
summed into the cells its frustum points fall into.

The lifted tensor (images x depths x height x width x channels) would take gigabytes. It is never made: a cell is a
bag of (pixel, weight) pairs and the sum over a bag is torch's `embedding_bag`, on the CPU and on GPUs. For gradients a
pixel is a bag of the cells along its ray, which need no sorting. :func:`bev_pool_reference` is the same sum in the
obvious way.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from crkd_core.ops.voxelize import index_type


class _SumIntoCells(torch.autograd.Function):
    """Pixels' features, as rows, into cells; weights and cells are those of each pixel's ray."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weights: Tensor, cells: Tensor, cell_count: int) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(rows, weights, cells)
        flat_cells = cells.flatten().to(index_type(cell_count))
        on_grid = torch.nonzero(flat_cells >= 0).flatten()
        kept_cells, order = torch.sort(flat_cells.index_select(0, on_grid), stable=True)
        points = on_grid.index_select(0, order)
        sizes = torch.bincount(kept_cells, minlength=cell_count)
        return functional.embedding_bag(
            points // cells.shape[1],
            rows,
            sizes.cumsum(0) - sizes,
            mode="sum",
            per_sample_weights=weights.flatten().index_select(0, points),
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        rows, weights, cells = ctx.saved_tensors
        off_grid, grads = 0, functional.pad(grad, (0, 0, 1, 0))
        with torch.enable_grad():
            weights = weights.detach().requires_grad_()
            to_rows = functional.embedding_bag(
                (cells + 1).clamp_(min=off_grid), grads, mode="sum", per_sample_weights=weights, padding_idx=off_grid
            )
            # A weight's gradient is the product of its cell's with its pixel's feature.
            (to_weights,) = torch.autograd.grad(to_rows, weights, rows)
        return to_rows.detach(), to_weights, None, None


def bev_pool(
    features: Float[Tensor, "images channels h w"],
    depth_probability: Float[Tensor, "images depths h w"],
    cells: Int[Tensor, "images depths h w"],
    cell_count: int,
) -> Float[Tensor, "cells channels"]:
    """Sum of ``depth_probability * features`` over the frustum points of each cell, computed in float32.

    Args:
        features: image features, one vector a pixel.
        depth_probability: how likely a pixel's ray ends in each depth bin.
        cells: flat index of the cell each frustum point falls into, in [0, cell_count); negative: off the grid,
            dropped.
        cell_count: number of cells, those of all samples of the batch together.
    """
    by_pixel = (part.movedim(1, -1).flatten(0, 2) for part in (features.float(), depth_probability.float(), cells))
    pooled: Tensor = _SumIntoCells.apply(*by_pixel, cell_count)  # type: ignore[no-untyped-call]
    return pooled


def bev_pool_reference(
    features: Float[Tensor, "images channels h w"],
    depth_probability: Float[Tensor, "images depths h w"],
    cells: Int[Tensor, "images depths h w"],
    cell_count: int,
) -> Float[Tensor, "cells channels"]:
    """The readable version of :func:`bev_pool`, which makes the lifted tensor; for tests and small inputs."""
    lifted = depth_probability.float()[..., None] * features.float().permute(0, 2, 3, 1)[:, None]
    kept = cells >= 0
    pooled = torch.zeros((cell_count, features.shape[1]), device=features.device)
    return pooled.index_add(0, cells[kept], lifted[kept])
