"""Learning rate over time and the optimiser's groups."""

import copy

import pytest
import torch
from torch import nn

from crkd_core.config.train import RunConfig, TrainConfig
from crkd_core.training.schedule import build_optimizer, clip_gradients, learning_rate_factor, set_learning_rate


def test_step_cosine_warms_up_then_falls_to_the_final_ratio():
    config = TrainConfig(warmup_steps=10)
    factors = [learning_rate_factor(step, 50, 4, config) for step in range(201)]
    assert factors[0] == pytest.approx(1 / 3)
    assert max(factors) == pytest.approx(1, abs=0.01)
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert factors[200] == pytest.approx(config.final_ratio)


def test_backbone_has_its_own_rate_and_position_tables_no_decay():
    module = nn.Module()
    module.camera = nn.Module()
    module.camera.backbone = nn.Linear(2, 2)
    module.camera.backbone.relative_position_bias_table = nn.Parameter(torch.zeros(3))
    module.head = nn.Linear(2, 2)
    module.frozen = nn.Linear(2, 2).requires_grad_(False)
    optimizer = build_optimizer(module, RunConfig(learning_rate=1.0, backbone_multiplier=0.1), TrainConfig())
    set_learning_rate(optimizer, 0.5)
    rates = {id(p): (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    assert rates[id(module.head.weight)] == (0.5, 0.01)
    assert rates[id(module.camera.backbone.weight)] == (pytest.approx(0.05), 0.01)
    assert rates[id(module.camera.backbone.relative_position_bias_table)] == (pytest.approx(0.05), 0.0)
    assert id(module.frozen.weight) not in rates


def test_steps_are_those_of_the_plain_adamw_in_any_memory_layout():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False).to(memory_format=torch.channels_last), nn.BatchNorm2d(4))
    plain = copy.deepcopy(module)
    run = RunConfig(learning_rate=0.1)
    optimizers = [
        build_optimizer(module, run, TrainConfig()),
        torch.optim.AdamW(plain.parameters(), lr=0.1, weight_decay=0.01, foreach=False),
    ]
    images = torch.randn(2, 3, 8, 8)
    for _ in range(3):
        for part, optimizer in zip((module, plain), optimizers, strict=True):
            optimizer.zero_grad()
            part(images).square().mul(torch.linspace(0, 1, 36).view(6, 6)).sum().backward()
            optimizer.step()
    for actual, expected in zip(module.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(actual, expected)


def test_clipping_returns_the_norm_before():
    parameter = nn.Parameter(torch.zeros(4))
    parameter.grad = torch.full((4,), 10.0)
    assert clip_gradients([parameter], 5.0) == pytest.approx(20.0)
    assert parameter.grad.norm() == pytest.approx(5.0, rel=1e-4)
