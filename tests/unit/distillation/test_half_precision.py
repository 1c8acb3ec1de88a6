"""What half precision broke in the released code stays finite: saturated heatmaps, large affinities, empty masks."""

import dataclasses

import pytest
import torch

from crkd_core.config.distill import DistillConfig, RelDConfig
from crkd_core.config.models import HeadConfig
from crkd_core.distillation.csrd import PROBABILITY_MARGIN, clipped_sigmoid
from crkd_core.distillation.objective import build_objective
from crkd_core.distillation.targets import build_targets
from crkd_core.geometry.boxes import Boxes3D
from crkd_core.models.detection_loss import detection_loss
from crkd_core.models.head_targets import build_head_targets

CONFIG = DistillConfig(reld=RelDConfig(scales=(8, 4)))
HALF = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
# At 300 the dot product of a cell's eight channels is 720,000; half precision ends at 65,504.
LARGE, SATURATED = 300.0, 60.0


def extreme(output):
    """The same output with saturated heatmaps and maps whose affinities half precision cannot hold."""
    features = dataclasses.replace(
        output.features,
        fused=output.features.fused * LARGE,
        gated_camera=output.features.gated_camera * LARGE,
        radar_activation=output.features.radar_activation * LARGE,
    )
    tasks = tuple(
        dataclasses.replace(task, heatmap_logits=task.heatmap_logits.sign() * SATURATED) for task in output.head.tasks
    )
    return dataclasses.replace(output, features=features, head=dataclasses.replace(output.head, tasks=tasks))


@HALF
def test_probabilities_of_half_precision_logits_stay_off_zero_and_one(dtype):
    probability = clipped_sigmoid(torch.tensor([-SATURATED, SATURATED], dtype=dtype))
    assert probability.dtype == torch.float32
    torch.testing.assert_close(probability, torch.tensor([PROBABILITY_MARGIN, 1 - PROBABILITY_MARGIN]))
    assert torch.tensor(1 - PROBABILITY_MARGIN).to(dtype) == 1


@HALF
@pytest.mark.parametrize("scene", ["unknown velocities", "nothing"])
def test_extreme_half_precision_maps_give_finite_losses(random_output, random_boxes, small_grid, leaves, dtype, scene):
    student, teacher = random_output(1, dtype=dtype), random_output(2, dtype=dtype)
    boxes = random_boxes(3) if scene == "unknown velocities" else [Boxes3D.empty() for _ in range(3)]
    assert any(part.velocity.isnan().any() for part in boxes) or scene == "nothing"
    head = HeadConfig()
    objective = build_objective(CONFIG, small_grid, 8)
    with torch.autocast("cpu", dtype=dtype):
        output = extreme(student)
        targets = build_targets(extreme(teacher), boxes, small_grid, CONFIG)
        labels = [torch.zeros(len(part), dtype=torch.long) for part in boxes]
        truth = build_head_targets(boxes, labels, small_grid, head)
        terms = objective(output, targets) | detection_loss(output.head, truth, head)
    assert set(objective.terms) <= terms.keys()
    assert all(term.dtype == torch.float32 and term.isfinite() for term in terms.values()), terms
    assert (terms["msfd_fused"] == 0) == (scene == "nothing")
    assert terms["reld"] > 0
    # Two such maps lie so far apart that only a gradient scaled down, as a GradScaler would, fits into fp16.
    gradients = torch.autograd.grad(sum(terms.values()) * 1e-6, leaves(student), allow_unused=True)
    assert all(gradient is None or gradient.isfinite().all() for gradient in gradients)
    assert any(gradient is not None and gradient.any() for gradient in gradients)
