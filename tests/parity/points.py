"""Radar pillars and the LiDAR branch."""

import torch
from torch import Tensor

from crkd_core.models.lidar import SparseEncoder
from crkd_core.models.radar import PillarNet, build_calibration, scatter_pillars
from crkd_core.ops.sparse_conv import SparseTensor
from crkd_core.ops.voxelize import VoxelGrid, Voxels, voxelize, voxelize_batch
from tests.parity.cases import GoldenCase
from tests.parity.comparison import Comparison
from tests.parity.networks import record_outputs
from tests.parity.parts import Part, check_outputs, check_training
from tests.parity.released import grid_from_range, lidar_config

_RADAR = "encoders.radar.backbone"
# Recorded calibration weights are products of three small factors, to save room.
_FACTORS = "or,ri,rhw->oihw"
_FACTOR_SCALE = 0.6 / 64
_CELL_M, _HEIGHTS_M = 0.6, (-5.0, 3.0)


def run_voxelize(comparison: Comparison) -> None:
    """Hard voxelisation with the limits of training and evaluation."""
    case = comparison.case
    for limits, max_voxels in zip(("train", "eval"), case.config["max_voxels"]):
        for index, points in enumerate(case.series("in/points")):
            voxels = voxelize(points, _voxel_grid(case.config), max_voxels)
            tensors = {"voxels": voxels.features, "coors": voxels.coordinates[:, 1:], "num": voxels.counts}
            check_outputs(comparison, {f"{name}{index}": value for name, value in tensors.items()}, f"out/{limits}/")


def _voxel_grid(settings: dict) -> VoxelGrid:
    bounds, size = settings["point_cloud_range"], settings["voxel_size"]
    shape = tuple(round((upper - lower) / step) for lower, upper, step in zip(bounds[:3], bounds[3:], size))
    return VoxelGrid(
        tuple(float(v) for v in bounds[:3]), tuple(float(v) for v in size), shape, settings["max_num_points"]
    )


def run_feature_net(comparison: Comparison) -> None:
    """The pillar net alone, in evaluation mode, or in training mode where that was recorded."""
    case = comparison.case
    part = _pillar_net(case, case.config["cfg"]["pts_voxel_encoder"], "param/")
    training = bool(case.keys("out_state/") or case.keys("grad/"))
    part.module.train(training)
    pillars = _pillars(case)
    out = part.module(pillars)
    _check_scaled_features(comparison, part.module, pillars)
    check_outputs(comparison, {"out": out})
    if training:
        check_training(comparison, part, {}, {"out": out})


def run_radar_encoder(comparison: Comparison) -> None:
    """Pillar net and scatter; with the calibration of the distilled student where it has one."""
    case = comparison.case
    settings = case.config.get("cfg", {}).get("pts_voxel_encoder", case.config)
    part = _pillar_net(case, settings, "param/pts_voxel_encoder.")
    net = part.module.eval()
    pillars = _pillars(case)
    bev = scatter_pillars(net(pillars), pillars, net.grid, case.config["B"])
    _check_scaled_features(comparison, net, pillars)
    if not case.keys("param/distill_activation_head."):
        check_outputs(comparison, {"out": bev})
        return
    calibration, activation = build_calibration(bev.shape[1])
    Part(calibration, f"{_RADAR}.caliber", "radar.calibration").load(_calibration_weights(case))
    Part(activation, f"{_RADAR}.distill_activation_head", "radar.activation").load(
        case.under("param/distill_activation_head.")
    )
    calibrated = calibration.eval()(bev)
    check_outputs(comparison, {"before_caliber": bev, "bev": calibrated, "activation": activation(calibrated)})


def _pillar_net(case: GoldenCase, settings: dict, prefix: str) -> Part:
    if "point_cloud_range" in settings:
        grid = grid_from_range(settings["point_cloud_range"], settings["voxel_size"][0])
    else:
        x, y = (size * _CELL_M / 2 for size in settings["output_shape"])
        grid = grid_from_range([-x, -y, _HEIGHTS_M[0], x, y, _HEIGHTS_M[1]], _CELL_M)
    net = PillarNet(settings["in_channels"], tuple(settings["feat_channels"]), grid, masked_padding=False)
    return Part(net, f"{_RADAR}.pts_voxel_encoder", "radar.pillar_net").load(case.under(prefix))


def _pillars(case: GoldenCase) -> Voxels:
    return Voxels(case["in/feats"], case["in/coords"].long(), case["in/sizes"].long())


def _check_scaled_features(comparison: Comparison, net: PillarNet, pillars: Voxels) -> None:
    """The published net scales its caller's features; ours makes new ones and must leave the caller's alone."""
    key = "out/feats_after_call"
    if key in comparison.case:
        comparison.rule("in-place")
        comparison.check(key, net.point_features(pillars)[..., : pillars.features.shape[2]])
        untouched = torch.equal(pillars.features, comparison.case["in/feats"])
        comparison.require(key, untouched, "our module wrote to its caller's features")


def _calibration_weights(case: GoldenCase) -> dict[str, Tensor]:
    state = case.under("param/caliber.")
    for key in case.keys("param_factor/caliber."):
        name, _, factor = key.removeprefix("param_factor/caliber.").rpartition("/")
        if factor == "A":
            a, b, s = (case[f"param_factor/caliber.{name}/{letter}"] for letter in "ABS")
            state[name] = torch.einsum(_FACTORS, a, b, s) * _FACTOR_SCALE
    return state


def run_sparse_encoder(comparison: Comparison) -> None:
    """Voxels of LiDAR points and the sparse encoder: sites and features of every stage, map, gradients."""
    case, settings = comparison.case, comparison.case.config
    grid = _voxel_grid(settings)
    voxels = voxelize_batch(case.series("in/points"), grid, settings["max_voxels"][1])
    comparison.check("out/coords_bxyz", voxels.coordinates)
    comparison.check("out/sizes", voxels.counts)
    comparison.check("out/voxel_sum_input_mean", voxels.mean())

    shape = tuple(settings["sparse_shape"])
    encoder = SparseEncoder(voxels.features.shape[2], lidar_config(settings, settings), shape)
    part = Part(encoder, "encoders.lidar.backbone", "lidar.encoder").load(case.under("param/"))
    # There a last sample without points is not part of the batch.
    batch = len(case["out/bev"])
    stages = record_outputs(encoder.stages)
    last = record_outputs([encoder.out])

    def encode() -> Tensor:
        stages.clear()
        last.clear()
        return encoder(SparseTensor.build(voxels.mean(), voxels.coordinates, shape, batch))

    encoder.eval()
    comparison.check("out/bev", encode())
    _check_stages(comparison, stages, last[0])
    if case.keys("out_train/") or case.keys("grad/"):
        encoder.train()
        bev = encode()
        check_outputs(comparison, {"bev": bev}, "out_train/")
        check_training(comparison, part, {}, {"bev": bev})


def _check_stages(comparison: Comparison, stages: list[SparseTensor], last: SparseTensor) -> None:
    for index, stage in enumerate(stages):
        tensors = {
            "indices": stage.sites.coordinates,
            "features": stage.features,
            "shape": torch.tensor(stage.sites.spatial_shape),
        }
        check_outputs(comparison, {f"stage{index}/{name}": value for name, value in tensors.items()})
    check_outputs(comparison, {"conv_out_shape": torch.tensor(last.sites.spatial_shape)})
