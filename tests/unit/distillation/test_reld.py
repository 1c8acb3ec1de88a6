"""Relation distillation."""

import math

import pytest
import torch

from crkd_core.config.distill import RelDConfig
from crkd_core.distillation.reld import affinity, reld_loss, resample
from crkd_core.errors import ConfigError

CONFIG = RelDConfig(scales=(4, 2))


def _maps(seed: int = 0, batch: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (torch.randn(batch, 3, 8, 8, generator=generator) for _ in range(2))
    return student, teacher


def _loss(student: torch.Tensor, teacher: torch.Tensor, config: RelDConfig = CONFIG) -> torch.Tensor:
    return reld_loss(resample(student, config.scales), resample(teacher, config.scales), config)


@pytest.mark.parametrize("kind", ["dot", "cosine"])
def test_zero_on_equal_maps_and_on_maps_in_other_axes(kind):
    student, _ = _maps()
    config = RelDConfig(scales=(4, 2), affinity=kind)
    assert _loss(student, student.clone(), config) == 0
    # Relations do not change if all features turn together: here two channels swap and one changes sign.
    turned = student[:, [1, 0, 2]] * torch.tensor([1.0, 1.0, -1.0])[:, None, None]
    assert _loss(student, turned, config) < 1e-6


def test_only_the_dot_product_sees_the_length_of_features():
    student, _ = _maps()
    assert _loss(student, 2 * student, RelDConfig(scales=(4,), affinity="cosine")) < 1e-6
    assert _loss(student, 2 * student, RelDConfig(scales=(4,), affinity="dot")) > 0.1


def test_known_value_by_hand():
    student = torch.tensor([[1.0, 2.0], [0.0, 3.0]]).reshape(1, 2, 1, 2)
    teacher = torch.zeros_like(student)
    # The affinity of the cells (1, 0) and (2, 3) is [[1, 2], [2, 13]].
    released = reld_loss((student,), (teacher,), RelDConfig(scales=(1,)))
    assert math.isclose(released.item(), 18 / 4, rel_tol=1e-6)
    twice = tuple(m.repeat(2, 1, 1, 1) for m in (student, teacher))
    assert math.isclose(reld_loss(twice[:1], twice[1:], RelDConfig()).item(), 18 / 4 / 2, rel_tol=1e-6)
    assert math.isclose(reld_loss(twice[:1], twice[1:], RelDConfig(reading="paper")).item(), 18 / 4, rel_tol=1e-6)


def test_empty_cells_have_a_finite_cosine_gradient():
    student = torch.zeros(1, 3, 4, 4, requires_grad=True)
    _, teacher = _maps(batch=1)
    _loss(student, teacher, RelDConfig(scales=(4,), affinity="cosine")).backward()
    assert student.grad.isfinite().all()


def test_affinities_keep_float32_under_autocast_and_from_half_maps():
    features = torch.full((1, 8, 2, 2), 300.0, dtype=torch.float16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        products = affinity(features, cosine=False)
    assert products.dtype == torch.float32
    assert torch.equal(products, torch.full((1, 4, 4), 720000.0))


def test_other_scales_and_batches_are_refused():
    student, teacher = _maps()
    with pytest.raises(ConfigError, match=r"distill\.reld\.scales"):
        reld_loss(resample(student, (4, 2)), resample(teacher, (4,)), CONFIG)
    with pytest.raises(ConfigError, match=r"\(1, 4, 4\)"):
        reld_loss(resample(student, (4,)), resample(teacher[:1], (4,)), CONFIG)
