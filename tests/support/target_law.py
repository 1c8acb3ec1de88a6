"""The law of teacher targets: a field of a loss decides what is stored if and only if a manifest's settings tell it."""

import copy
import typing
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from crkd_core.config.distill import LossSection
from crkd_core.distillation.term import LossTerm, targets_of_terms
from crkd_core.geometry.boxes import Boxes3D
from crkd_core.geometry.grid import BEVGrid
from crkd_core.models.outputs import DetectorOutput


class TargetLaw:
    """Every field of a loss against one teacher's output, rich enough that all that can matter does."""

    def __init__(self, teacher: DetectorOutput, boxes: Sequence[Boxes3D], grid: BEVGrid) -> None:
        self._teacher, self._boxes, self._grid = teacher, boxes, grid

    def broken_by(self, loss: type[LossTerm[Any]], section: LossSection) -> list[str]:
        """Fields that break the law, each with what is wrong, starting from a section's values.

        A weight of 0 switches a scalar off, as leaving the loss out of ``distill.losses`` does: such values are not
        tried, since a cache may hold more than a student needs, and what it lacks is refused.
        """
        return [fault for field in type(section).model_fields for fault in self._faults(loss, section, field)]

    def _faults(self, loss: type[LossTerm[Any]], section: LossSection, field: str) -> Iterator[str]:
        term = loss(section)
        changed = [other for other in map(loss, other_sections(section, field)) if other.scalars == term.scalars]
        if not changed:
            yield f"{field}: no other value is known to try"
            return
        keys = {other.target_settings() != term.target_settings() for other in changed}
        targets = self._targets(term)
        effects = {not _equal(self._targets(other), targets) for other in changed}
        if True in effects and keys != {True}:
            yield f"{field}: changes the targets, and not the settings that a manifest holds"
        if True not in effects and keys != {False}:
            yield f"{field}: changes the settings that a manifest holds, and not the targets"

    def _targets(self, term: LossTerm[Any]) -> dict[str, Tensor]:
        targets = targets_of_terms([term], self._teacher, self._boxes, self._grid)
        samples = [sample.encode("fp32") for sample in targets.split()]
        return {f"{index}.{name}": tensor for index, named in enumerate(samples) for name, tensor in named.items()}


def other_sections(section: LossSection, field: str) -> list[LossSection]:
    """Sections of other valid values of one field, made from its type and its present value."""
    model, values = type(section), section.model_dump()
    sections: list[LossSection] = []
    for other in _other_values(values[field], model.model_fields[field].annotation):
        try:
            changed = model.model_validate({**copy.deepcopy(values), field: other})
        except ValidationError:
            continue
        if changed != section and changed not in sections:
            sections.append(changed)
    return sections


def _other_values(value: Any, annotation: Any) -> Iterator[Any]:
    if typing.get_origin(annotation) is typing.Literal:
        yield from typing.get_args(annotation)
    elif isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield from (value + 1, value * 2, value // 2, 0)
    elif isinstance(value, float):
        yield from (value * 2, value / 2, value + 0.3, 0.9, 0.5)
    elif isinstance(value, tuple):
        yield value[:-1]
        for factor in (0.5, 2, 3):
            yield tuple(type(item)(item * factor) for item in value)
        for index, item in enumerate(value):
            for other in _other_values(item, type(item)):
                yield (*value[:index], other, *value[index + 1 :])
    elif value is None:
        yield from (0, 0.5, True, ())


def _equal(targets: dict[str, Tensor], others: dict[str, Tensor]) -> bool:
    return targets.keys() == others.keys() and all(torch.equal(targets[name], others[name]) for name in targets)
