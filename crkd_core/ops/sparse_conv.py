"""Sparse 3D convolution for the LiDAR encoder: in plain torch here, or on a GPU by a library (:mod:`.sparse_triton`).

A sparse tensor has features at a few *sites* of a grid. A convolution is a *rulebook*: for every kernel offset, which
input sites contribute to which output sites. Features are gathered by it, multiplied with the offset's weight
matrix and added up. Convolutions are cross-correlations, as torch's dense ones: output site ``o`` takes input site
``i`` through offset ``k`` where ``i = o * stride - padding + k``. Weights are ``[kx, ky, kz, in, out]``.
"""

import itertools
import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from crkd_core.ops import sparse_triton
from crkd_core.ops.voxelize import flat_voxel_index

Triple = tuple[int, int, int]


@dataclass(frozen=True)
class Rulebook:
    """For every kernel offset the pairs (source row, target row); within one offset no row occurs twice."""

    sources: tuple[Tensor, ...]
    targets: tuple[Tensor, ...]
    outputs: int


@dataclass(frozen=True)
class SparseSites:
    """The active sites of a grid, shared by all layers of one resolution, which therefore share a rulebook.

    Attributes:
        coordinates: (N, 4) sample, x, y, z; unique and sorted.
        spatial_shape: cells along x, y, z.
        batch_size: number of samples.
        library_cache: what spconv-triton keeps instead of rulebooks, where it computes.
    """

    coordinates: Tensor
    spatial_shape: Triple
    batch_size: int
    _rulebooks: dict[Triple, Rulebook] = field(default_factory=dict, repr=False, compare=False)
    library_cache: sparse_triton.NeighbourCache = field(default_factory=dict, repr=False, compare=False)

    @property
    def keys(self) -> Tensor:
        """(N,) flat index of every site, ascending."""
        return flat_voxel_index(self.coordinates, self.spatial_shape)

    def submanifold_rulebook(self, kernel: Triple) -> Rulebook:
        """Rulebook whose outputs are the inputs' own sites; made once for a kernel size and kept."""
        if kernel not in self._rulebooks:
            self._rulebooks[kernel] = self._make_submanifold_rulebook(kernel)
        return self._rulebooks[kernel]

    def _make_submanifold_rulebook(self, kernel: Triple) -> Rulebook:
        keys, shape = self.keys, self.spatial_shape
        offsets = _kernel_offsets(kernel, keys.device) - torch.tensor([k // 2 for k in kernel], device=keys.device)
        # An odd kernel is point-symmetric: if b is a's neighbour at an offset, a is b's at the opposite one. So only
        # the offsets after the centre are looked up, and every pair found serves twice.
        later = offsets[len(offsets) // 2 + 1 :]
        steps = (later * torch.tensor([shape[1] * shape[2], shape[2], 1], device=keys.device)).sum(dim=1)
        neighbour_keys = keys + steps[:, None]
        nearest = torch.searchsorted(keys, neighbour_keys).clamp_(max=max(len(keys) - 1, 0))
        valid = keys[nearest] == neighbour_keys if len(keys) else torch.zeros_like(neighbour_keys, dtype=torch.bool)
        for axis in range(3):
            neighbours = self.coordinates[:, axis + 1] + later[:, axis, None]
            valid &= (neighbours >= 0) & (neighbours < shape[axis])
        sizes = valid.sum(dim=1).tolist()
        rows = torch.nonzero(valid)[:, 1].split(sizes)
        others = nearest[valid].split(sizes)
        every = torch.arange(len(keys), device=keys.device)
        return Rulebook(
            sources=(*reversed(rows), every, *others), targets=(*reversed(others), every, *rows), outputs=len(keys)
        )

    def downsampled(self, kernel: Triple, stride: Triple, padding: Triple) -> tuple["SparseSites", Rulebook]:
        """The sites a strided convolution reaches, and the rulebook that leads there."""
        shape = output_shape(self.spatial_shape, kernel, stride, padding)
        reached, valid = [], []
        for axis in range(3):
            offsets = torch.arange(kernel[axis], device=self.coordinates.device)
            scaled = self.coordinates[:, axis + 1] + padding[axis] - offsets[:, None]
            cells = torch.div(scaled, stride[axis], rounding_mode="floor")
            reached.append(cells)
            valid.append((scaled == cells * stride[axis]) & (cells >= 0) & (cells < shape[axis]))
        together = valid[0][:, None, None] & valid[1][None, :, None] & valid[2][None, None]
        offset, source = torch.nonzero(together.flatten(0, 2), as_tuple=True)
        key = self.coordinates[source, 0]
        for axis, step in enumerate((kernel[1] * kernel[2], kernel[2], 1)):
            key = key * shape[axis] + reached[axis][offset // step % kernel[axis], source]
        keys, target = torch.unique(key, return_inverse=True)
        sites = SparseSites(_coordinates(keys, shape), shape, self.batch_size)
        return sites, _rulebook(offset, source, target, math.prod(kernel), len(keys))


@dataclass(frozen=True)
class SparseTensor:
    """Features (N, C) at the sites of a grid."""

    features: Tensor
    sites: SparseSites

    @staticmethod
    def build(
        features: Float[Tensor, "n c"],
        coordinates: Int[Tensor, "n 4"],
        spatial_shape: Triple,
        batch_size: int,
    ) -> "SparseTensor":
        """From features at unique sites (sample, x, y, z) in any order."""
        order = torch.argsort(flat_voxel_index(coordinates, spatial_shape))
        return SparseTensor(features[order], SparseSites(coordinates[order], spatial_shape, batch_size))

    def with_features(self, features: Tensor) -> "SparseTensor":
        """Other features at the same sites."""
        return SparseTensor(features, self.sites)

    def dense(self) -> Float[Tensor, "b c x y z"]:
        """The dense tensor, zero where there is no site."""
        sites = self.sites
        cells = torch.zeros(
            (sites.batch_size * math.prod(sites.spatial_shape), self.features.shape[1]),
            dtype=self.features.dtype,
            device=self.features.device,
        )
        cells = cells.index_copy(0, sites.keys, self.features)
        return cells.view(sites.batch_size, *sites.spatial_shape, -1).permute(0, 4, 1, 2, 3)


class SubmanifoldConv3d(nn.Module):
    """Convolution of odd kernel size whose output sites are its input sites; without bias."""

    def __init__(self, in_channels: int, out_channels: int, kernel: Triple = (3, 3, 3)) -> None:
        super().__init__()
        self.kernel = kernel
        self.weight = _kernel_weight(kernel, in_channels, out_channels)

    def forward(self, x: SparseTensor) -> SparseTensor:
        sites = x.sites
        if _by_library(x, self.kernel):
            geometry = (sites.coordinates, sites.spatial_shape, sites.batch_size)
            return x.with_features(sparse_triton.submanifold(x.features, *geometry, self.weight, sites.library_cache))
        return x.with_features(_convolve(x.features, self.weight, sites.submanifold_rulebook(self.kernel)))


class SparseConv3d(nn.Module):
    """Convolution whose output sites are all that any input site reaches; without bias."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: Triple = (3, 3, 3),
        stride: Triple = (2, 2, 2),
        padding: Triple = (1, 1, 1),
    ) -> None:
        super().__init__()
        self.kernel, self.stride, self.padding = kernel, stride, padding
        self.weight = _kernel_weight(kernel, in_channels, out_channels)

    def forward(self, x: SparseTensor) -> SparseTensor:
        if _by_library(x, self.kernel):
            shape = output_shape(x.sites.spatial_shape, self.kernel, self.stride, self.padding)
            geometry = (x.sites.coordinates, x.sites.spatial_shape, x.sites.batch_size)
            outputs = sparse_triton.strided(x.features, *geometry, self.weight, self.stride, self.padding)
            return SparseTensor.build(*outputs, shape, x.sites.batch_size)
        sites, rulebook = x.sites.downsampled(self.kernel, self.stride, self.padding)
        return SparseTensor(_convolve(x.features, self.weight, rulebook), sites)


def _by_library(x: SparseTensor, kernel: Triple) -> bool:
    return sparse_triton.chosen_for(x.features.device, len(x.features), kernel)


def output_shape(shape: Triple, kernel: Triple, stride: Triple, padding: Triple) -> Triple:
    """Cells along x, y, z after a convolution."""
    x, y, z = ((n + 2 * p - k) // s + 1 for n, k, s, p in zip(shape, kernel, stride, padding, strict=True))
    return x, y, z


class _GatherMatmulScatter(torch.autograd.Function):
    """One convolution by its rulebook; keeps only its inputs for the backward pass, not the gathered copies.

    Within one kernel offset no row is added to twice, so that the sums have the same order in every run.
    """

    @staticmethod
    def forward(ctx, features: Tensor, weight: Tensor, rulebook: Rulebook) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(features, weight)
        ctx.rulebook = rulebook
        out = features.new_zeros((rulebook.outputs, weight.shape[2]))
        for matrix, source, target in zip(weight, rulebook.sources, rulebook.targets, strict=True):
            if len(source):
                out.index_add_(0, target, features[source] @ matrix)
        return out

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, None]:  # type: ignore[override]
        features, weight = ctx.saved_tensors
        to_features, to_weight = torch.zeros_like(features), torch.zeros_like(weight)
        for k, (source, target) in enumerate(zip(ctx.rulebook.sources, ctx.rulebook.targets, strict=True)):
            if len(source):
                part = grad[target]
                to_features.index_add_(0, source, part @ weight[k].T)
                to_weight[k] = features[source].T @ part
        return to_features, to_weight, None


def _convolve(features: Tensor, weight: Tensor, rulebook: Rulebook) -> Tensor:
    with torch.autocast(features.device.type, enabled=False):
        return _GatherMatmulScatter.apply(features.float(), weight.float().flatten(0, 2), rulebook)


def _kernel_weight(kernel: Triple, in_channels: int, out_channels: int) -> nn.Parameter:
    bound = math.sqrt(6 / (math.prod(kernel) * in_channels))
    return nn.Parameter(torch.empty(*kernel, in_channels, out_channels).uniform_(-bound, bound))


def _kernel_offsets(kernel: Triple, device: torch.device) -> Tensor:
    return torch.tensor(list(itertools.product(*(range(k) for k in kernel))), device=device)


def _coordinates(keys: Tensor, shape: Triple) -> Tensor:
    z = keys % shape[2]
    y = keys // shape[2] % shape[1]
    x = keys // (shape[2] * shape[1]) % shape[0]
    return torch.stack([keys // math.prod(shape), x, y, z], dim=1)


def _rulebook(offset: Tensor, source: Tensor, target: Tensor, offsets: int, outputs: int) -> Rulebook:
    sizes = torch.bincount(offset, minlength=offsets).tolist()
    return Rulebook(source.split(sizes), target.split(sizes), outputs)
