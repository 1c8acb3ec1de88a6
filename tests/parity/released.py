"""The published conventions and settings in ours.

Boxes there have their bottom centre and the yaw ``-yaw - pi / 2`` of ours. Settings are read from the recorded
configuration of a case and never assumed.
"""

import math
from itertools import accumulate
from operator import mul
from typing import Any

from torch import Tensor

from crkd_core.config.data import DataConfig, GridConfig, ImageConfig
from crkd_core.config.models import (
    CameraBranchConfig,
    CameraNeckConfig,
    DecoderConfig,
    DetectorConfig,
    FuserConfig,
    HeadConfig,
    LidarBranchConfig,
    NMSConfig,
    RadarBranchConfig,
    ResNetConfig,
    SwinConfig,
    ViewTransformConfig,
)
from crkd_core.geometry.boxes import Boxes3D
from crkd_core.geometry.grid import BEVGrid
from crkd_core.geometry.sensors import CameraRig
from crkd_core.models.outputs import HeadOutput, TaskOutput
from tests.parity.cases import GoldenCase

Settings = dict[str, Any]

HEAD_MAPS = {
    "heatmap_logits": "heatmap",
    "offset": "reg",
    "height": "height",
    "log_size": "dim",
    "rotation": "rot",
    "velocity": "vel",
}
# Our corners (floor counter-clockwise from front-left, then roof) in the published order.
CORNER_ORDER = [3, 7, 6, 2, 0, 4, 5, 1]
_RESNETS = {
    18: ("basic", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
}
_EVERYWHERE = (-math.inf, math.inf)
# Without range filter: for loaders that have none.
UNBOUNDED = GridConfig.model_construct(
    x_range_m=_EVERYWHERE, y_range_m=_EVERYWHERE, z_range_m=_EVERYWHERE, cell_m=0.6, rounding="floor"
)


def boxes_from_released(tensor: Tensor, *, centred: bool = False) -> Boxes3D:
    """Published boxes in our convention; `centred`: they have their gravity centre already."""
    boxes = tensor.clone()
    if not centred:
        boxes[:, 2] += boxes[:, 5] / 2
    boxes[:, 6] = -boxes[:, 6] - math.pi / 2
    return Boxes3D(boxes)


def boxes_to_released(boxes: Boxes3D, near_yaw: Tensor | None = None, *, centred: bool = False) -> Tensor:
    """Our boxes in the published convention, each yaw by whole turns nearest to `near_yaw`."""
    tensor = boxes.tensor.clone()
    if not centred:
        tensor[:, 2] -= tensor[:, 5] / 2
    tensor[:, 6] = -tensor[:, 6] - math.pi / 2
    if near_yaw is not None and len(near_yaw) == len(tensor):
        tensor[:, 6] += 2 * math.pi * ((near_yaw - tensor[:, 6]) / (2 * math.pi)).round()
    return tensor


def head_from_case(case: GoldenCase, prefix: str, *, grad: bool = False, half: bool = False) -> HeadOutput:
    """Recorded head maps under `prefix`, as leaves; `half`: rounded to half precision first."""
    tasks = []
    for task in range(len({key.split("/")[0] for key in case.under(f"{prefix}task")})):
        maps = {}
        for name, published in HEAD_MAPS.items():
            values = case[f"{prefix}task{task}/{published}"]
            maps[name] = (values.half().float() if half else values).requires_grad_(grad)
        tasks.append(TaskOutput(**maps))
    return HeadOutput(tuple(tasks))


def rig_from_case(case: GoldenCase) -> CameraRig:
    """Recorded calibration."""
    return CameraRig(case["in/camera_intrinsics"][..., :3, :3], case["in/camera2lidar"], case["in/img_aug_matrix"])


def grid_from_range(point_cloud_range: list[float], cell_m: float, *, truncate: bool = True) -> BEVGrid:
    """Grid of a published range x0 y0 z0 x1 y1 z1."""
    x0, y0, z0, x1, y1, z1 = (float(value) for value in point_cloud_range)
    return BEVGrid((x0, x1), (y0, y1), (z0, z1), float(cell_m), "truncate" if truncate else "floor")


def grid_from_train_cfg(train_cfg: Settings) -> BEVGrid:
    """The head's grid."""
    return grid_from_range(train_cfg["point_cloud_range"], train_cfg["voxel_size"][0] * train_cfg["out_size_factor"])


def head_config(head: Settings) -> HeadConfig:
    """Targets, losses and suppression of a recorded head; parts may be missing."""
    train = head.get("train_cfg", {})
    values: Settings = {"nms": nms_config(head["test_cfg"], head["tasks"])} if "test_cfg" in head else {}
    if "share_conv_channel" in head:
        values["shared_channels"] = head["share_conv_channel"]
    if "separate_head" in head:
        values["map_channels"] = head["separate_head"]["head_conv"]
    if "loss_bbox" in head:
        values["box_loss_weight"] = head["loss_bbox"]["loss_weight"]
    if "code_weights" in train:
        *others, vx, vy = train["code_weights"]
        if set(others) != {1.0} or vx != vy:
            raise ValueError(f"our box loss weighs nothing but the velocity, and the case {train['code_weights']}")
        values["velocity_weight"] = vx
    published_names = {
        "gaussian_overlap": "gaussian_overlap",
        "min_radius_cells": "min_radius",
        "max_objects": "max_objs",
    }
    values |= {name: train[published] for name, published in published_names.items() if published in train}
    return HeadConfig(**values)


def nms_config(test_cfg: Settings, tasks: list[list[str]], coder: Settings | None = None) -> NMSConfig:
    """Suppression of a recorded head."""
    coder = coder or {}
    limits = coder.get("post_center_range", test_cfg["post_center_limit_range"])
    circle = {
        classes[0]: radius
        for classes, kind, radius in zip(tasks, test_cfg["nms_type"], test_cfg["min_radius"])
        if kind == "circle"
    }
    factors = {
        name: factor
        for classes, scales in zip(tasks, test_cfg["nms_scale"])
        for name, factor in zip(classes, scales)
        if factor != 1
    }
    return NMSConfig(
        score_threshold=coder.get("score_threshold", test_cfg["score_threshold"]),
        max_candidates=coder.get("max_num", test_cfg["max_per_img"]),
        max_rotated=test_cfg["pre_max_size"],
        max_detections=test_cfg["post_max_size"],
        centre_limit_m=limits[3],
        height_limit_m=limits[5],
        rotated_iou=test_cfg["nms_thr"],
        circle_classes=circle,
        size_factors=factors,
    )


def view_config(view: Settings) -> ViewTransformConfig:
    """View transform; its heights are those that truncation really pools."""
    depth, height = view["dbound"], view["zbound"]
    return ViewTransformConfig(
        kind="depth_lss" if view.get("type", "").startswith("Depth") else "lss",
        depth_range_m=(depth[0], depth[1]),
        depth_step_m=depth[2],
        z_range_m=(height[0] - height[2], height[1]),
        channels=view["out_channels"],
        downsample=view.get("downsample", 1),
    )


def view_grid(view: Settings) -> BEVGrid:
    """The grid of a view transform's result."""
    (x0, x1, cell), (y0, y1, _), (z0, z1, _) = view["xbound"], view["ybound"], view["zbound"]
    return grid_from_range([x0, y0, z0, x1, y1, z1], cell * view.get("downsample", 1))


def backbone_config(backbone: Settings) -> ResNetConfig | SwinConfig:
    """Image backbone; a Swin Transformer of other than four stages is not checked."""
    if "embed_dims" in backbone:
        make = SwinConfig if len(backbone["depths"]) == 4 else SwinConfig.model_construct
        return make(
            embed_dims=backbone["embed_dims"],
            depths=tuple(backbone["depths"]),
            heads=tuple(backbone["num_heads"]),
            window=backbone["window_size"],
            drop_path=backbone.get("drop_path_rate", 0.0),
        )
    block, depths = _RESNETS[backbone["depth"]]
    return ResNetConfig(block=block, depths=depths, width=backbone.get("base_channels", 64))


def neck_config(neck: Settings) -> CameraNeckConfig:
    """Image pyramid."""
    if neck["type"] == "SECONDFPN":
        return CameraNeckConfig(kind="second_fpn", channels=sum(neck["out_channels"]))
    return CameraNeckConfig(kind="lss_fpn", channels=neck["out_channels"])


def decoder_config(backbone: Settings, neck: Settings) -> DecoderConfig:
    """Residual BEV decoder; there, too, the last stage is merged with the first, and brought back to the grid."""
    blocks, widths, strides = zip(*backbone["blocks"])
    if list(neck["in_indices"]) != [-1, 0] or neck["scale_factor"] != strides[0]:
        raise ValueError(f"our decoder merges its last stage with its first and undoes its stride, the case has {neck}")
    return DecoderConfig(channels=widths, blocks=blocks, strides=strides, out_channels=neck["out_channels"])


def second_config(settings: Settings) -> DecoderConfig:
    """SECOND-style BEV decoder; there, too, all stages come back to the grid with equal widths."""
    strides, back, widths = (settings[name] for name in ("layer_strides", "upsample_strides", "fpn_out"))
    if list(accumulate(strides, mul)) != list(back) or len(set(widths)) != 1:
        raise ValueError(f"our SECOND decoder brings all stages back to the grid, the case strides {strides} by {back}")
    return DecoderConfig(
        kind="second",
        channels=tuple(settings["out_channels"]),
        blocks=tuple(settings["layer_nums"]),
        strides=tuple(strides),
        out_channels=sum(widths),
    )


def lidar_config(encoder: Settings, voxelize: Settings) -> LidarBranchConfig:
    """LiDAR branch."""
    return LidarBranchConfig(
        voxel_m=tuple(voxelize["voxel_size"]),
        max_points=voxelize["max_num_points"],
        max_voxels_train=voxelize["max_voxels"][0],
        max_voxels_test=voxelize["max_voxels"][1],
        stem_channels=encoder["base_channels"],
        stage_channels=tuple(tuple(layers) for layers in encoder["encoder_channels"]),
        out_channels=encoder["output_channels"],
    )


def radar_config(radar: Settings) -> RadarBranchConfig:
    """Radar branch."""
    voxelize, backbone = radar["voxelize"], radar["backbone"]
    return RadarBranchConfig(
        max_points=voxelize["max_num_points"],
        max_pillars_train=voxelize["max_voxels"][0],
        max_pillars_test=voxelize["max_voxels"][1],
        channels=tuple(backbone["pts_voxel_encoder"]["feat_channels"]),
        # A dictionary that says anything switches it on there.
        calibration=bool(backbone.get("distill_caliber")),
    )


def detector_config(model: Settings, suffix: str = "") -> DetectorConfig:
    """A whole recorded detector; `suffix`: of the student within a distiller."""
    encoders = {name: settings for name, settings in model[f"encoders{suffix}"].items() if settings}
    parts: Settings = {"modalities": tuple(name for name in ("camera", "lidar", "radar") if name in encoders)}
    if "camera" in encoders:
        camera = encoders["camera"]
        parts["camera"] = CameraBranchConfig(
            backbone=backbone_config(camera["backbone"]),
            neck=neck_config(camera["neck"]),
            view_transform=view_config(camera["vtransform"]),
        )
    if "lidar" in encoders:
        parts["lidar"] = lidar_config(encoders["lidar"]["backbone"], encoders["lidar"]["voxelize"])
    if "radar" in encoders:
        parts["radar"] = radar_config(encoders["radar"])
    fuser = model.get(f"fuser{suffix}")
    if fuser:
        kind = "gated" if fuser["type"] == "GatedFuser" else "conv"
        parts["fuser"] = FuserConfig(kind=kind, channels=fuser["out_channels"])
    decoder = model[f"decoder{suffix}"]
    parts["decoder"] = decoder_config(decoder["backbone"], decoder["neck"])
    parts["head"] = head_config(model[f"heads{suffix}"]["object"])
    return DetectorConfig(**parts)


def data_config(model: Settings, image_size: list[int], suffix: str = "") -> DataConfig:
    """Grid and images of a recorded detector; sizes that our settings refuse are let through, the modules take them."""
    grid = grid_from_train_cfg(model[f"heads{suffix}"]["object"]["train_cfg"])
    return DataConfig(
        grid=GridConfig.model_construct(**vars(grid)),
        image=ImageConfig.model_construct(height_px=image_size[0], width_px=image_size[1]),
    )
