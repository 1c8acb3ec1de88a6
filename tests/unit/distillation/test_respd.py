"""Response distillation."""

import dataclasses
import math

import pytest
import torch

from crkd_core.config.distill import RespDConfig
from crkd_core.distillation.respd import (
    box_term,
    falling_threshold,
    heatmap_term,
    respd_loss,
    teacher_response,
)
from crkd_core.errors import ConfigError
from crkd_core.models.box_coder import CHANNEL_COUNT, CHANNELS
from crkd_core.models.outputs import HeadOutput, TaskOutput

CONFIG = RespDConfig()


def _task(probability: torch.Tensor, regression: float = 0.0) -> TaskOutput:
    """A task [B, K, X, Y] with these probabilities and one value in all ten regression channels."""
    maps = torch.full((probability.shape[0], CHANNEL_COUNT, *probability.shape[2:]), regression).split(
        [*CHANNELS], dim=1
    )
    return TaskOutput(torch.logit(probability), *maps)


def _with_leaf_maps(task: TaskOutput) -> TaskOutput:
    return TaskOutput(
        *(getattr(task, f.name).detach().clone().requires_grad_() for f in dataclasses.fields(TaskOutput))
    )


def test_heatmap_term_by_hand():
    teacher = teacher_response(HeadOutput((_task(torch.tensor([0.8, 0.4, 0.2]).reshape(1, 1, 3, 1)),)), CONFIG)
    student = _task(torch.tensor([0.5, 0.4, 0.3]).reshape(1, 1, 3, 1))

    def term(p: float, t: float) -> float:
        return -(t * math.log(p) + (1 - t) * math.log(1 - p)) * (p - t) ** 2

    # Two teacher cells lie above 0.3.
    expected = (term(0.5, 0.8) + term(0.3, 0.2)) / 2
    assert math.isclose(heatmap_term(student, teacher.tasks[0], CONFIG).item(), expected, rel_tol=1e-5)


def test_box_term_by_hand():
    probability = torch.tensor([[0.3, 0.05], [0.02, 0.4]]).T.reshape(1, 2, 2, 1).contiguous()
    teacher = teacher_response(HeadOutput((_task(probability, 2.0),)), CONFIG)
    student = _task(probability, 0.0)
    # Summed probabilities 0.35 and 0.42 both count; smooth L1 of 2 is 1.5 in every channel; the mean of two cells.
    assert probability.sum(dim=1).flatten().tolist() == pytest.approx([0.35, 0.42])
    expected = 40 * 1.5 * (0.35 + 0.42) / 2
    assert math.isclose(box_term(student, teacher.tasks[0], CONFIG).item(), expected, rel_tol=1e-5)
    # The paper's is the plain mean.
    paper = RespDConfig(reading="paper")
    assert math.isclose(box_term(student, teacher.tasks[0], paper).item(), 1.5, rel_tol=1e-5)
    assert heatmap_term(student, teacher.tasks[0], paper) == heatmap_term(student, teacher.tasks[0], CONFIG)


@pytest.mark.parametrize(
    ("part", "channels"), enumerate([("offset", "height"), ("log_size",), ("rotation",), ("velocity",)])
)
def test_box_weights_leave_parts_of_the_boxes_to_the_ground_truth(part, channels):
    weights = tuple(float(index == part) for index in range(4))
    config, probability = RespDConfig(box_weights=weights), torch.full((1, 1, 3, 3), 0.5)
    teacher = teacher_response(HeadOutput((_task(probability, 2.0),)), config)
    student = _with_leaf_maps(_task(probability, 0.0))
    box_term(student, teacher.tasks[0], config).backward()
    for name in ("offset", "height", "log_size", "rotation", "velocity"):
        grad = getattr(student, name).grad
        assert bool(grad is not None and grad.any()) == (name in channels)
    whole = box_term(student, teacher.tasks[0], CONFIG).item()
    width = sum(getattr(student, name).shape[1] for name in channels)
    assert math.isclose(box_term(student, teacher.tasks[0], config).item(), whole * width / 10, rel_tol=1e-5)


@pytest.mark.parametrize(
    ("highest", "expected"), [(0.9, 0.1), (0.1001, 0.1), (0.0999, 0.09), (0.025, 0.02), (0.0101, 0.01), (1e-4, 0.0)]
)
def test_threshold_falls_until_something_lies_above_it(highest, expected):
    assert falling_threshold(torch.tensor(highest), 0.1).item() == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("start", [0.005, 0.15, 0.3, 0.999])
def test_threshold_always_ends_below_a_positive_weight(start):
    weights = torch.tensor([1e-4, 0.003, 0.0149, 0.5, 2.0])
    thresholds = falling_threshold(weights, start)
    assert (thresholds < weights).all()
    assert (thresholds <= start + 1e-6).all()


def test_the_threshold_is_the_whole_batch_s():
    cold, warm = torch.full((1, 1, 2, 2), 0.03), torch.full((1, 1, 2, 2), 0.06)
    warm[0, 0, 0, 0] = 0.02
    both = _task(torch.cat([cold, warm]), 1.0)
    teacher = teacher_response(HeadOutput((both,)), CONFIG).tasks[0]
    assert len(teacher.boxes.indices) == 4 + 3
    student = _with_leaf_maps(_task(torch.cat([cold, warm]), 0.0))
    loss = box_term(student, teacher, CONFIG)
    loss.backward()
    # Only the warm sample's three cells lie above the batch's threshold of 0.05.
    assert math.isclose(loss.item(), 40 * 0.5 * 0.06, rel_tol=1e-5)
    assert (student.height.grad != 0).sum() == 3
    assert not student.height.grad[0].any()
    alone = teacher_response(HeadOutput((_task(cold, 1.0),)), CONFIG).tasks[0]
    assert math.isclose(box_term(_task(cold, 0.0), alone, CONFIG).item(), 40 * 0.5 * 0.03, rel_tol=1e-5)


def test_dynamic_tasks_count_as_configured(random_output):
    student, teacher = random_output(0).head, teacher_response(random_output(1).head, CONFIG)
    parts = [
        heatmap_term(student_task, teacher_task, CONFIG) + box_term(student_task, teacher_task, CONFIG)
        for student_task, teacher_task in zip(student.tasks, teacher.tasks)
    ]
    expected = sum(w * part for w, part in zip((2, 2, 2, 1, 2, 1), parts))
    torch.testing.assert_close(respd_loss(student, teacher, CONFIG), expected)
    uniform = RespDConfig(task_weights=(1.0,) * 6)
    torch.testing.assert_close(respd_loss(student, teacher, uniform), sum(parts))


def test_another_number_of_tasks_or_classes_is_refused(random_output):
    head = random_output(0).head
    teacher = teacher_response(head, CONFIG)
    with pytest.raises(ConfigError, match="task_weights"):
        respd_loss(HeadOutput(head.tasks[:5]), teacher, CONFIG)
    with pytest.raises(ConfigError, match="classes"):
        respd_loss(HeadOutput(head.tasks[::-1]), teacher, CONFIG)
