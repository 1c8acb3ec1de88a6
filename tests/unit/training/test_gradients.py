"""Gradients of loss terms at shared layers."""

import math

import pytest
import torch
from torch import nn

from crkd_core.config.loading import load_config
from crkd_core.models.detector import build_detector
from crkd_core.training.gradients import gradient_metrics, shared_layers
from crkd_core.training.student import without_calibration
from tests.support.described import TASKS


@pytest.fixture
def weight() -> nn.Parameter:
    return nn.Parameter(torch.tensor([3.0, 4.0]))


def test_norms_and_cosines_by_hand(weight):
    x, y = torch.tensor([3.0, 4.0]), torch.tensor([-4.0, 3.0])
    other = nn.Parameter(torch.ones(1))
    heat = weight @ x
    terms = {"heat/a": heat, "heat/b": weight @ x, "against": -2 * heat, "across": weight @ y + other.sum()}
    values = gradient_metrics(terms, {"shared": [weight], "other": [other]})
    assert values == pytest.approx(
        {
            "gradient_norm/shared/heat": 10.0,
            "gradient_norm/shared/against": 10.0,
            "gradient_norm/shared/across": 5.0,
            "gradient_cosine/shared/heat,against": -1.0,
            "gradient_cosine/shared/heat,across": 0.0,
            "gradient_cosine/shared/against,across": 0.0,
            "gradient_norm/other/heat": 0.0,
            "gradient_norm/other/against": 0.0,
            "gradient_norm/other/across": 1.0,
        },
        abs=1e-6,
    )
    assert weight.grad is None
    sum(terms.values()).backward()
    assert torch.equal(weight.grad, y)


def test_a_scale_changes_nothing_and_what_overflows_is_left_out(weight):
    terms = {"a": (weight * 1e-6).sum().half(), "b": (weight * 1.5).sum().half()}
    plain, scaled = (gradient_metrics(terms, {"shared": [weight]}, scale) for scale in (1.0, 2.0**10))
    assert scaled == pytest.approx(plain, rel=1e-3)
    endless = gradient_metrics({"a": weight.sum() * math.inf, "b": weight.sum()}, {"shared": [weight]})
    assert endless == {"gradient_norm/shared/b": pytest.approx(math.sqrt(2))}


def test_constant_terms_are_left_out(weight):
    values = gradient_metrics({"c": torch.ones(()), "a": weight.sum()}, {"shared": [weight]})
    assert list(values) == ["gradient_norm/shared/a"]


def test_shared_layers_of_students():
    config = load_config("tiny")
    student = build_detector(config.student, config.data, TASKS)
    layers = shared_layers(student)
    assert list(layers) == ["fuser", "camera", "radar"]
    assert len(layers["fuser"]) == len(list(student.fuser.parameters()))
    calibration = dict(student.radar.calibration.named_parameters())
    assert {id(p) for p in layers["radar"]} == {id(calibration[name]) for name in ("2.0.weight", "2.0.bias")}
    plain = build_detector(without_calibration(config.student), config.data, TASKS)
    assert layers["radar"][0].dim() == 4
    assert [p.shape for p in shared_layers(plain)["radar"]] == [plain.radar.pillar_net.layers[-1].linear.weight.shape]
    teacher = build_detector(config.teacher, config.data, TASKS)
    assert list(shared_layers(teacher)) == ["fuser", "camera", "lidar"]
    student.fuser.requires_grad_(False)
    assert list(shared_layers(student)) == ["camera", "radar"]
    alone = build_detector(config.student.model_copy(update={"modalities": ("radar",)}), config.data, TASKS)
    assert list(shared_layers(alone)) == ["radar"]
