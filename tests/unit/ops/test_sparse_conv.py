"""Sparse convolutions against torch's dense ones."""

import itertools

import pytest
import torch
from torch.nn import functional

from crkd_core.ops.sparse_conv import (
    SparseConv3d,
    SparseTensor,
    SubmanifoldConv3d,
    convolve_by_rulebook,
    convolve_reference,
)

SHAPE = (6, 5, 7)


def random_sparse(channels: int = 3, batch: int = 2, density: float = 0.15) -> SparseTensor:
    occupied = torch.rand(batch, *SHAPE) < density
    coordinates = torch.nonzero(occupied)
    shuffled = coordinates[torch.randperm(len(coordinates))]
    features = torch.randn(len(coordinates), channels, requires_grad=True)
    return SparseTensor.build(features, shuffled, SHAPE, batch)


def dense_weight(conv) -> torch.Tensor:
    return conv.weight.permute(4, 3, 0, 1, 2)


def gradients(out, *inputs):
    cotangent = torch.linspace(-1, 1, out.numel()).view_as(out)
    return torch.autograd.grad((out * cotangent).sum(), inputs)


@pytest.mark.parametrize(("kernel", "stride", "padding"), [
    ((3, 3, 3), (2, 2, 2), (1, 1, 1)), ((3, 3, 3), (2, 2, 2), (1, 1, 0)), ((1, 1, 3), (1, 1, 2), (0, 0, 0)),
])  # fmt: skip
def test_strided_convolution_equals_dense(kernel, stride, padding):
    torch.manual_seed(1)
    x, conv = random_sparse(), SparseConv3d(3, 4, kernel, stride, padding)
    sparse = conv(x)
    dense = functional.conv3d(x.dense(), dense_weight(conv), stride=stride, padding=padding)
    assert sparse.dense().shape == dense.shape
    assert torch.allclose(sparse.dense(), dense, atol=1e-5)
    for a, b in zip(
        gradients(sparse.dense(), x.features, conv.weight), gradients(dense, x.features, conv.weight), strict=True
    ):
        assert torch.allclose(a, b, atol=1e-4)
    assert (sparse.sites.keys.diff() > 0).all()


def test_submanifold_convolution_equals_dense_at_its_sites():
    torch.manual_seed(2)
    x, conv = random_sparse(), SubmanifoldConv3d(3, 4)
    sparse = conv(x)
    b, i, j, k = x.sites.coordinates.unbind(1)
    dense = functional.conv3d(x.dense(), dense_weight(conv), padding=1)[b, :, i, j, k]
    assert torch.allclose(sparse.features, dense, atol=1e-5)
    for a, e in zip(
        gradients(sparse.features, x.features, conv.weight), gradients(dense, x.features, conv.weight), strict=True
    ):
        assert torch.allclose(a, e, atol=1e-4)


@pytest.mark.parametrize("kernel", [(3, 3, 3), (1, 1, 3), (3, 1, 1), (1, 1, 1), (5, 3, 1), (1, 3, 5)])
def test_submanifold_rulebook_pairs_neighbours(kernel):
    """Against a look-up of every neighbour of every site, on a grid whose borders are occupied."""
    torch.manual_seed(3)
    sites = random_sparse(density=0.5).sites
    rows = {tuple(site): row for row, site in enumerate(sites.coordinates.tolist())}
    expected = []
    for step in itertools.product(*(range(-(size // 2), size // 2 + 1) for size in kernel)):
        neighbours = [(b, x + step[0], y + step[1], z + step[2]) for b, x, y, z in rows]
        expected.append([(rows[cell], row) for row, cell in enumerate(neighbours) if cell in rows])
    rulebook = sites.submanifold_rulebook(kernel)
    parts = (rulebook.sources.split(rulebook.sizes), rulebook.targets.split(rulebook.sizes))
    pairs = [list(zip(*(part.tolist() for part in pair), strict=True)) for pair in zip(*parts, strict=True)]
    assert [sorted(part) for part in pairs] == [sorted(part) for part in expected]


def rulebooks():
    torch.manual_seed(4)
    sites = random_sparse().sites
    return [sites.submanifold_rulebook((3, 3, 3)), sites.downsampled((3, 3, 3), (2, 2, 2), (1, 1, 1))[1]]


@pytest.mark.parametrize("rulebook", rulebooks(), ids=["submanifold", "strided"])
def test_convolution_by_rulebook_equals_the_reference(rulebook):
    results = []
    for convolve in (convolve_by_rulebook, convolve_reference):
        torch.manual_seed(5)
        features = torch.randn(rulebook.inputs, 3, dtype=torch.float64, requires_grad=True)
        weight = torch.randn(27, 3, 4, dtype=torch.float64, requires_grad=True)
        out = convolve(features, weight, rulebook)
        results.append((out, *gradients(out, features, weight)))
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected)


def test_gradients_of_the_convolution():
    torch.manual_seed(6)
    rulebook = random_sparse(density=0.03).sites.submanifold_rulebook((3, 3, 3))
    features = torch.randn(rulebook.inputs, 2, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(27, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *parts: convolve_by_rulebook(*parts, rulebook), (features, weight))


def test_layers_of_one_resolution_share_sites_and_rulebook():
    x = random_sparse()
    out = SubmanifoldConv3d(3, 3)(SubmanifoldConv3d(3, 3)(x))
    assert out.sites is x.sites
    assert x.sites.submanifold_rulebook((3, 3, 3)) is out.sites.submanifold_rulebook((3, 3, 3))


def test_samples_do_not_touch():
    coordinates = torch.tensor([[0, 5, 4, 6], [1, 0, 0, 0]])
    x = SparseTensor.build(torch.ones(2, 1), coordinates, SHAPE, 2)
    conv = SubmanifoldConv3d(1, 1)
    assert torch.allclose(conv(x).features, conv.weight[1, 1, 1].expand(2, 1))


def test_no_sites():
    x = SparseTensor.build(torch.zeros(0, 3, requires_grad=True), torch.zeros(0, 4, dtype=torch.long), SHAPE, 2)
    out = SparseConv3d(3, 4)(SubmanifoldConv3d(3, 3)(x)).dense()
    assert out.shape == (2, 4, 3, 3, 4)
    assert not out.any()
    out.sum().backward()


def test_autocast_computes_in_float32():
    x, conv = random_sparse(), SubmanifoldConv3d(3, 4)
    expected = conv(x).features
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(conv(x.with_features(x.features)).features, expected)
