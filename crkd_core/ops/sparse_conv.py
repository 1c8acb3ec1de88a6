"""Sparse 3D convolution for the LiDAR encoder: in plain torch here, or on a GPU by a library (:mod:`.sparse_triton`).

A sparse tensor has features at a few *sites* of a grid. A convolution is a *rulebook*: for every kernel offset, which
input sites contribute to which output sites. Features are gathered by it, multiplied with the offset's weight
matrix and added up. Convolutions are cross-correlations, as torch's dense ones: output site ``o`` takes input site
``i`` through offset ``k`` where ``i = o * stride - padding + k``. Weights are ``[kx, ky, kz, in, out]``.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from crkd_core.ops import sparse_triton
from crkd_core.ops.voxelize import flat_voxel_index, index_type

Triple = tuple[int, int, int]


@dataclass(frozen=True)
class PairsByRow:
    """Pairs grouped by one of their two rows: those of row r are ``order[starts[r] : starts[r + 1]]``."""

    order: Int[Tensor, "pairs"]
    starts: Int[Tensor, "rows"]

    @staticmethod
    def group(row_of_pair: Int[Tensor, "pairs"], rows: int) -> "PairsByRow":
        """Pairs of one row stay in their order."""
        sizes = torch.bincount(row_of_pair, minlength=rows)
        return PairsByRow(torch.sort(row_of_pair, stable=True).indices, sizes.cumsum(0) - sizes)

    def sums(self, values: Float[Tensor, "pairs c"]) -> Float[Tensor, "rows c"]:
        """The sum over the pairs of each row, in the same order in every run."""
        if not len(self.order):
            return values.new_zeros((len(self.starts), values.shape[1]))
        return functional.embedding_bag(self.order, values, self.starts, mode="sum")


@dataclass(frozen=True)
class Rulebook:
    """The pairs (source row, target row) of a convolution, one kernel offset after the other.

    Within one offset no row occurs twice. Grouped by row, which gathers what a row gets from all offsets at once, they
    serve all layers and both passes.

    Attributes:
        sources, targets: (P,) int32 rows of the pairs.
        sizes: pairs of each kernel offset.
        by_target: the pairs grouped by target.
        inputs, outputs: number of sites on either side.
        symmetric: the opposite offset has the same pairs in the same order, sources and targets swapped.
    """

    sources: Int[Tensor, "pairs"]
    targets: Int[Tensor, "pairs"]
    sizes: Sequence[int]
    by_target: PairsByRow
    inputs: int
    outputs: int
    symmetric: bool = False

    @cached_property
    def by_source(self) -> PairsByRow:
        return PairsByRow.group(self.sources, self.inputs)


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
        # An odd kernel is point-symmetric: if b is a's neighbour at an offset, a is b's at the opposite one. So only
        # the offsets after the centre are looked up, and every pair serves twice.
        neighbours, valid = self._later_neighbours(kernel)
        sizes = valid.sum(dim=1).tolist()
        pairs = torch.nonzero(valid.flatten()).flatten()
        rows = (pairs % max(len(self.coordinates), 1)).int().split(sizes)
        others = neighbours.flatten().index_select(0, pairs).split(sizes)
        every = torch.arange(len(self.coordinates), device=valid.device, dtype=torch.int32)
        targets = torch.cat([*reversed(others), every, *rows])
        return Rulebook(
            sources=torch.cat([*reversed(rows), every, *others]),
            targets=targets,
            sizes=[*reversed(sizes), len(every), *sizes],
            by_target=PairsByRow.group(targets, len(every)),
            inputs=len(every),
            outputs=len(every),
            symmetric=True,
        )

    def _later_neighbours(self, kernel: Triple) -> tuple[Int[Tensor, "later n"], Bool[Tensor, "later n"]]:
        """Row of every site's neighbour at each kernel offset after the centre, and whether it has one."""
        half, device = torch.tensor([size // 2 for size in kernel]), self.coordinates.device
        # With a margin around the grid a neighbour outside it has a key that no site has.
        nx, ny, nz = (torch.tensor(self.spatial_shape) + 2 * half).tolist()
        keys = flat_voxel_index(self.coordinates + functional.pad(half, (1, 0)).to(device), (nx, ny, nz))
        keys = keys.to(index_type(self.batch_size * nx * ny * nz))
        columns = _kernel_offsets((kernel[0], kernel[1], 1), half.device) - half
        steps = (columns * torch.tensor([ny * nz, nz, 1])).sum(dim=1)[len(columns) // 2 :].to(keys)
        lowest = keys + steps[:, None]
        # The cells of a column follow each other in the sorted keys, so that one search serves all its heights.
        row = torch.searchsorted(keys, lowest, out_int32=True)
        keys = functional.pad(keys, (0, 1), value=-1)
        neighbours, valid = [], []
        for height in range(kernel[2]):
            neighbours.append(row)
            valid.append(keys[row] == lowest + height)
            row = row + valid[-1]
        later = slice(kernel[2] // 2 + 1, None)
        return torch.stack(neighbours, dim=1).flatten(0, 1)[later], torch.stack(valid, dim=1).flatten(0, 1)[later]

    def downsampled(self, kernel: Triple, stride: Triple, padding: Triple) -> tuple["SparseSites", Rulebook]:
        """The sites a strided convolution reaches, and the rulebook that leads there."""
        shape = output_shape(self.spatial_shape, kernel, stride, padding)
        coordinates = self.coordinates.T.to(index_type(self.batch_size * math.prod(shape)))
        keys, valid = coordinates[:1], torch.ones_like(coordinates[:1], dtype=torch.bool)
        for axis in range(3):
            offsets = torch.arange(kernel[axis], device=coordinates.device, dtype=coordinates.dtype)
            scaled = coordinates[axis + 1] + padding[axis] - offsets[:, None]
            cells = torch.div(scaled, stride[axis], rounding_mode="floor")
            is_reached = (scaled == cells * stride[axis]) & (cells >= 0) & (cells < shape[axis])
            keys = (keys[:, None] * shape[axis] + cells).flatten(0, 1)  # kernel offsets so far, n
            valid = (valid[:, None] & is_reached).flatten(0, 1)
        pairs = torch.nonzero(valid.flatten()).flatten()
        source = pairs % max(len(self.coordinates), 1)
        ordered, order = torch.sort(keys.flatten().index_select(0, pairs), stable=True)
        keys, rank, counts = torch.unique_consecutive(ordered, return_inverse=True, return_counts=True)
        by_target = PairsByRow(order, counts.cumsum(0) - counts)
        target = torch.empty_like(rank, dtype=torch.int32).index_copy_(0, order, rank.int())
        sites = SparseSites(_coordinates(keys.long(), shape), shape, self.batch_size)
        sizes = valid.sum(dim=1).tolist()
        return sites, Rulebook(source.int(), target, sizes, by_target, len(self.coordinates), len(keys))


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
        keys = flat_voxel_index(coordinates, spatial_shape)
        order = torch.argsort(keys.to(index_type(batch_size * math.prod(spatial_shape))))
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


class _GatherMatmulSum(torch.autograd.Function):
    """One convolution by its rulebook; keeps only its inputs for the backward pass, not the products.

    Every pair's product is written once and the products of a row are added up once, which takes half as long as
    adding offset by offset; both give the same sums (:func:`convolve_reference`).
    """

    @staticmethod
    def forward(ctx, features: Tensor, weight: Tensor, rulebook: Rulebook) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(features, weight)
        ctx.rulebook = rulebook
        products = features.new_empty((len(rulebook.sources), weight.shape[2]))
        parts = zip(weight, rulebook.sources.split(rulebook.sizes), products.split(rulebook.sizes), strict=True)
        for matrix, source, product in parts:
            torch.mm(features.index_select(0, source), matrix, out=product)
        return rulebook.by_target.sums(products)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, Tensor, None]:  # type: ignore[override]
        features, weight = ctx.saved_tensors
        rulebook: Rulebook = ctx.rulebook
        sources, targets = (rows.split(rulebook.sizes) for rows in (rulebook.sources, rulebook.targets))
        to_weight = torch.empty_like(weight)
        products = features.new_empty((len(rulebook.sources), weight.shape[1]))
        parts: Sequence[Tensor] = products.split(rulebook.sizes)
        # A pair's source is the target of its opposite, in whose place its product saves grouping by source.
        parts, by_source = (parts[::-1], rulebook.by_target) if rulebook.symmetric else (parts, rulebook.by_source)
        # What an offset gathers is used up before the next offset's, while it is in a processor's cache.
        for k, (source, target) in enumerate(zip(sources, targets, strict=True)):
            gathered = grad.index_select(0, target)
            torch.mm(features.index_select(0, source).T, gathered, out=to_weight[k])
            if ctx.needs_input_grad[0]:
                torch.mm(gathered, weight[k].T, out=parts[k])
        return (by_source.sums(products) if ctx.needs_input_grad[0] else None), to_weight, None


def convolve_by_rulebook(
    features: Float[Tensor, "n c"], weight: Float[Tensor, "k c out"], rulebook: Rulebook
) -> Float[Tensor, "m out"]:
    """A sparse convolution, and its gradients."""
    out: Tensor = _GatherMatmulSum.apply(features, weight, rulebook)
    return out


def convolve_reference(
    features: Float[Tensor, "n c"], weight: Float[Tensor, "k c out"], rulebook: Rulebook
) -> Float[Tensor, "m out"]:
    """The definition of a sparse convolution, which is slower: gather, multiply and add, offset by offset."""
    out = features.new_zeros((rulebook.outputs, weight.shape[2]))
    parts = zip(weight, rulebook.sources.split(rulebook.sizes), rulebook.targets.split(rulebook.sizes), strict=True)
    for matrix, source, target in parts:
        out = out.index_add(0, target, features[source] @ matrix)
    return out


def _convolve(features: Tensor, weight: Tensor, rulebook: Rulebook) -> Tensor:
    with torch.autocast(features.device.type, enabled=False):
        return convolve_by_rulebook(features.float(), weight.float().flatten(0, 2), rulebook)


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
