"""The four distillation losses, and the masks of one of them."""

import torch
from torch import Tensor, nn

from crkd_core.config.distill import MSFDConfig, RelDConfig
from crkd_core.distillation.csrd import csrd_loss, objectness
from crkd_core.distillation.masks import foreground_mask, grown_sides, paint_rectangles, released_cells
from crkd_core.distillation.msfd import msfd_cells, msfd_loss
from crkd_core.distillation.reld import RelationAdapter, reld_loss, resample
from crkd_core.errors import ConfigError
from crkd_core.geometry.boxes import Boxes3D
from crkd_core.models.box_coder import CHANNELS
from crkd_core.models.outputs import HeadOutput, TaskOutput
from crkd_core.weights.naming import our_adapter_name
from tests.parity.comparison import Comparison
from tests.parity.parts import check_outputs
from tests.parity.released import CORNER_ORDER, boxes_from_released, boxes_to_released, grid_from_train_cfg

_ADAPTERS = "fused_feat_affinity_loss."
_UNGROWN = MSFDConfig(mask="released", growth=(0.0, 0.0), growth_limits_m=(0.0, 0.0))
_RELEASED = MSFDConfig(mask="released")


def run_csrd(comparison: Comparison) -> None:
    """Scene-level objectness of the teacher against the radar activation."""
    case = comparison.case
    activation = case["in/radar_activation"].requires_grad_()
    target = objectness(_only_heatmaps(case.series("in/teacher_heatmap")))
    check_outputs(comparison, {"target": target[:, None]})
    loss = case.config["lr_kd_loss"]["loss_weight"] * csrd_loss(activation, target)
    comparison.check("out/loss", loss)
    loss.backward()
    comparison.check("grad/radar_activation", activation.grad)


def _only_heatmaps(heatmaps: list[Tensor]) -> HeadOutput:
    tasks = []
    for logits in heatmaps:
        batch, _, nx, ny = logits.shape
        tasks.append(TaskOutput(logits, *(torch.zeros(batch, channels, nx, ny) for channels in CHANNELS)))
    return HeadOutput(tuple(tasks))


def run_reld(comparison: Comparison) -> None:
    """Relations between cells of the resampled maps, with or without adapters."""
    case = comparison.case
    settings = case.config["cfg"]
    config = RelDConfig(scales=tuple(settings["downsample_size"]), adapter=settings["use_adapt"])
    adapters = _adapters(comparison, config)
    student = case["in/student"].requires_grad_()
    maps = resample(student, config.scales)
    if config.adapter:
        maps = tuple(adapter(part) for adapter, part in zip(adapters, maps, strict=True))
    loss = reld_loss(maps, resample(case["in/teacher"], config.scales), config)
    comparison.check("out/loss", settings["loss_weight"] * loss)
    comparison.check("out/scaled_as_distiller", settings["loss_weight"] * config.weight * loss)
    loss.backward()
    if "grad/student" in case:
        comparison.check("grad/student", student.grad)
    for key in case.keys("grad/param/"):
        name = _adapter_name(key.removeprefix("grad/param/"))
        comparison.check(key, adapters.get_parameter(name).grad)


def _adapters(comparison: Comparison, config: RelDConfig) -> nn.ModuleList:
    case = comparison.case
    count = len(config.scales) if config.adapter else 0
    adapters = nn.ModuleList(RelationAdapter(case["in/student"].shape[1]) for _ in range(count))
    adapters.load_state_dict({_adapter_name(key): value for key, value in case.under("param/").items()})
    return adapters


def _adapter_name(key: str) -> str:
    name = our_adapter_name(f"{_ADAPTERS}{key}")
    if name is None:
        raise ConfigError(f"{_ADAPTERS}{key} is no tensor of a relation adapter")
    return name.removeprefix("adapters.")


def run_scale_mask(comparison: Comparison) -> None:
    """Boxes grown by range and speed."""
    case = comparison.case
    for index, recorded in enumerate(case.series("in/boxes")):
        boxes = boxes_from_released(recorded, centred=True)
        tensor = boxes.tensor.clone()
        tensor[:, 3:5] = grown_sides(boxes, boxes.velocity.nan_to_num(nan=0.0), _RELEASED)
        grown = boxes_to_released(Boxes3D(tensor), recorded[:, 6], centred=True)
        comparison.check(f"out/scaled{index}", grown)


def run_masks(comparison: Comparison) -> None:
    """Released rectangles of boxes before and after growing, as corner cells and as painted masks."""
    comparison.rule("released-masks")
    case = comparison.case
    grid = grid_from_train_cfg(case.config["train_cfg"])
    masks: dict[str, list[Tensor]] = {"": [], "_scaled": []}
    for index, recorded in enumerate(case.series("in/boxes")):
        boxes = boxes_from_released(recorded)
        comparison.check(f"out/corners{index}", boxes.corners()[:, CORNER_ORDER])
        masks[""].append(foreground_mask(boxes, grid, _UNGROWN))
        masks["_scaled"].append(foreground_mask(boxes, grid, _RELEASED))
        for name in ("", "_scaled"):
            given = boxes_from_released(case[f"in/boxes{name}{index}"])
            cells = released_cells(given, given.size_wlh[:, :2], grid)
            # There: x of the second corner, y of the first, x of the first, y of the second.
            comparison.check(f"out/gt_mask{name}{index}", cells.flatten(1)[:, [2, 1, 0, 3]])
    for name, painted in masks.items():
        if f"out/box_mask{name}" in case:
            comparison.check(f"out/box_mask{name}", torch.stack(painted))


def run_msfd(comparison: Comparison) -> None:
    """Squared differences of maps on masked cells."""
    comparison.rule("released-masks")
    case = comparison.case
    student, teacher = case["in/student"].requires_grad_(), case["in/teacher"]
    shape = (student.shape[2], student.shape[3])
    corners = [given.long()[:, [2, 1, 0, 3]].unflatten(1, (2, 2)) for given in case.series("in/gt_mask")]
    mask = torch.stack([paint_rectangles(cells, shape) for cells in corners])
    weight = case.config["fused_loss"]["loss_weight"]
    loss = weight * msfd_loss(student, msfd_cells(teacher, mask, "released"), "released")
    comparison.check("out/loss", loss)
    comparison.check("out/scaled_as_distiller", case.config["fused_feat_loss_scale_kd"] * loss)
    loss.backward()
    comparison.check("grad/student", student.grad)
    if "out/loss_no_positive" in case:
        nothing = msfd_cells(teacher, torch.zeros_like(mask), "released")
        comparison.check("out/loss_no_positive", weight * msfd_loss(student, nothing, "released"))
