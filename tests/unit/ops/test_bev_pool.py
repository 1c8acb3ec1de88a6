"""BEV pooling against its readable reference."""

import pytest
import torch

from crkd_core.ops.bev_pool import bev_pool, bev_pool_reference


def random_inputs(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(3, 5, 4, 6, generator=generator).to(dtype).requires_grad_()
    probability = torch.rand(3, 7, 4, 6, generator=generator).to(dtype).requires_grad_()
    cells = torch.randint(-4, 20, (3, 7, 4, 6), generator=generator)
    return features, probability, cells


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_pooling_and_gradients_equal_the_reference(dtype):
    results = []
    for pool in (bev_pool, bev_pool_reference):
        features, probability, cells = random_inputs(dtype)
        out = pool(features, probability, cells, 25)
        (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
        results.append((out.detach(), features.grad, probability.grad))
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    for actual, reference in zip(*results, strict=True):
        assert actual.dtype == reference.dtype
        assert torch.allclose(actual, reference, atol=tolerance, rtol=tolerance)
    assert results[0][0].dtype == torch.float32


def test_known_sum():
    features = torch.tensor([[[[2.0, 3.0]], [[5.0, 7.0]]]])
    probability = torch.tensor([[[[0.5, 0.25]], [[0.5, 0.75]]]])
    cells = torch.tensor([[[[1, 1]], [[-1, 0]]]])
    pooled = bev_pool(features, probability, cells, 3)
    assert pooled.tolist() == [[2.25, 5.25], [1.75, 4.25], [0.0, 0.0]]


def test_nothing_on_the_grid_is_zero_and_differentiable():
    features, probability, cells = random_inputs()
    out = bev_pool(features, probability, torch.full_like(cells, -1), 4)
    assert not out.any()
    out.sum().backward()
    assert not features.grad.any()
    assert not probability.grad.any()


def test_large_values_survive_half_precision():
    features = torch.full((1, 1, 8, 8), 3e4, dtype=torch.float16)
    out = bev_pool(features, torch.ones(1, 2, 8, 8, dtype=torch.float16), torch.zeros(1, 2, 8, 8, dtype=torch.long), 1)
    assert out.item() == pytest.approx(128 * 3e4, rel=1e-3)
