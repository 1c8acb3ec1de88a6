"""From the head's maps to detections: the highest peaks, their boxes, and suppression of duplicates.

All samples and tasks are decoded together. Peaks are ordered by their logits, of equal ones the earlier class and cell
first, and boxes are computed in float64 before they are rounded, so that CPU and GPU select the same boxes.

Source: CenterPoint as the released code runs it: no maximum pooling of the heatmap; circle NMS (on the squared
distance) for some tasks (nuScenes' cars and barriers), rotated NMS for the others, the classes of a task together.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from crkd_core.config.description import HeadTasks
from crkd_core.config.models import NMSConfig
from crkd_core.geometry.boxes import Boxes3D
from crkd_core.geometry.grid import BEVGrid
from crkd_core.models.box_coder import BoxCoder
from crkd_core.models.outputs import HeadOutput, TaskOutput
from crkd_core.ops.nms import circle_nms, rotated_nms


@dataclass(frozen=True)
class SampleDetections:
    """Detections of one sample.

    Attributes:
        boxes: (M) boxes in the model frame, without augmentation if decoding was given it.
        scores: (M,) in [0, 1]; best first within each task.
        labels: (M,) detection classes.
    """

    boxes: Boxes3D
    scores: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Peaks:
    """The highest cells of every task, best first, padded to one length.

    Attributes:
        boxes: [B, T, N, 9] rows of ``Boxes3D``, float64, in the frame the detector saw.
        scores: [B, T, N] in [0, 1], float64.
        labels: [B, T, N] detection classes.
        valid: [B, T, N] False for padding and for boxes beyond the limits.
    """

    boxes: Float[Tensor, "b t n 9"]
    scores: Float[Tensor, "b t n"]
    labels: Int[Tensor, "b t n"]
    valid: Bool[Tensor, "b t n"]


@torch.no_grad()
def decode_detections(
    head: HeadOutput,
    grid: BEVGrid,
    config: NMSConfig,
    tasks: HeadTasks,
    bev_augmentation: Float[Tensor, "b 4 4"] | None = None,
) -> list[SampleDetections]:
    """Detections of every sample, task after task, in float32.

    Args:
        head: the head's maps on `grid`.
        grid: where the maps' cells lie.
        config: thresholds and suppression, applied in the frame the detector saw.
        tasks: the head's.
        bev_augmentation: ``augmented_from_lidar`` of each sample; if given, boxes are returned without it.
    """
    peaks = decode_peaks(head, grid, config)
    kept = _suppress(peaks, config, tasks)
    kept = kept & (kept.cumsum(dim=2) <= config.max_detections)
    counts = kept.sum(dim=(1, 2)).tolist()
    parts = [values[kept].split(counts) for values in (peaks.boxes, peaks.scores, peaks.labels)]
    undo = None if bev_augmentation is None else bev_augmentation.double().inverse()
    samples = []
    for index, (rows, scores, labels) in enumerate(zip(*parts, strict=True)):
        boxes = Boxes3D(rows) if undo is None else Boxes3D(rows).augmented(undo[index])
        samples.append(SampleDetections(Boxes3D(boxes.tensor.float()), scores.float(), labels))
    return samples


def decode_peaks(head: HeadOutput, grid: BEVGrid, config: NMSConfig) -> Peaks:
    """Boxes of each task's ``config.max_candidates`` highest cells above the score threshold."""
    logits = torch.cat([task.heatmap_logits for task in head.tasks], dim=1).float().flatten(2)
    sizes = [task.heatmap_logits.shape[1] for task in head.tasks]
    cells, labels, valid = _highest_cells(logits, sizes, _logit(config.score_threshold), config.max_candidates)
    sample = torch.arange(len(logits), device=logits.device)[:, None, None]
    scores = logits[sample, labels, cells].double().sigmoid()
    codes = torch.stack([_codes_at(task, cells[:, index]) for index, task in enumerate(head.tasks)], dim=1)
    xy_cells = torch.stack([cells // grid.shape[1], cells % grid.shape[1]], dim=-1)
    boxes = BoxCoder(grid).decode(codes, xy_cells)
    limit = boxes.new_tensor((config.centre_limit_m, config.centre_limit_m, config.height_limit_m))
    within = (boxes[..., :3].abs() <= limit).all(dim=-1) & boxes.float().isfinite().all(dim=-1)
    return Peaks(boxes, scores, labels, valid & within)


def _highest_cells(
    logits: Float[Tensor, "b labels cells"], sizes: list[int], above: float, limit: int
) -> tuple[Int[Tensor, "b t n"], Int[Tensor, "b t n"], Bool[Tensor, "b t n"]]:
    """Cells and labels of each task's at most `limit` highest logits, best first, padded; which are not padding.

    Args:
        sizes: classes of each task.
    """
    tasks, task_of_label = len(sizes), [task for task, size in enumerate(sizes) for _ in range(size)]
    sample, label, cell = torch.nonzero(logits > above, as_tuple=True)
    row = sample * tasks + label.new_tensor(task_of_label)[label]
    order = torch.argsort(logits[sample, label, cell], descending=True, stable=True)
    order = order[torch.argsort(row[order], stable=True)]
    counts = torch.bincount(row, minlength=len(logits) * tasks)
    row = row[order]
    rank = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]
    length = min(int(counts.max()), limit)
    chosen = rank < length
    order, row, rank = order[chosen], row[chosen], rank[chosen]
    padded = counts.new_zeros((len(counts), length))
    cells, labels = (padded.index_put((row, rank), values[order]) for values in (cell, label))
    valid = torch.arange(length, device=row.device) < counts[:, None]
    return cells.unflatten(0, (-1, tasks)), labels.unflatten(0, (-1, tasks)), valid.unflatten(0, (-1, tasks))


def _codes_at(task: TaskOutput, cells: Int[Tensor, "b n"]) -> Float[Tensor, "b n channels"]:
    """The box codes at these cells, in float64; the maps themselves are not copied."""
    parts = [part.flatten(2).gather(2, cells[:, None].expand(-1, part.shape[1], -1)) for part in task.box_code]
    return torch.cat(parts, dim=1).double().transpose(1, 2)


def _logit(probability: float) -> float:
    if probability in (0.0, 1.0):
        return math.copysign(math.inf, probability - 0.5)
    return math.log(probability / (1 - probability))


def _suppress(peaks: Peaks, config: NMSConfig, tasks: HeadTasks) -> Bool[Tensor, "b t n"]:
    """Which peaks the task's kind of suppression leaves."""
    factors = peaks.boxes.new_tensor([config.size_factors.get(name, 1.0) for classes in tasks for name in classes])
    kept = torch.zeros_like(peaks.valid)
    kinds: dict[bool, list[int]] = {True: [], False: []}
    for task, classes in enumerate(tasks):
        kinds[classes[0] in config.circle_classes].append(task)
    for is_circle, chosen in kinds.items():
        valid = peaks.valid[:, chosen]
        length = _used_length(valid)
        valid, boxes = valid[..., :length], peaks.boxes[:, chosen, :length]
        if is_circle:
            squared = boxes.new_tensor([config.circle_classes[tasks[task][0]] for task in chosen])
            kept_of_kind = circle_nms(boxes[..., :2], squared.expand(len(boxes), -1), valid)
        else:
            length_width = boxes[..., [4, 3]] * factors[peaks.labels[:, chosen, :length]][..., None]
            valid = valid & (valid.cumsum(dim=-1) <= config.max_rotated)
            rectangles = torch.cat([boxes[..., :2], length_width, boxes[..., 6:7]], dim=-1)
            kept_of_kind = rotated_nms(rectangles, config.rotated_iou, valid)
        kept[:, chosen, :length] = kept_of_kind
    return kept


def _used_length(valid: Bool[Tensor, "b t n"]) -> int:
    """Up to where any list has entries: tasks with few peaks need not be compared at the length of others."""
    used = torch.nonzero(valid.flatten(0, 1).any(dim=0))
    return int(used[-1]) + 1 if len(used) else 0
