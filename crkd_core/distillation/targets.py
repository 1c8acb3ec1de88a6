"""The teacher's side of all losses for a batch: from a live teacher or from the cache, one type."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from crkd_core.distillation.storage import Storage, StoredTensors, compact
from crkd_core.distillation.target_kinds import Mirrored, Target
from crkd_core.errors import ConfigError, DamagedArtifactError

_Kind = TypeVar("_Kind", bound=Target)


@dataclass(frozen=True)
class TeacherTargets:
    """What the losses need of the teacher for B samples.

    Attributes:
        batch_size: B.
        grid_shape: (X, Y) of the BEV grid.
        parts: by name; only what some loss needs.
    """

    batch_size: int
    grid_shape: tuple[int, int]
    parts: Mapping[str, Target]

    def part(self, name: str, kind: type[_Kind], needed_by: str) -> _Kind:
        """A part that a scalar of a loss compares with.

        Raises:
            ConfigError: the targets do not hold it.
        """
        target = self.parts.get(name)
        if not isinstance(target, kind):
            raise ConfigError(
                f"the teacher targets hold nothing for the loss term {needed_by}, because they were made without it; "
                "extract them again with this term in distill.losses and a weight above 0"
            )
        return target

    def to(self, device: torch.device | str) -> "TeacherTargets":
        """The same targets on another device."""
        return self._with(lambda target: target.to(device))

    def mirrored(self, axes: Mirrored) -> "TeacherTargets":
        """Targets of the scene mirrored in x and/or y; twice the same is the original.

        Args:
            axes: along x, along y. The middle of the grid must be 0 along a mirrored axis.
        """
        return self._with(lambda target: target.mirrored(axes)) if any(axes) else self

    def _with(self, change: Callable[[Target], Target]) -> "TeacherTargets":
        return TeacherTargets(
            self.batch_size, self.grid_shape, {name: change(target) for name, target in self.parts.items()}
        )

    def split(self) -> list["TeacherTargets"]:
        """The targets of each sample, as batches of one; the inverse of :meth:`join`."""
        samples = {name: target.split() for name, target in self.parts.items()}
        return [
            TeacherTargets(1, self.grid_shape, {name: parts[index] for name, parts in samples.items()})
            for index in range(self.batch_size)
        ]

    @staticmethod
    def join(samples: Sequence["TeacherTargets"]) -> "TeacherTargets":
        """One batch of several.

        Raises:
            ConfigError: there are none, or they differ in grid, losses or shapes.
        """
        if not samples:
            raise ConfigError("a batch of teacher targets needs at least one sample, found none")
        layouts = [sample._layout() for sample in samples]
        for index, layout in enumerate(layouts):
            if layout != layouts[0]:
                raise ConfigError(
                    f"teacher targets of one batch must come from one extraction, but sample {index} has the layout "
                    f"{layout} (grid, then shapes by part) and sample 0 has {layouts[0]}; extract them again with one "
                    "configuration"
                )
        first = samples[0]
        parts = {
            name: type(target).join([sample.parts[name] for sample in samples]) for name, target in first.parts.items()
        }
        return TeacherTargets(sum(sample.batch_size for sample in samples), first.grid_shape, parts)

    def _layout(self) -> tuple[object, ...]:
        return (self.grid_shape, {name: target.layout() for name, target in self.parts.items()})

    def encode(self, storage: Storage) -> dict[str, Tensor]:
        """The stored form of a batch of one: contiguous tensors on the CPU, see :mod:`.target_kinds`."""
        named: dict[str, Tensor] = {"grid_shape": torch.tensor(self.grid_shape)}
        for name, target in self.parts.items():
            named |= target.encode(name, storage)
        return {name: compact(tensor) for name, tensor in named.items()}

    @staticmethod
    def decode(tensors: Mapping[str, Tensor], kinds: Mapping[str, type[Target]]) -> "TeacherTargets":
        """A batch of one in float32, from the tensors that :meth:`encode` gave; others are ignored.

        Args:
            kinds: what parts of a name are; those without tensors are left out.

        Raises:
            DamagedArtifactError: a tensor is missing or does not fit the others, or a cell lies outside the grid.
        """
        stored = StoredTensors(tensors)
        try:
            parts = {name: kind.decode(name, stored) for name, kind in kinds.items() if stored.has(name)}
        except (RuntimeError, ValueError) as error:
            raise DamagedArtifactError(
                f"stored teacher targets do not fit together ({str(error).splitlines()[0]}); extract the targets again"
            ) from None
        return TeacherTargets(1, stored.grid_shape, parts)

    def deviations(self, expected: "TeacherTargets") -> dict[str, float]:
        """How far from others these targets are, part by part, see :meth:`.target_kinds.Target.deviations`.

        Infinite where only one of both has a part.
        """
        deviations: dict[str, float] = {}
        for name in dict.fromkeys((*self.parts, *expected.parts)):
            short = name.rpartition(".")[2]
            target, other = self.parts.get(name), expected.parts.get(name)
            if target is None or other is None or type(target) is not type(other):
                deviations[short] = float("inf")
                continue
            deviations |= {detail or short: value for detail, value in target.deviations(other).items()}
        return deviations
