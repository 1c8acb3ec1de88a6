"""The CenterHead: maps, targets, losses, boxes."""

import re
from dataclasses import replace

import torch
from torch import Tensor

from crkd_core.config.distill import RespDConfig
from crkd_core.distillation.probability import clipped_sigmoid
from crkd_core.distillation.respd import box_term, heatmap_term, teacher_response
from crkd_core.geometry.boxes import Boxes3D
from crkd_core.models.decode import SampleDetections, decode_detections, decode_peaks
from crkd_core.models.detection_loss import detection_loss
from crkd_core.models.head import CenterHead
from crkd_core.models.head_targets import build_head_targets, draw_gaussians, gaussian_radius
from crkd_core.models.outputs import HeadOutput
from tests.parity.comparison import Comparison
from tests.parity.parts import Part, check_outputs, check_training, leaves
from tests.parity.released import (
    HEAD_MAPS,
    boxes_from_released,
    boxes_to_released,
    grid_from_range,
    grid_from_train_cfg,
    head_config,
    head_from_case,
    nms_config,
)
from tests.support.described import CLASSES, TASKS

HALF_TOLERANCE = 1e-3
_TIE = 1e-5


def run_head_forward(comparison: Comparison) -> None:
    """Raw maps of all tasks."""
    case = comparison.case
    settings = case.config["head"]
    module = CenterHead(
        settings["in_channels"], settings["share_conv_channel"], settings["separate_head"]["head_conv"], 0.0, TASKS
    )
    part = Part(module, "heads.object", "head").load(case.under("param/"), case.config.get("left_out", ()))
    check_outputs(comparison, head_arrays(module.eval()(case["in/x"])))
    if case.keys("out_train/") or case.keys("grad/"):
        module.train()
        inputs = leaves({"x": case["in/x"]})
        outputs = head_arrays(module(inputs["x"]))
        check_outputs(comparison, outputs, "out_train/")
        check_training(comparison, part, inputs, outputs)


def head_arrays(head: HeadOutput) -> dict[str, Tensor]:
    """Our maps by their recorded names."""
    return {
        f"task{index}/{published}": getattr(task, name)
        for index, task in enumerate(head.tasks)
        for name, published in HEAD_MAPS.items()
    }


def run_gaussian(comparison: Comparison) -> None:
    """Radii and heatmap peaks; recorded centres are (column, row)."""
    case = comparison.case
    length, width = case["in/length_width_cells"].unbind(1)
    for key in case.keys("out/radius_"):
        overlap = re.fullmatch(r"out/radius_overlap_([\d.]+)", key)
        if overlap:
            comparison.check(key, gaussian_radius(length, width, float(overlap[1])))
        elif least := re.fullmatch(r"out/radius_int_min(\d+)", key):
            comparison.check(key, gaussian_radius(length, width, 0.1).int().clamp(min=int(least[1])))
    peaks = torch.nn.functional.pad(case["in/centers_xy"].long().flip(1), (1, 0))
    radii = case["in/radii"].long()
    shape = tuple(case.config["heatmap"])
    singles = [draw_gaussians(peaks[i : i + 1], radii[i : i + 1], (1, *shape))[0] for i in range(len(peaks))]
    for key in case.outputs:
        if first := re.fullmatch(r"out/single_heatmaps_first(\d+)", key):
            comparison.check(key, torch.stack(singles[: int(first[1])]))
        elif rectangle := re.fullmatch(r"out/accumulated_rect_(\d+)x(\d+)_first(\d+)", key):
            rows, columns, count = (int(number) for number in rectangle.groups())
            # Centres beyond the rectangle were wrapped into it.
            inside = peaks[:count] % torch.tensor([1, rows, columns])
            comparison.check(key, draw_gaussians(inside, radii[:count], (1, rows, columns))[0])
    comparison.check("out/single_sums", torch.stack([single.sum() for single in singles]))
    comparison.check("out/accumulated", draw_gaussians(peaks, radii, (1, *shape))[0])


def run_targets(comparison: Comparison) -> None:
    """Heatmaps, regression rows, cells and slots of ground truth."""
    comparison.rule("truncate")
    case = comparison.case
    grid = grid_from_train_cfg(case.config["train_cfg"])
    boxes = [boxes_from_released(tensor) for tensor in case.series("in/boxes")]
    targets = build_head_targets(boxes, case.series("in/labels"), grid, head_config(case.config), TASKS)
    for index, task in enumerate(targets.tasks):
        tensors = {"heatmap": task.heatmap, "anno_box": task.boxes, "ind": task.cells, "mask": task.valid}
        check_outputs(comparison, {f"{name}{index}": value for name, value in tensors.items()})


def run_loss(comparison: Comparison) -> None:
    """Focal and L1 terms of all tasks, and their gradients."""
    head = head_from_case(comparison.case, "in/", grad=True)
    terms = check_detection_terms(comparison, head)
    sum(terms.values()).backward()
    _check_head_gradients(comparison, head, "grad/")


def check_detection_terms(
    comparison: Comparison, head: HeadOutput, tolerance: float | None = None
) -> dict[str, Tensor]:
    """Compare the detection loss of these maps against the recorded ground truth; returns its terms."""
    comparison.rule("truncate")
    case = comparison.case
    config = head_config(case.config["head"])
    grid = grid_from_train_cfg(case.config["head"]["train_cfg"])
    boxes = [boxes_from_released(tensor) for tensor in case.series("in/boxes")]
    terms = detection_loss(head, build_head_targets(boxes, case.series("in/labels"), grid, config, TASKS), config)
    for index, classes in enumerate(TASKS):
        comparison.check(f"out/heatmap/task{index}", terms[f"heatmap/{classes[0]}"], tolerance=tolerance)
        if case[f"out/bbox/task{index}"].isfinite():
            comparison.check(f"out/bbox/task{index}", terms[f"box/{classes[0]}"], tolerance=tolerance)
        else:
            comparison.leave_out(f"out/bbox/task{index}", "not-finite")
    return terms


def run_soft_loss(comparison: Comparison) -> None:
    """Response distillation: alone, as trained in half precision, or after the pure-float32 detection loss."""
    case = comparison.case
    half = "student_heatmap_untouched_by_loss" in case.config
    double = "backward_of_the_sum_in_fp32" in case.config or bool(case.keys("grad_kd_only/"))
    tolerance = HALF_TOLERANCE if half else None
    student = head_from_case(case, "in/student/", grad=True, half=half)
    teacher = head_from_case(case, "in/teacher/", half=half)
    if half:
        comparison.rule("half")
    if "out/heatmap/task0" in case:
        check_detection_terms(comparison, student, tolerance)
    seen = student
    if double:
        comparison.rule("double-sigmoid")
        seen = HeadOutput(
            tuple(replace(task, heatmap_logits=clipped_sigmoid(task.heatmap_logits)) for task in student.tasks)
        )
    config = RespDConfig(task_weights=tuple(float(w) for w in case.config["head"]["loss_soft_task_weights"]))
    total = torch.zeros(())
    for index, (student_task, teacher_task) in enumerate(zip(seen.tasks, teacher_response(teacher, config).tasks)):
        for name, term in (("heatmap", heatmap_term), ("bbox", box_term)):
            value = config.task_weights[index] * term(student_task, teacher_task, config)
            comparison.check(f"out/{name}/task{index}/kd", value, tolerance=tolerance)
            total = total + value
    total.backward()
    for prefix in ("grad/", "grad_kd_only/"):
        _check_head_gradients(comparison, student, prefix)


def _check_head_gradients(comparison: Comparison, head: HeadOutput, prefix: str) -> None:
    for index, task in enumerate(head.tasks):
        for name, published in HEAD_MAPS.items():
            key = f"{prefix}task{index}/{published}"
            if key not in comparison.case:
                continue
            if comparison.case[key].isfinite().all():
                leaf = getattr(task, name)
                comparison.check(key, torch.zeros_like(leaf) if leaf.grad is None else leaf.grad)
            else:
                comparison.leave_out(key, "not-finite")


def run_get_boxes(comparison: Comparison) -> None:
    """From maps to boxes: the candidates of every task, and what suppression leaves."""
    case = comparison.case
    coder = case.config["bbox_coder"]
    config = nms_config(case.config["test_cfg"], case.config["tasks"], coder)
    head = head_from_case(case, "in/")
    nx, ny = head.tasks[0].offset.shape[2:]
    cell = coder["voxel_size"][0] * coder["out_size_factor"]
    x0, y0, z0, _, _, z1 = coder["pc_range"]
    grid = grid_from_range([x0, y0, z0, x0 + nx * cell, y0 + ny * cell, z1], cell)
    peaks = decode_peaks(head, grid, config)
    for index, classes in enumerate(TASKS):
        channels = peaks.labels - CLASSES.index(classes[0])
        for sample, valid in enumerate(peaks.valid[:, index]):
            rows = (values[sample, index][valid] for values in (peaks.boxes.float(), peaks.scores.float(), channels))
            boxes, *others = rows
            detections = SampleDetections(Boxes3D(boxes), *others)
            check_detections(comparison, f"out/decoded/task{index}/img{sample}/", detections, centred=True)
    for sample, detections in enumerate(decode_detections(head, grid, config, TASKS)):
        check_detections(comparison, f"out/img{sample}/", detections)


def check_detections(
    comparison: Comparison, prefix: str, detections: SampleDetections, *, centred: bool = False
) -> None:
    """Compare boxes, scores and labels in their order; rows of equal score may stand in any."""
    case = comparison.case
    if f"{prefix}boxes" not in case:
        return
    expected = case[f"{prefix}boxes"]
    order = _matched(detections, case[f"{prefix}scores"], expected, case[f"{prefix}labels"])
    if not torch.equal(order, torch.arange(len(order))):
        comparison.rule("near-ties")
    boxes = boxes_to_released(detections.boxes[order], expected[:, 6], centred=centred)
    comparison.check(f"{prefix}boxes", boxes)
    comparison.check(f"{prefix}scores", detections.scores[order])
    comparison.check(f"{prefix}labels", detections.labels[order], tolerance=0.0)


def _matched(detections: SampleDetections, scores: Tensor, boxes: Tensor, labels: Tensor) -> Tensor:
    """Our rows in the recorded order: each recorded row takes the nearest of ours with its label and score."""
    count = len(detections.scores)
    if count != len(scores) or not count:
        return torch.arange(count)
    rows = torch.arange(count)
    swapped = (detections.labels != labels) | ((detections.scores - scores).abs() > _TIE)
    near = (detections.boxes.centre[:, :2] - boxes[:, :2]).abs().amax(dim=1) > 1e-2
    loose = torch.nonzero(swapped | near).flatten()
    free = loose.tolist()
    for row in loose.tolist():
        distance = (detections.boxes.centre[free, :2] - boxes[row, :2]).norm(dim=1)
        alike = (detections.labels[free] == labels[row]) & ((detections.scores[free] - scores[row]).abs() <= _TIE)
        distance = torch.where(alike, distance, torch.inf)
        best = int(distance.argmin())
        if distance[best].isinf():
            return torch.arange(count)
        rows[row] = free.pop(best)
    return rows
