"""Overlap of rotated boxes and non-maximum suppression."""

import re

import torch
from torch import Tensor

from crkd_core.config.models import NMSConfig
from crkd_core.geometry.boxes import Boxes3D
from crkd_core.ops.nms import circle_nms, rotated_nms
from crkd_core.ops.rotated_iou import rotated_iou
from tests.parity.comparison import Comparison
from tests.parity.released import CORNER_ORDER, boxes_from_released, boxes_to_released

_OVERLAP_TOLERANCE = 1e-4
# Corners of the floor among the published eight, in the recorded order.
_FLOOR = [0, 3, 7, 4]


def run_rotated_nms(comparison: Comparison) -> None:
    """Overlaps of all pairs, and which boxes stay at several thresholds."""
    case = comparison.case
    boxes, scores = boxes_from_released(case["in/boxes"]), case["in/scores"]
    rectangles = _rectangles(boxes)
    comparison.check("out/iou", rotated_iou(rectangles, rectangles), tolerance=_OVERLAP_TOLERANCE)
    comparison.check("out/corners_bev", boxes.corners()[:, CORNER_ORDER][:, _FLOOR, :2])
    comparison.check("out/xyxyr", _sides_and_yaw(boxes, case["in/boxes"][:, 6]))
    limit = NMSConfig().max_detections
    order, everyone = torch.argsort(scores, descending=True, stable=True), torch.ones(len(scores), dtype=torch.bool)
    for key in case.keys("out/nms_keep_"):
        threshold, considered, kept = _limits(key.removeprefix("out/nms_keep_"), limit)
        top = order[:considered]
        comparison.check(key, top[rotated_nms(rectangles[top], threshold, everyone[:considered])][:kept])
    for key in case.keys("out/circle_keep_"):
        threshold, _, kept = _limits(key.removeprefix("out/circle_keep_"), limit)
        near = circle_nms(boxes.centre[order, :2], torch.tensor(threshold), everyone)
        comparison.check(key, order[near][:kept])


def _rectangles(boxes: Boxes3D) -> Tensor:
    return torch.cat([boxes.centre[:, :2], boxes.size_wlh[:, [1, 0]], boxes.yaw[:, None]], dim=1)


def _sides_and_yaw(boxes: Boxes3D, near_yaw: Tensor) -> Tensor:
    released = boxes_to_released(boxes, near_yaw)
    centre, half = released[:, :2], released[:, 3:5] / 2
    return torch.cat([centre - half, centre + half, released[:, 6:7]], dim=1)


def _limits(name: str, limit: int) -> tuple[float, int | None, int]:
    """Threshold, boxes considered and boxes kept of a recorded key such as ``0.2_pre20_post7``."""
    parts = re.fullmatch(r"([\d.]+)(?:_pre(\d+))?(?:_post(\d+))?", name)
    if parts is None:
        raise ValueError(f"cannot read the threshold and limits in {name!r}")
    threshold, considered, kept = parts.groups()
    return float(threshold), int(considered) if considered else None, int(kept) if kept else limit
