"""Probabilities of half-precision heatmaps, and the detection loss that is trained beside the others."""

import pytest
import torch

from crkd_core.config.models import HeadConfig
from crkd_core.distillation.probability import PROBABILITY_MARGIN, clipped_sigmoid
from crkd_core.geometry.boxes import Boxes3D
from crkd_core.models.detection_loss import detection_loss
from crkd_core.models.head_targets import build_head_targets
from tests.support.described import TASKS

HALF = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])


@HALF
def test_probabilities_of_half_precision_logits_stay_off_zero_and_one(dtype):
    probability = clipped_sigmoid(torch.tensor([-60.0, 60.0], dtype=dtype))
    assert probability.dtype == torch.float32
    torch.testing.assert_close(probability, torch.tensor([PROBABILITY_MARGIN, 1 - PROBABILITY_MARGIN]))
    assert torch.tensor(1 - PROBABILITY_MARGIN).to(dtype) == 1


@HALF
@pytest.mark.parametrize("scene", ["unknown velocities", "nothing"])
def test_the_detection_loss_of_half_precision_maps_is_finite(random_output, random_boxes, small_grid, dtype, scene):
    output = random_output(1, dtype=dtype, heat=60.0)
    boxes = random_boxes(3) if scene == "unknown velocities" else [Boxes3D.empty() for _ in range(3)]
    assert any(part.velocity.isnan().any() for part in boxes) or scene == "nothing"
    head = HeadConfig()
    with torch.autocast("cpu", dtype=dtype):
        labels = [torch.zeros(len(part), dtype=torch.long) for part in boxes]
        terms = detection_loss(output.head, build_head_targets(boxes, labels, small_grid, head, TASKS), head)
    assert all(term.dtype == torch.float32 and term.isfinite() for term in terms.values()), terms
    maps = [task.heatmap_logits for task in output.head.tasks]
    gradients = torch.autograd.grad(sum(terms.values()) * 1e-6, maps)
    assert all(gradient.isfinite().all() for gradient in gradients)
