"""Pooling of lifted image features into BEV cells: every pixel's feature, weighted by its depth probabilities, is
summed into the cells its frustum points fall into.

The lifted tensor (images x depths x height x width x channels) would take gigabytes. It is never made: a cell is a
bag of (pixel, weight) pairs and the sum over a bag is torch's `embedding_bag`, on the CPU and on GPUs, with
gradients to features and probabilities. :func:`bev_pool_reference` is the same sum in the obvious way.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional


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
        dropped. cell_count: number of cells, those of all samples of the batch together.
    """
    images, depths, height, width = cells.shape
    rows = features.float().permute(0, 2, 3, 1).reshape(images * height * width, -1)
    flat_cells = cells.flatten()
    points = torch.nonzero(flat_cells >= 0).flatten()
    kept_cells, order = torch.sort(flat_cells[points], stable=True)
    points = points[order]
    pixels = points // (depths * height * width) * (height * width) + points % (height * width)
    bag_starts = torch.searchsorted(kept_cells, torch.arange(cell_count, device=cells.device))
    weights = depth_probability.float().flatten().index_select(0, points)
    return functional.embedding_bag(pixels, rows, bag_starts, mode="sum", per_sample_weights=weights)


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
