"""Result files, the learning rate, and the conversion of ImageNet checkpoints."""

import re

import numpy as np
import torch
from numpy.typing import NDArray

from crkd_core.config.models import SwinConfig
from crkd_core.config.train import TrainConfig
from crkd_core.evaluation.io.detections import to_global
from crkd_core.evaluation.nuscenes.attributes import attribute_names
from crkd_core.geometry.boxes import Boxes3D
from crkd_core.geometry.transforms import compose, transform_points
from crkd_core.models.backbones.swin import relative_position_index
from crkd_core.training.schedule import learning_rate_factor
from crkd_core.weights.backbones import import_swin
from crkd_core.weights.naming import our_name
from tests.parity.cases import GoldenCase
from tests.parity.comparison import Comparison
from tests.parity.released import boxes_from_released
from tests.support.described import NUSCENES
from tests.support.poses import pose

_POSITIONS = "relative_position_index"


def run_results(comparison: Comparison) -> None:
    """Detections of one sample as nuScenes boxes in the global frame, with attributes."""
    case = comparison.case
    boxes = boxes_from_released(case["in/boxes"].double())
    ego_from_lidar = _pose(case, "lidar2ego")
    kept = np.flatnonzero(_in_range(case, boxes, ego_from_lidar))
    comparison.rule("range-filter")
    comparison.check("out/kept_index", kept)
    boxes = boxes[torch.from_numpy(kept)]
    world = to_global(boxes, compose(_pose(case, "ego2global"), ego_from_lidar))
    comparison.check("out/translation__f64", world.translation)
    comparison.check("out/wlh__f64", boxes.size_wlh)
    comparison.check("out/rotation_wxyz__f64", _same_sign(world.rotation_wxyz, case.arrays["out/rotation_wxyz__f64"]))
    comparison.rule("planar-velocity")
    comparison.check("out/velocity__f64", world.velocity, columns=[0, 1])
    attributes = attribute_names(case.arrays["in/labels"][kept], world.velocity, NUSCENES)
    comparison.require("config/attributes", attributes == case.config["attributes"], f"our attributes are {attributes}")


def _pose(case: GoldenCase, name: str) -> NDArray[np.float64]:
    return pose(case.arrays[f"in/{name}_rotation__f64"], case.arrays[f"in/{name}_translation__f64"])


def _in_range(case: GoldenCase, boxes: Boxes3D, ego_from_lidar: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which boxes lie within their class's range around the car."""
    limits = np.array([case.config["class_range"][name] for name in case.config["classes"]], dtype=np.float64)
    centre = transform_points(ego_from_lidar, boxes.centre.double().numpy())
    return np.hypot(centre[:, 0], centre[:, 1]) <= limits[case.arrays["in/labels"]]


def _same_sign(rotation: NDArray, recorded: NDArray) -> NDArray:
    """Quaternions of either sign are one rotation."""
    if rotation.shape != recorded.shape:
        return rotation
    return np.where((rotation * recorded).sum(axis=1, keepdims=True) < 0, -rotation, rotation)


def run_schedule(comparison: Comparison) -> None:
    """Learning rate of every step, for every base rate."""
    comparison.rule("released-cosine")
    case = comparison.case
    config = _train_config(case.config.get("hook", ""))
    per_epoch, epochs = case.config["iters_per_epoch"], case.config["epochs"]
    factors = [learning_rate_factor(step, per_epoch, epochs, config) for step in range(per_epoch * epochs)]
    comparison.check("out/lr__f64", np.outer(factors, case.config["base"]))


def _train_config(hook: str) -> TrainConfig:
    """Warm-up and last rate as the settings tell them in words; our defaults where they do not."""
    values: dict[str, float] = {}
    if steps := re.search(r"(\d+) iters", hook):
        values["warmup_steps"] = int(steps[1])
    if ratio := re.search(r"warmup .*?ratio (\d+)/(\d+)", hook):
        values["warmup_ratio"] = int(ratio[1]) / int(ratio[2])
    if last := re.search(r"min_lr_ratio ([\d.e+-]+)", hook):
        values["final_ratio"] = float(last[1])
    return TrainConfig(cosine="epoch", **values)


def run_checkpoint_conversion(comparison: Comparison) -> None:
    """An official Swin checkpoint in ours, compared with the published conversion of it."""
    case = comparison.case
    config = _swin_config(case)
    positions = relative_position_index(config.window)
    state = {key: positions if key.endswith(_POSITIONS) else value for key, value in case.under("in/").items()}
    weights = import_swin(state, config).weights
    for key in case.keys("out/"):
        name = key.removeprefix("out/backbone.")
        if name.startswith("norm."):
            comparison.leave_out(key, "classifier-norm")
        elif name.endswith(_POSITIONS):
            comparison.leave_out(key, "noise-positions")
        else:
            renamed = our_name(f"encoders.camera.backbone.{name}") or ""
            comparison.check(key, weights[renamed.removeprefix("camera.backbone.")])


def _swin_config(case: GoldenCase) -> SwinConfig:
    depths = tuple(case.config["depths"])
    tables = [case[f"in/layers.{stage}.blocks.0.attn.relative_position_bias_table"] for stage in range(len(depths))]
    window = (round(len(tables[0]) ** 0.5) + 1) // 2
    return SwinConfig.model_construct(
        embed_dims=case.config["embed"],
        depths=depths,
        heads=tuple(table.shape[1] for table in tables),
        window=window,
        drop_path=0.0,
    )
