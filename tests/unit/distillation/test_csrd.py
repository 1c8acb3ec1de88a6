"""Cross-stage radar distillation."""

import dataclasses
import math

import pytest
import torch

from crkd_core.config.distill import CSRDConfig
from crkd_core.distillation.csrd import csrd_loss, csrd_target, objectness
from crkd_core.errors import ConfigError
from crkd_core.models.outputs import HeadOutput, TaskOutput


def _head(*heatmaps: torch.Tensor) -> HeadOutput:
    nothing = torch.zeros(heatmaps[0].shape[0], 2, *heatmaps[0].shape[2:])
    return HeadOutput(
        tuple(
            TaskOutput(logits, nothing, nothing[:, :1], nothing.repeat(1, 2, 1, 1)[:, :3], nothing, nothing)
            for logits in heatmaps
        )
    )


def test_objectness_is_the_sigmoid_of_the_mean_logit_and_not_the_mean_probability():
    two_classes = torch.tensor([4.0, -2.0]).reshape(1, 2, 1, 1)
    one_class = torch.tensor([-20.0]).reshape(1, 1, 1, 1)
    expected = (1 / (1 + math.exp(-1.0)) + 1e-4) / 2
    assert math.isclose(objectness(_head(two_classes, one_class)).item(), expected, rel_tol=1e-6)


def test_the_paper_s_objectness_is_the_mean_probability_of_all_classes():
    two_classes = torch.tensor([4.0, -2.0]).reshape(1, 2, 1, 1)
    one_class = torch.tensor([0.0]).reshape(1, 1, 1, 1)
    expected = (1 / (1 + math.exp(-4.0)) + 1 / (1 + math.exp(2.0)) + 0.5) / 3
    assert math.isclose(objectness(_head(two_classes, one_class), "paper").item(), expected, rel_tol=1e-6)


def test_the_lidar_target_is_the_squashed_strength_of_the_gated_lidar_map(random_output):
    output, config = random_output(0), CSRDConfig(target="lidar_feature")
    strength = output.features.gated_points[1, :, 3, 4].abs().mean().item()
    target = csrd_target(output, config)
    assert math.isclose(target[1, 3, 4].item(), math.tanh(strength), rel_tol=1e-6)
    assert not target.requires_grad
    blind = dataclasses.replace(output, features=dataclasses.replace(output.features, gated_points=None))
    with pytest.raises(ConfigError, match="LiDAR"):
        csrd_target(blind, config)


def test_loss_is_the_mean_absolute_difference_and_zero_on_equal_input():
    target = torch.rand(2, 3, 4)
    assert csrd_loss(target[:, None].clone(), target) == 0
    assert torch.isclose(csrd_loss(target[:, None] + 0.25, target), torch.tensor(0.25))


def test_an_object_weight_of_one_gives_objects_half_of_the_loss():
    target = torch.full((2, 4, 4), 1e-4)
    target[0, 1, 2], target[1, :2, :2] = 0.5, 0.1
    assert csrd_loss(target[:, None].clone(), target, object_weight=1.0) == 0
    off_everywhere = csrd_loss(target[:, None] + 0.25, target, object_weight=1.0)
    assert torch.isclose(off_everywhere, torch.tensor(0.5))
    blind = target[:, None].clone()
    blind[0, 0, 1, 2] = 0.0
    share = 0.5 / target[0].mean()
    torch.testing.assert_close(csrd_loss(blind, target, object_weight=1.0), 0.5 * (1 + share) / 32)
    assert torch.isfinite(csrd_loss(target[:, None] + 1, torch.zeros(2, 4, 4), object_weight=1.0))
