"""Every operation gives on a GPU what it gives on the CPU."""

import pytest
import torch

from crkd_core.ops import sparse_triton
from crkd_core.ops.bev_pool import bev_pool
from crkd_core.ops.nms import circle_nms, rotated_nms
from crkd_core.ops.sparse_conv import SparseConv3d, SparseTensor, SubmanifoldConv3d
from crkd_core.ops.voxelize import VoxelGrid, voxelize

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]


@pytest.mark.parametrize("nothing", [False, True])
def test_bev_pool(nothing):
    torch.manual_seed(0)
    features, probability = torch.randn(3, 5, 8, 6), torch.rand(3, 7, 8, 6)
    cells = torch.full((3, 7, 8, 6), -1) if nothing else torch.randint(-4, 20, (3, 7, 8, 6))
    results = []
    for device in ("cpu", "cuda"):
        f, p = (t.detach().to(device).requires_grad_() for t in (features, probability))
        out = bev_pool(f, p, cells.to(device), 25)
        (out * torch.linspace(-1, 1, out.numel(), device=device).view_as(out)).sum().backward()
        results.append([t.detach().cpu() for t in (out, f.grad, p.grad)])
    for a, b in zip(*results, strict=True):
        assert torch.allclose(a, b, atol=1e-4)


def test_voxels_are_identical():
    torch.manual_seed(0)
    points = torch.rand(5000, 5) * 4 - 2
    grid = VoxelGrid((-2.0, -2.0, -2.0), (0.3, 0.3, 0.5), (13, 13, 8), max_points=4)
    for max_voxels in (50, 5000):
        on_cpu, on_gpu = voxelize(points, grid, max_voxels), voxelize(points.cuda(), grid, max_voxels)
        assert torch.equal(on_cpu.features, on_gpu.features.cpu())
        assert torch.equal(on_cpu.coordinates, on_gpu.coordinates.cpu())
        assert torch.equal(on_cpu.counts, on_gpu.counts.cpu())


def test_sparse_convolutions():
    torch.manual_seed(0)
    coordinates = torch.nonzero(torch.rand(2, 12, 10, 9) < 0.2)
    features = torch.randn(len(coordinates), 4)
    layers = torch.nn.Sequential(SubmanifoldConv3d(4, 6), SparseConv3d(6, 8))
    results = []
    for device in ("cpu", "cuda"):
        layers.zero_grad()
        x = SparseTensor.build(features.to(device), coordinates.to(device), (12, 10, 9), 2)
        out = layers.to(device)(x).dense()
        out.square().sum().backward()
        results.append([out.detach().cpu(), *(p.grad.detach().clone().cpu() for p in layers.parameters())])
    for a, b in zip(*results, strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("training", [False, True])
def test_both_sparse_convolutions_agree(training, monkeypatch):
    pytest.importorskip("spconv_triton", reason="needs crkd[gpu]")
    torch.manual_seed(0)
    coordinates = torch.nonzero(torch.rand(2, 24, 21, 11) < 0.1).cuda()
    layers = torch.nn.Sequential(
        SubmanifoldConv3d(5, 16),
        SubmanifoldConv3d(16, 16),
        SparseConv3d(16, 32, padding=(1, 1, 0)),
        SparseConv3d(32, 8, (1, 1, 3), (1, 1, 2), (0, 0, 0)),
    )
    layers.cuda().train(training)
    results = []
    for choice in ("torch", "triton"):
        monkeypatch.setenv(sparse_triton.SWITCH, choice)
        layers.zero_grad()
        features = torch.linspace(-1, 1, len(coordinates) * 5, device="cuda").view(-1, 5).requires_grad_()
        with torch.autocast("cuda", dtype=torch.float16):
            out = layers(SparseTensor.build(features, coordinates, (24, 21, 11), 2))
        assert out.features.dtype == torch.float32
        (
            out.features * torch.linspace(-1, 1, out.features.numel(), device="cuda").view_as(out.features)
        ).sum().backward()
        gradients = [p.grad.clone() for p in layers.parameters()]
        results.append([out.sites.coordinates, out.features.detach(), features.grad, *gradients])
    for reference, library in zip(*results, strict=True):
        torch.testing.assert_close(library, reference, rtol=1e-3, atol=1e-3)


def test_suppression_is_identical():
    torch.manual_seed(0)
    rectangles = torch.rand(3, 300, 5) * torch.tensor([20.0, 20, 4, 2, 6]) + torch.tensor([0, 0, 1.0, 1.0, 0])
    candidates, limits = torch.rand(3, 300) < 0.9, torch.tensor([1.0, 4.0, 9.0])
    there = rectangles.cuda(), candidates.cuda()
    assert torch.equal(rotated_nms(rectangles, 0.2, candidates), rotated_nms(there[0], 0.2, there[1]).cpu())
    circle = circle_nms(there[0][..., :2], limits.cuda(), there[1]).cpu()
    assert torch.equal(circle_nms(rectangles[..., :2], limits, candidates), circle)
