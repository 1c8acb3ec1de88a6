"""The few kinds of tensors that are kept of a teacher, each with everything that is done with it.

What is stored of each, by ``distill.targets.storage`` (P: cells of the part, K: classes of a task, T: tasks):

====================  ========================  ====================  =====  =====  ============================
kind                  tensor                    shape                 fp32   fp16   int8
====================  ========================  ====================  =====  =====  ============================
:class:`DenseMap`     ``NAME``                  X, Y                  fp32   fp16   fp16
:class:`SparseCells`  ``NAME.indices``          P                     int32  int32  int32
                      ``NAME.features``         P, C                  fp32   fp16   8-bit, scale of each channel
:class:`ScaledMaps`   ``NAME.sides``            scales                int32  int32  int32
                      ``NAME.features``         sum of sides^2, C     fp32   fp16   8-bit, scale of each channel
                      ``NAME.coarse``           the same, sides <= 8  -      -      fp16
:class:`BoxResponse`  ``NAME.classes, .cells``  T (K and P of each)   int32  int32  int32
                      ``NAME.indices``          sum of P              int32  int32  int32
                      ``NAME.features``         sum of P, 10          fp32   fp16   fp16
                      ``NAME.peaks``            sum of P K            -      fp16   fp16
                      ``NAME.heatmap_prob``     sum of K, X, Y        fp32   8-bit square root code
====================  ========================  ====================  =====  =====  ============================

Heatmaps matter most where they are high and must be known everywhere: the quality focal loss compares every cell. So
the cells whose boxes are kept keep their probabilities too (``peaks``), and the rest is coded in 8 bits, see
:func:`.quantisation.probability_codes`. In int8, coarse maps and dense maps stay in fp16: few numbers, with a large
part in a gradient that is a sum of signs.

Mirroring is exact in its geometry: cells move to their mirror cells, offsets within a cell, headings and velocities
turn with them, as they would for the mirrored ground truth. The values are those of the teacher on the scene as it was:
convolutions are not symmetric, so a teacher that ran on the mirrored sensors would differ a little, as between any two
views.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from crkd_core.distillation.quantisation import probabilities, probability_codes
from crkd_core.distillation.storage import Storage, StoredTensors, encode_features, stored_float
from crkd_core.errors import ConfigError
from crkd_core.models.box_coder import BoxCoder
from crkd_core.models.outputs import gather_cells

Mirrored = tuple[bool, bool]
"""Whether the x axis, the y axis of the BEV grid is mirrored about its middle."""
AnyTarget = TypeVar("AnyTarget", bound="Target")
_COARSE_SIDE = 8
_CELLS_THAT_MAY_DIFFER = 0.02


class Target(ABC):
    """What is kept of a teacher's maps for a batch of B samples: float32, without gradient."""

    @abstractmethod
    def to(self: AnyTarget, device: torch.device | str) -> AnyTarget:
        """The same on another device."""

    @abstractmethod
    def split(self: AnyTarget) -> Sequence[AnyTarget]:
        """Each sample as a batch of one."""

    @classmethod
    @abstractmethod
    def join(cls: type[AnyTarget], parts: Sequence[AnyTarget]) -> AnyTarget:
        """Several batches of one layout, one after the other; the inverse of :meth:`split`."""

    @abstractmethod
    def layout(self) -> tuple[Any, ...]:
        """What parts must have in common to be joined: shapes, apart from the numbers of samples and cells."""

    @abstractmethod
    def mirrored(self: AnyTarget, axes: Mirrored) -> AnyTarget:
        """On a grid of which these axes are mirrored; twice the same is the original."""

    @abstractmethod
    def encode(self, name: str, storage: Storage) -> dict[str, Tensor]:
        """The stored tensors of a batch of one, see the table above."""

    @classmethod
    @abstractmethod
    def decode(cls: type[AnyTarget], name: str, stored: StoredTensors) -> AnyTarget:
        """A batch of one from what :meth:`encode` gave.

        Raises:
            DamagedArtifactError: a tensor is missing, or a cell lies outside the grid.
            RuntimeError, ValueError: tensors do not fit each other.
        """

    @abstractmethod
    def deviations(self: AnyTarget, expected: AnyTarget) -> dict[str, float]:
        """By part ("" for the whole): the norm of the difference, relative to the norm of what is expected.

        Infinite for another shape, other cells, or values that are no numbers.
        """


@dataclass(frozen=True)
class DenseMap(Target):
    """One number in every cell.

    Attributes:
        values: [B, X, Y].
    """

    values: Float[Tensor, "b x y"]

    def to(self, device: torch.device | str) -> "DenseMap":
        return DenseMap(self.values.to(device, non_blocking=True))

    def split(self) -> list["DenseMap"]:
        return [DenseMap(values) for values in self.values.split(1)]

    @classmethod
    def join(cls, parts: Sequence["DenseMap"]) -> "DenseMap":
        return DenseMap(torch.cat([part.values for part in parts]))

    def layout(self) -> tuple[Any, ...]:
        return tuple(self.values.shape[1:])

    def mirrored(self, axes: Mirrored) -> "DenseMap":
        return DenseMap(_flipped(self.values, axes))

    def encode(self, name: str, storage: Storage) -> dict[str, Tensor]:
        return {name: stored_float(self.values[0], storage)}

    @classmethod
    def decode(cls, name: str, stored: StoredTensors) -> "DenseMap":
        return DenseMap(stored.floats(name)[None])

    def deviations(self, expected: "DenseMap") -> dict[str, float]:
        return {"": _deviation(self.values, expected.values)}


@dataclass(frozen=True)
class SparseCells(Target):
    """The values of a map [B, C, X, Y] on P of its cells: what the teacher says where it matters.

    Attributes:
        indices: flat cell indices ``b * X * Y + x * Y + y``, ascending and unique.
        features: the map's channels there.
        batch_size: B, also counting samples without any cell.
        grid_shape: (X, Y).
    """

    indices: Int[Tensor, "p"]
    features: Float[Tensor, "p c"]
    batch_size: int
    grid_shape: tuple[int, int]

    @staticmethod
    def select(bev_map: Float[Tensor, "b c x y"], chosen: Bool[Tensor, "b x y"]) -> "SparseCells":
        """The chosen cells of a map, without its gradient, in float32."""
        indices = chosen.flatten().nonzero().squeeze(1)
        nx, ny = bev_map.shape[2:]
        return SparseCells(
            indices, gather_cells(bev_map.detach(), indices).float(), bev_map.shape[0], (int(nx), int(ny))
        )

    def gather(self, bev_map: Float[Tensor, "b c x y"]) -> Float[Tensor, "p c"]:
        """Another map's channels on the same cells, in float32; gradients flow into that map.

        Raises:
            ConfigError: the map has another batch size, grid or number of channels.
        """
        self.check_shape(tuple(bev_map.shape))
        return gather_cells(bev_map, self.indices).float()

    def check_shape(self, of_student: tuple[int, ...]) -> None:
        """Refuse to compare these cells with those of a map of another shape.

        Raises:
            ConfigError: the map has another batch size, grid or number of channels.
        """
        expected = (self.batch_size, self.features.shape[1], *self.grid_shape)
        if of_student != expected:
            raise ConfigError(
                f"the teacher's cells come from maps of the shape {expected} (batch, channels, x, y) but the student's "
                f"map has {of_student}; give both detectors the same batch, grid and channels"
            )

    def chosen(self, which: Bool[Tensor, "p"]) -> "SparseCells":
        """Some of the cells."""
        return replace(self, indices=self.indices[which], features=self.features[which])

    def to(self, device: torch.device | str) -> "SparseCells":
        indices, features = (tensor.to(device, non_blocking=True) for tensor in (self.indices, self.features))
        return replace(self, indices=indices, features=features)

    def split(self) -> list["SparseCells"]:
        cells = self.grid_shape[0] * self.grid_shape[1]
        borders = torch.arange(self.batch_size + 1, device=self.indices.device) * cells
        rows = torch.searchsorted(self.indices, borders).tolist()
        return [
            SparseCells(self.indices[start:stop] - sample * cells, self.features[start:stop], 1, self.grid_shape)
            for sample, (start, stop) in enumerate(pairwise(rows))
        ]

    @classmethod
    def join(cls, parts: Sequence["SparseCells"]) -> "SparseCells":
        nx, ny = parts[0].grid_shape
        offset, indices = 0, []
        for part in parts:
            indices.append(part.indices + offset * nx * ny)
            offset += part.batch_size
        return SparseCells(torch.cat(indices), torch.cat([part.features for part in parts]), offset, (nx, ny))

    def layout(self) -> tuple[Any, ...]:
        return (self.grid_shape, self.features.shape[1])

    def mirrored(self, axes: Mirrored) -> "SparseCells":
        nx, ny = self.grid_shape
        sample, cell = self.indices // (nx * ny), self.indices % (nx * ny)
        x, y = cell // ny, cell % ny
        x = nx - 1 - x if axes[0] else x
        y = ny - 1 - y if axes[1] else y
        indices, order = ((sample * nx + x) * ny + y).sort()
        return replace(self, indices=indices, features=self.features[order])

    def encode(self, name: str, storage: Storage) -> dict[str, Tensor]:
        return {f"{name}.indices": self.indices, **encode_features(name, self.features, storage)}

    @classmethod
    def decode(cls, name: str, stored: StoredTensors) -> "SparseCells":
        return SparseCells(stored.cell_indices(name), stored.features(name), 1, stored.grid_shape)

    def deviations(self, expected: "SparseCells") -> dict[str, float]:
        return {"": _cells_deviation(self, expected)}


@dataclass(frozen=True)
class ScaledMaps(Target):
    """A map resampled to several scales.

    Attributes:
        maps: [B, C, s, s] for each scale s.
    """

    maps: tuple[Tensor, ...]

    def to(self, device: torch.device | str) -> "ScaledMaps":
        return ScaledMaps(tuple(scaled.to(device, non_blocking=True) for scaled in self.maps))

    def split(self) -> list["ScaledMaps"]:
        return [ScaledMaps(maps) for maps in zip(*(scaled.split(1) for scaled in self.maps), strict=True)]

    @classmethod
    def join(cls, parts: Sequence["ScaledMaps"]) -> "ScaledMaps":
        return ScaledMaps(tuple(torch.cat(maps) for maps in zip(*(part.maps for part in parts), strict=True)))

    def layout(self) -> tuple[Any, ...]:
        return tuple(tuple(scaled.shape[1:]) for scaled in self.maps)

    def mirrored(self, axes: Mirrored) -> "ScaledMaps":
        return ScaledMaps(tuple(_flipped(scaled, axes) for scaled in self.maps))

    def encode(self, name: str, storage: Storage) -> dict[str, Tensor]:
        sides = [scaled.shape[2] for scaled in self.maps]
        named = {f"{name}.sides": torch.tensor(sides)}
        cells = torch.cat([scaled[0].flatten(1).T for scaled in self.maps])
        if storage == "int8":
            coarse = _coarse_rows(sides).to(cells.device)
            named[f"{name}.coarse"] = stored_float(cells[coarse], storage)
            cells = cells.masked_fill(coarse[:, None], 0.0)
        return named | encode_features(name, cells, storage)

    @classmethod
    def decode(cls, name: str, stored: StoredTensors) -> "ScaledMaps":
        sides = stored.numbers(f"{name}.sides")
        features = stored.features(name)
        if stored.tensor(f"{name}.features").dtype == torch.uint8:
            features[_coarse_rows(sides)] = stored.floats(f"{name}.coarse")
        parts = features.split([side**2 for side in sides])
        return ScaledMaps(tuple(part.T.reshape(1, -1, side, side) for part, side in zip(parts, sides, strict=True)))

    def deviations(self, expected: "ScaledMaps") -> dict[str, float]:
        if len(self.maps) != len(expected.maps):
            return {"relation": float("inf")}
        return {"relation": max(map(_deviation, self.maps, expected.maps))}


def _coarse_rows(sides: list[int]) -> Tensor:
    """Which rows of the stored features belong to the scales that 8 bits would spoil."""
    return torch.cat([torch.full((side**2,), side <= _COARSE_SIDE) for side in sides])


@dataclass(frozen=True)
class TaskResponse:
    """What the teacher predicts for one head task of K classes.

    Attributes:
        heatmap_prob: clipped probabilities.
        boxes: the ten regression channels on the cells whose boxes may be compared.
    """

    heatmap_prob: Float[Tensor, "b k x y"]
    boxes: SparseCells

    def mirrored(self, axes: Mirrored) -> "TaskResponse":
        """On a grid of which these axes are mirrored."""
        cells = self.boxes.mirrored(axes)
        features = BoxCoder.mirror(cells.features, axes)
        return TaskResponse(_flipped(self.heatmap_prob, axes), replace(cells, features=features))


@dataclass(frozen=True)
class BoxResponse(Target):
    """The teacher's predictions: one :class:`TaskResponse` per head task."""

    tasks: tuple[TaskResponse, ...]

    def to(self, device: torch.device | str) -> "BoxResponse":
        return BoxResponse(
            tuple(
                TaskResponse(task.heatmap_prob.to(device, non_blocking=True), task.boxes.to(device))
                for task in self.tasks
            )
        )

    def split(self) -> list["BoxResponse"]:
        of_tasks = [map(TaskResponse, task.heatmap_prob.split(1), task.boxes.split()) for task in self.tasks]
        return [BoxResponse(tasks) for tasks in zip(*of_tasks, strict=True)]

    @classmethod
    def join(cls, parts: Sequence["BoxResponse"]) -> "BoxResponse":
        of_tasks = zip(*(part.tasks for part in parts), strict=True)
        return BoxResponse(
            tuple(
                TaskResponse(
                    torch.cat([task.heatmap_prob for task in tasks]), SparseCells.join([task.boxes for task in tasks])
                )
                for tasks in of_tasks
            )
        )

    def layout(self) -> tuple[Any, ...]:
        return tuple((tuple(task.heatmap_prob.shape[1:]), task.boxes.layout()) for task in self.tasks)

    def mirrored(self, axes: Mirrored) -> "BoxResponse":
        return BoxResponse(tuple(task.mirrored(axes) for task in self.tasks))

    def encode(self, name: str, storage: Storage) -> dict[str, Tensor]:
        tasks = self.tasks
        heatmaps = torch.cat([task.heatmap_prob[0] for task in tasks])
        named = {
            f"{name}.classes": torch.tensor([task.heatmap_prob.shape[1] for task in tasks]),
            f"{name}.cells": torch.tensor([len(task.boxes.indices) for task in tasks]),
            f"{name}.indices": torch.cat([task.boxes.indices for task in tasks]),
            f"{name}.features": stored_float(torch.cat([task.boxes.features for task in tasks]), storage),
            f"{name}.heatmap_prob": heatmaps if storage == "fp32" else probability_codes(heatmaps),
        }
        if storage != "fp32":
            peaks = [task.heatmap_prob[0].flatten(1)[:, task.boxes.indices].T.flatten() for task in tasks]
            named[f"{name}.peaks"] = stored_float(torch.cat(peaks), storage)
        return named

    @classmethod
    def decode(cls, name: str, stored: StoredTensors) -> "BoxResponse":
        classes, counts = stored.numbers(f"{name}.classes"), stored.numbers(f"{name}.cells")
        probability = stored.tensor(f"{name}.heatmap_prob")
        coded = probability.dtype == torch.uint8
        heatmaps = (probabilities(probability) if coded else probability).split(classes)
        indices = stored.cell_indices(name).split(counts)
        features = stored.floats(f"{name}.features").split(counts)
        if coded:
            sizes = [number * cells for number, cells in zip(classes, counts, strict=True)]
            peaks = stored.floats(f"{name}.peaks").split(sizes)
            for heatmap, cells, values in zip(heatmaps, indices, peaks, strict=True):
                heatmap.flatten(1)[:, cells] = values.view(-1, len(heatmap)).T
        tasks = [
            TaskResponse(heatmap[None], SparseCells(cells, channels, 1, stored.grid_shape))
            for heatmap, cells, channels in zip(heatmaps, indices, features, strict=True)
        ]
        return BoxResponse(tuple(tasks))

    def deviations(self, expected: "BoxResponse") -> dict[str, float]:
        """Boxes are compared on the cells that both have: which cells matter depends on a threshold, so up to 2% of
        them may differ by rounding."""
        if len(self.tasks) != len(expected.tasks):
            return {"heatmaps": float("inf"), "boxes": float("inf")}
        pairs = list(zip(self.tasks, expected.tasks, strict=True))
        return {
            "heatmaps": max(_deviation(task.heatmap_prob, other.heatmap_prob) for task, other in pairs),
            "boxes": max(_cells_deviation(*_common_cells(task.boxes, other.boxes)) for task, other in pairs),
        }


def _flipped(bev_map: Tensor, axes: Mirrored) -> Tensor:
    return bev_map.flip([dim for dim, flipped in zip((-2, -1), axes, strict=True) if flipped])


def _deviation(values: Tensor, expected: Tensor) -> float:
    if values.shape != expected.shape:
        return float("inf")
    difference = float((values - expected).norm())
    if difference == 0:
        return 0.0
    # A difference that is not a number is a difference.
    return difference / max(float(expected.norm()), 1e-12) if difference == difference else float("inf")


def _cells_deviation(cells: SparseCells, expected: SparseCells) -> float:
    same = torch.equal(cells.indices, expected.indices)
    return _deviation(cells.features, expected.features) if same else float("inf")


def _common_cells(cells: SparseCells, expected: SparseCells) -> tuple[SparseCells, SparseCells]:
    kept, others = torch.isin(cells.indices, expected.indices), torch.isin(expected.indices, cells.indices)
    differing = int((~kept).sum() + (~others).sum())
    if differing > max(1, _CELLS_THAT_MAY_DIFFER * len(expected.indices)):
        return cells, expected
    return cells.chosen(kept), expected.chosen(others)
