"""For every field of every loss: another value changes the targets if and only if it changes what a manifest holds."""

import dataclasses
from typing import Annotated, Any, get_args

import pytest
import torch
from pydantic import Field, create_model

from crkd_core.config.distill import LOSS_NAMES, DecidesTarget, DistillConfig, LossSection, Quirk, RespDConfig
from crkd_core.config.numbers import NonNegative, Probability
from crkd_core.distillation.losses import LOSSES, build_targets, target_settings
from crkd_core.distillation.respd import RespD
from crkd_core.geometry.boxes import Boxes3D
from crkd_core.geometry.grid import BEVGrid
from tests.support.target_law import TargetLaw, other_sections


@pytest.fixture
def grid() -> BEVGrid:
    """Of 96 m, so that boxes stand near, further away and far."""
    return BEVGrid((-48.0, 48.0), (-48.0, 48.0), (-5.0, 3.0), 1.5)


@pytest.fixture
def scene(random_output, grid) -> dict[str, Any]:
    """A teacher's output with empty cells, and boxes at all ranges with all speeds."""
    teacher = random_output(1, batch=2, grid=grid)
    fused = teacher.features.fused.detach().clone()
    fused[:, :, ::2] = 0
    generator = torch.Generator().manual_seed(3)
    tensor = torch.rand((2, 60, 9), generator=generator)
    tensor[..., :2] = (tensor[..., :2] - 0.5) * 90
    tensor[..., 3:6] = tensor[..., 3:6] * torch.tensor([6.0, 10.0, 2.0]) + 0.5
    tensor[..., 6] *= 6.28
    tensor[..., 7:] = (tensor[..., 7:] - 0.5) * 3
    return {
        "teacher": dataclasses.replace(teacher, features=dataclasses.replace(teacher.features, fused=fused)),
        "boxes": [Boxes3D(boxes) for boxes in tensor],
        "grid": grid,
    }


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
def test_every_field_changes_the_targets_if_and_only_if_a_manifest_tells_it(scene, loss):
    assert TargetLaw(**scene).broken_by(loss, DistillConfig().section(loss.name)) == []


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
def test_the_parts_that_a_loss_names_are_those_that_it_gives(scene, loss):
    section = DistillConfig().section(loss.name)
    weights = [field for field in type(section).model_fields if field.endswith("weight") and field != "object_weight"]
    for off in [(), *((field,) for field in weights)]:
        term = loss(section.model_copy(update=dict.fromkeys(off, 0.0)))
        if term.scalars:
            assert set(term.stored_parts()) == set(term.targets(**scene))


def test_quirks_change_the_targets_if_and_only_if_a_manifest_tells_it(scene):
    plain = DistillConfig()
    targets = build_targets(scene["teacher"], scene["boxes"], scene["grid"], plain)
    for quirk in get_args(Quirk):
        quirky = DistillConfig(released_quirks=(quirk,))
        others = build_targets(scene["teacher"], scene["boxes"], scene["grid"], quirky)
        same = max(others.deviations(targets).values()) == 0
        assert same == (target_settings(quirky) == target_settings(plain)), quirk


def _respd_with(**fields: Any) -> type[LossSection]:
    """Its section with fields that somebody adds or changes."""
    return create_model("Changed", __base__=RespDConfig, **fields)


def test_a_field_that_decides_the_targets_without_a_mark_breaks_the_law(scene):
    unmarked = _respd_with(box_threshold=(Probability, Field(0.1)))
    assert TargetLaw(**scene).broken_by(RespD, unmarked()) == [
        "box_threshold: changes the targets, and not the settings that a manifest holds"
    ]


def test_a_mark_on_a_field_that_decides_nothing_breaks_the_law(scene):
    marked = _respd_with(temperature=(Annotated[NonNegative, DecidesTarget], Field(1.0)))
    assert TargetLaw(**scene).broken_by(RespD, marked()) == [
        "temperature: changes the settings that a manifest holds, and not the targets"
    ]


def test_a_field_of_a_type_that_the_law_cannot_change_breaks_it(scene):
    strange = _respd_with(callback=(str, Field("nothing")))
    assert TargetLaw(**scene).broken_by(RespD, strange()) == ["callback: no other value is known to try"]


def test_the_law_tries_several_values_of_every_field():
    for name in LOSS_NAMES:
        section = DistillConfig().section(name)
        assert all(other_sections(section, field) for field in type(section).model_fields)


def test_names_sections_and_losses_are_the_same_and_in_one_order():
    sections = [name for name, value in DistillConfig() if isinstance(value, LossSection)]
    assert sections == list(LOSS_NAMES) == [loss.name for loss in LOSSES]
    assert DistillConfig().losses == LOSS_NAMES


def test_stored_names_are_of_one_loss_each():
    names = [name for loss in LOSSES for name in loss.kinds]
    assert len(set(names)) == len(names)
    assert all(name.partition(".")[0] in LOSS_NAMES for name in names)
