"""Pillars, pillar net, calibration."""

import pytest
import torch

from crkd_core.config.models import RadarBranchConfig
from crkd_core.geometry.grid import BEVGrid
from crkd_core.models.radar import RadarBranch

GRID = BEVGrid((-7.2, 7.2), (-7.2, 7.2), (-5.0, 3.0), 0.6)


@pytest.mark.parametrize("padding", ["released", "masked"])
@pytest.mark.parametrize("points", [(0, 0), (0, 1), (7, 0), (40, 30)])
def test_few_points_are_no_problem(padding, points):
    branch = RadarBranch(RadarBranchConfig(channels=(6, 8), padding=padding, calibration=True), GRID)
    radar = [(torch.rand(count, 45) - 0.5) * 10 for count in points]
    bev, activation = branch(radar)
    assert bev.shape == (2, 8, 24, 24)
    assert activation.shape == (2, 1, 24, 24)
    assert (activation >= 0).all()
    (bev.sum() + activation.sum()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in branch.parameters())


def test_a_residual_calibration_begins_with_the_map_and_learns():
    plain = RadarBranch(RadarBranchConfig(channels=(6, 8)), GRID)
    branch = RadarBranch(RadarBranchConfig(channels=(6, 8), calibration=True, calibration_residual=True), GRID)
    replacing = RadarBranch(RadarBranchConfig(channels=(6, 8), calibration=True), GRID)
    assert branch.state_dict().keys() == replacing.state_dict().keys()
    branch.load_state_dict(plain.state_dict(), strict=False)
    replacing.load_state_dict(plain.state_dict(), strict=False)
    radar = [(torch.rand(60, 45) - 0.5) * 10]
    expected = plain(radar)[0]
    assert torch.equal(branch(radar)[0], expected)
    assert not torch.allclose(replacing(radar)[0], expected)
    optimizer = torch.optim.SGD(branch.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        (branch(radar)[0] - 1).square().mean().backward()
        optimizer.step()
    assert all(
        p.grad is not None and p.grad.abs().sum() > 0 for p in branch.calibration[0][0].parameters() if p.dim() > 1
    )
    assert not torch.allclose(branch(radar)[0], expected)


def test_a_leaking_activation_learns_below_zero_and_a_plain_one_does_not():
    branch = RadarBranch(RadarBranchConfig(channels=(6, 8), calibration=True), GRID)
    weight = branch.activation[0].weight
    with torch.no_grad():
        weight.copy_(-weight.abs())
    radar = [(torch.rand(60, 45) - 0.5) * 10]
    gradients = []
    for slope in (0.0, 0.1, 0.0):
        branch.leak_activation(slope)
        activation = branch(radar)[1]
        assert (activation.min() < 0) == (slope > 0)
        gradients.append(torch.autograd.grad((activation - 0.5).abs().mean(), weight)[0].abs().sum())
    assert gradients[1] > 0
    assert gradients[0] == gradients[2] == 0
    RadarBranch(RadarBranchConfig(channels=(8,)), GRID).leak_activation(0.1)


def test_masked_padding_ignores_the_number_of_slots():
    radar = [(torch.rand(60, 45) - 0.5) * 10]
    maps = []
    for slots in (20, 40):
        torch.manual_seed(0)
        branch = RadarBranch(RadarBranchConfig(channels=(6, 8), padding="masked", max_points=slots), GRID)
        maps.append(branch(radar)[0])
    assert torch.allclose(*maps)


def test_pillar_appears_in_the_cell_of_its_points():
    branch = RadarBranch(RadarBranchConfig(channels=(8,)), GRID).eval()
    point = torch.ones(1, 45)
    point[0, :3] = torch.tensor([-7.1, 6.9, 0.0])
    bev, activation = branch([point])
    assert activation is None
    assert torch.nonzero(bev[0].abs().sum(0)).tolist() == [[0, 23]]
