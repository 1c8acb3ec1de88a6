"""From the head's maps to detections: the highest peaks, their boxes, and suppression of duplicates.

Source: CenterPoint as the released code runs it: no maximum pooling of the heatmap; circle NMS (on the squared
distance) for cars and barriers, rotated NMS for the other tasks, the classes of a task together.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from crkd_core.config.classes import DETECTION_CLASSES, HEAD_TASKS
from crkd_core.config.models import NMSConfig
from crkd_core.geometry.boxes import Boxes3D
from crkd_core.geometry.grid import BEVGrid
from crkd_core.models.outputs import HeadOutput, TaskOutput
from crkd_core.ops.nms import circle_nms, rotated_nms


@dataclass(frozen=True)
class SampleDetections:
    """Detections of one sample.

    Attributes:
        boxes: (M) boxes in the model frame, without augmentation if decoding was given it.
        scores: (M,) in [0, 1]; best first within each task.
        labels: (M,) index into ``DETECTION_CLASSES``.
    """

    boxes: Boxes3D
    scores: Tensor
    labels: Tensor


@torch.no_grad()
def decode_detections(
    head: HeadOutput, grid: BEVGrid, config: NMSConfig, bev_augmentation: Float[Tensor, "b 4 4"] | None = None
) -> list[SampleDetections]:
    """Detections of every sample, task after task.

    Args:
        head: the head's maps on `grid`.
        grid: where the maps' cells lie.
        config: thresholds and suppression, applied in the frame the detector saw.
        bev_augmentation: ``augmented_from_lidar`` of each sample; if given, boxes are returned without it.
    """
    tasks = [
        _decode_task(output, classes, grid, config) for output, classes in zip(head.tasks, HEAD_TASKS, strict=True)
    ]
    samples = []
    for index, parts in enumerate(zip(*tasks, strict=True)):
        boxes = Boxes3D.cat([part.boxes for part in parts])
        if bev_augmentation is not None:
            boxes = boxes.augmented(bev_augmentation[index].double().inverse())
        scores, labels = (torch.cat([getattr(part, name) for part in parts]) for name in ("scores", "labels"))
        samples.append(SampleDetections(boxes, scores, labels))
    return samples


def _decode_task(
    output: TaskOutput, classes: tuple[str, ...], grid: BEVGrid, config: NMSConfig
) -> list[SampleDetections]:
    """One task of all samples."""
    boxes, scores, channels = decode_peaks(output, grid, config.max_candidates)
    limit = boxes.new_tensor((config.centre_limit_m, config.centre_limit_m, config.height_limit_m))
    kept = (scores > config.score_threshold) & (boxes[..., :3].abs() <= limit).all(dim=2)
    first_label = DETECTION_CLASSES.index(classes[0])
    return [
        _suppress(
            Boxes3D(boxes[b][kept[b]]),
            scores[b][kept[b]],
            channels[b][kept[b]] + first_label,
            classes,
            config,
        )
        for b in range(len(boxes))
    ]


def decode_peaks(
    output: TaskOutput, grid: BEVGrid, count: int
) -> tuple[Float[Tensor, "b n 9"], Float[Tensor, "b n"], Int[Tensor, "b n"]]:
    """Boxes, scores and class channels of each sample's `count` highest cells, best first; fewer on a small grid."""
    probability = output.heatmap_logits.float().sigmoid().flatten(1)
    cells = grid.shape[0] * grid.shape[1]
    scores, index = probability.topk(min(count, probability.shape[1]))
    channel, cell = index // cells, index % cells
    rows = cell[:, None].expand(-1, 10, -1)
    regression = output.regression.float().flatten(2).gather(2, rows).transpose(1, 2)
    offset, height, log_size, rotation, velocity = regression.split([2, 1, 3, 2, 2], dim=2)
    corner = torch.stack([cell // grid.shape[1], cell % grid.shape[1]], dim=2)
    yaw = torch.atan2(-rotation[..., 1], -rotation[..., 0])[..., None]
    boxes = torch.cat([grid.to_metres(corner + offset), height, log_size.exp(), yaw, velocity], dim=2)
    return boxes, scores, channel


def _suppress(
    boxes: Boxes3D, scores: Tensor, labels: Tensor, classes: tuple[str, ...], config: NMSConfig
) -> SampleDetections:
    centres = boxes.centre[:, :2]
    if classes[0] in config.circle_classes:
        kept = circle_nms(centres, scores, config.circle_classes[classes[0]], config.max_detections)
    else:
        factors = boxes.tensor.new_tensor([config.size_factors.get(name, 1.0) for name in DETECTION_CLASSES])
        length_width = boxes.size_wlh[:, [1, 0]] * factors[labels][:, None]
        rectangles = torch.cat([centres, length_width, boxes.yaw[:, None]], dim=1)
        kept = rotated_nms(rectangles, scores, config.rotated_iou, config.max_detections)
    return SampleDetections(boxes[kept], scores[kept], labels[kept])
