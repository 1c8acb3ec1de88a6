"""The detection loss."""

import math

import pytest
import torch

from crkd_core.config.models import HeadConfig
from crkd_core.geometry.boxes import Boxes3D
from crkd_core.geometry.grid import BEVGrid
from crkd_core.models.box_coder import CHANNEL_COUNT, CHANNELS
from crkd_core.models.detection_loss import box_loss, detection_loss, gaussian_focal_loss
from crkd_core.models.head_targets import build_head_targets
from crkd_core.models.outputs import HeadOutput, TaskOutput
from tests.support.described import TASKS

GRID = BEVGrid((-4.8, 4.8), (-4.8, 4.8), (-5.0, 3.0), 0.6)
NAMES = ("heatmap_logits", "offset", "height", "log_size", "rotation", "velocity")


def random_head(batch: int, dtype: torch.dtype = torch.float32) -> HeadOutput:
    nx, ny = GRID.shape
    return HeadOutput(
        tuple(
            TaskOutput(*(torch.randn(batch, c, nx, ny, dtype=dtype).requires_grad_() for c in (len(k), *CHANNELS)))
            for k in TASKS
        )
    )


def car(vx: float = 1.0) -> tuple[list[Boxes3D], list[torch.Tensor]]:
    return [Boxes3D(torch.tensor([[1.0, 2, -1, 2, 4, 1.5, 0.3, vx, 0.5]]))], [torch.tensor([0])]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_no_boxes_is_finite(dtype):
    head, config = random_head(1, dtype), HeadConfig()
    targets = build_head_targets([Boxes3D.empty()], [torch.zeros(0, dtype=torch.long)], GRID, config, TASKS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = detection_loss(head, targets, config)
    assert all(term.dtype == torch.float32 and term.isfinite() for term in terms.values())
    assert all(float(terms[f"box/{classes[0]}"].detach()) == 0 for classes in TASKS)
    sum(terms.values()).backward()
    assert all(getattr(task, name).grad.isfinite().all() for task in head.tasks for name in NAMES)


def test_unknown_velocity_teaches_no_velocity():
    head, config = random_head(1), HeadConfig()
    terms = detection_loss(head, build_head_targets(*car(float("nan")), GRID, config, TASKS), config)
    sum(terms.values()).backward()
    gradient = head.tasks[0].velocity.grad
    assert gradient.isfinite().all()
    assert not gradient[:, 0].any()
    assert gradient[:, 1].any()
    assert all(term.isfinite() for term in terms.values())


def test_right_boxes_cost_nothing_and_known_errors_what_they_should():
    config = HeadConfig(velocity_weight=0.5)
    targets = build_head_targets(*car(), GRID, config, TASKS)
    nx, ny = GRID.shape
    row = targets.tasks[0].boxes[0, 0]
    regression = row[None, :, None, None].expand(1, CHANNEL_COUNT, nx, ny).clone()
    parts = regression.split([*CHANNELS], dim=1)
    right = TaskOutput(torch.zeros(1, 1, nx, ny), *parts)
    wrong = TaskOutput(torch.zeros(1, 1, nx, ny), *(part + 0.1 for part in parts))
    others = random_head(1).tasks[1:]
    assert float(detection_loss(HeadOutput((right, *others)), targets, config)["box/car"].detach()) == 0
    # Eight channels of weight 1, two of weight 0.5.
    expected = 0.25 * 0.1 * 9 / (1 + 1e-4)
    loss = detection_loss(HeadOutput((wrong, *others)), targets, config)["box/car"]
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-4)


def test_known_focal_value_and_gradient_direction():
    target = torch.tensor([[[[1.0, 0.5]]]])
    logits = torch.zeros(1, 1, 1, 2, requires_grad=True)
    loss = gaussian_focal_loss(logits, target).sum()
    assert float(loss.detach()) == pytest.approx(math.log(2) * (0.25 + 0.25 * 0.5**4), rel=1e-6)
    loss.backward()
    assert logits.grad[..., 0] < 0 < logits.grad[..., 1]


def test_inputs_are_not_changed():
    head, config = random_head(1), HeadConfig()
    targets = build_head_targets(*car(float("nan")), GRID, config, TASKS)
    before = [getattr(task, name).detach().clone() for task in head.tasks for name in NAMES]
    boxes = targets.tasks[0].boxes.clone()
    detection_loss(head, targets, config)
    after = [getattr(task, name) for task in head.tasks for name in NAMES]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert torch.equal(boxes.nan_to_num(), targets.tasks[0].boxes.nan_to_num())


def test_yaw_and_velocity_count_quadratically_below_their_betas():
    codes = torch.zeros(1, CHANNEL_COUNT)
    codes[0, 6:] = torch.tensor([0.5, 3.0, 4.0, 20.0])
    config = HeadConfig(yaw_beta=1.0, velocity_beta_mps=10.0, velocity_weight=0.5)
    # Below beta e^2 / (2 beta), from it on e - beta / 2.
    expected = 0.125 + 2.5 + 0.5 * (0.8 + 15.0)
    assert float(box_loss(codes, torch.zeros_like(codes), config)) == pytest.approx(expected)
