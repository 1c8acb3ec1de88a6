"""Pillars, pillar net, calibration."""

import pytest
import torch
from golden_cases import GoldenCase, load_case, load_published, relative_error

from crkd_core.config.models import RadarBranchConfig
from crkd_core.geometry.grid import BEVGrid
from crkd_core.models.radar import PillarNet, RadarBranch, build_calibration, scatter_pillars
from crkd_core.ops.voxelize import Voxels

GRID = BEVGrid((-7.2, 7.2), (-7.2, 7.2), (-5.0, 3.0), 0.6)
PREFIXES = ("encoders.radar.backbone.pts_voxel_encoder.", "radar.pillar_net.")


def recorded_pillars(case: GoldenCase) -> Voxels:
    return Voxels(case["in/feats"], case["in/coords"].long(), case["in/sizes"].long())


def test_pillar_net_agrees_with_published():
    case = load_case("radar_feature_net")
    net = PillarNet(7, (10, 12, 8, 16), GRID, masked_padding=False).eval()
    load_published(net, case.under("param/"), *PREFIXES)
    pillars = recorded_pillars(case)
    before = pillars.features.clone()
    assert relative_error(net(pillars), case["out/out"]) < 1e-4
    assert torch.equal(pillars.features, before)


def test_pillar_net_trains_as_published():
    case = load_case("radar_feature_net_train")
    net = PillarNet(7, (10, 12, 8, 16), GRID, masked_padding=False)
    load_published(net, case.under("param/"), *PREFIXES)
    out = net(recorded_pillars(case))
    assert relative_error(out, case["out/out"]) < 1e-4
    (out * case["in/cotangent"]).sum().backward()
    for key, expected in case.under("grad/param/").items():
        assert relative_error(net.get_parameter(key.replace("rfn_layers", "layers")).grad, expected) < 1e-3
    for key, expected in case.under("out_state/").items():
        assert relative_error(net.get_buffer(key.replace("rfn_layers", "layers")), expected) < 1e-4


def test_encoder_agrees_with_published():
    case = load_case("radar_encoder")
    net = PillarNet(7, (10, 12, 8, 16), GRID, masked_padding=False).eval()
    load_published(net, case.under("param/pts_voxel_encoder."), *PREFIXES)
    pillars = recorded_pillars(case)
    assert relative_error(scatter_pillars(net(pillars), pillars, GRID, 2), case["out/out"]) < 1e-4


def test_calibration_agrees_with_published():
    case = load_case("radar_encoder_calib")
    grid = BEVGrid((-4.2, 4.2), (-4.2, 4.2), (-5.0, 3.0), 0.6)
    net = PillarNet(5, (8, 256), grid, masked_padding=False).eval()
    load_published(net, case.under("param/pts_voxel_encoder."), *PREFIXES)
    pillars = recorded_pillars(case)
    bev = scatter_pillars(net(pillars), pillars, grid, 2)
    assert relative_error(bev, case["out/before_caliber"]) < 1e-4
    calibration, activation = build_calibration(256)
    state = case.under("param/caliber.")
    for layer in (0, 3, 6):
        a, b, s = (case[f"param_factor/caliber.{layer}.weight/{name}"] for name in "ABS")
        state[f"{layer}.weight"] = torch.einsum("or,ri,rhw->oihw", a, b, s) / 64 * 0.6
    load_published(calibration, state, "encoders.radar.backbone.caliber.", "radar.calibration.")
    load_published(
        activation,
        case.under("param/distill_activation_head."),
        "encoders.radar.backbone.distill_activation_head.",
        "radar.activation.",
    )
    calibrated = calibration.eval()(bev)
    assert relative_error(calibrated, case["out/bev"]) < 1e-4
    assert relative_error(activation(calibrated), case["out/activation"]) < 1e-4


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
