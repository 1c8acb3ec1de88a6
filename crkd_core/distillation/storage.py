"""Teacher targets of one view of one sample as named tensors, and back.

What is kept, and as what, by ``distill.targets.storage`` (P: cells of the part, K: classes of a task, T: tasks):

=================================  ==========================  ======  ======  ==============================
tensor                             shape                       fp32    fp16    int8
=================================  ==========================  ======  ======  ==============================
``grid_shape``                     2                           int32   int32   int32
``csrd.objectness``                X, Y                        fp32    fp16    fp16
``msfd.camera.indices``            P                           int32   int32   int32
``msfd.camera.features``           P, C                        fp32    fp16    8-bit, scale of each channel
``msfd.fused.indices, .features``  as for the camera map
``reld.sides``                     scales                      int32   int32   int32
``reld.features``                  sum of sides^2, C           fp32    fp16    8-bit, scale of each channel
``reld.coarse``                    the same of sides <= 8      -       -       fp16
``respd.classes, respd.cells``     T (K and P of each)         int32   int32   int32
``respd.indices``                  sum of P                    int32   int32   int32
``respd.features``                 sum of P, 10                fp32    fp16    fp16
``respd.peaks``                    sum of P K                  -       fp16    fp16
``respd.heatmap_prob``             sum of K, X, Y              fp32    8-bit square root code
=================================  ==========================  ======  ======  ==============================

Heatmaps matter most where they are high and must be known everywhere: the quality focal loss compares every cell. So
the cells whose boxes are kept keep their probabilities too (``respd.peaks``), and the rest is coded in 8 bits, see
:func:`.quantisation.probability_codes`. In int8, RelD's coarsest maps and CSRD's objectness stay in fp16: few numbers,
with a large part in a gradient that is a sum of signs. Other 8-bit tensors have ``NAME.scale`` and ``NAME.lowest``
beside them, one number a channel, see :class:`.quantisation.ChannelCodes`. Cell indices are ``x * Y + y``. In fp16,
values beyond its range become its largest.
"""

from typing import Literal

import torch
from torch import Tensor

from crkd_core.distillation.cells import SparseCells
from crkd_core.distillation.quantisation import ChannelCodes, probabilities, probability_codes
from crkd_core.distillation.respd import TaskResponse, TeacherResponse
from crkd_core.distillation.targets import TeacherTargets
from crkd_core.errors import DamagedArtifactError

Storage = Literal["fp32", "fp16", "int8"]
_COARSE_SIDE = 8


def encode_targets(targets: TeacherTargets, storage: Storage) -> dict[str, Tensor]:
    """The stored form of a batch of one: contiguous tensors on the CPU, see the table above."""
    named: dict[str, Tensor] = {"grid_shape": torch.tensor(targets.grid_shape)}
    if targets.objectness is not None:
        named["csrd.objectness"] = _float(targets.objectness[0], storage)
    for name, cells in (("msfd.camera", targets.camera), ("msfd.fused", targets.fused)):
        if cells is not None:
            named |= {f"{name}.indices": cells.indices, **_encode_features(name, cells.features, storage)}
    if targets.relation is not None:
        named |= _encode_relation(targets.relation, storage)
    if targets.response is not None:
        named |= _encode_response(targets.response, storage)
    return {name: _compact(tensor) for name, tensor in named.items()}


def decode_targets(tensors: dict[str, Tensor]) -> TeacherTargets:
    """A batch of one in float32, from the tensors that :func:`encode_targets` gave; others are ignored.

    Raises:
        DamagedArtifactError: a tensor is missing or does not fit the others, or a cell lies outside the grid.
    """
    stored = _Stored(tensors)
    try:
        return TeacherTargets(
            batch_size=1,
            grid_shape=stored.grid_shape,
            objectness=stored.floats("csrd.objectness")[None] if stored.has("csrd.") else None,
            camera=stored.cells("msfd.camera") if stored.has("msfd.camera.") else None,
            fused=stored.cells("msfd.fused") if stored.has("msfd.fused.") else None,
            relation=stored.relation() if stored.has("reld.") else None,
            response=stored.response() if stored.has("respd.") else None,
        )
    except (RuntimeError, ValueError) as error:
        raise DamagedArtifactError(
            f"stored teacher targets do not fit together ({str(error).splitlines()[0]}); extract the targets again"
        ) from None


def _encode_features(name: str, features: Tensor, storage: Storage) -> dict[str, Tensor]:
    name = f"{name}.features"
    if storage == "int8":
        coded = ChannelCodes.of(features)
        return {name: coded.codes, f"{name}.scale": coded.scale, f"{name}.lowest": coded.lowest}
    return {name: _float(features, storage)}


def _encode_relation(relation: tuple[Tensor, ...], storage: Storage) -> dict[str, Tensor]:
    sides = [bev_map.shape[2] for bev_map in relation]
    named = {"reld.sides": torch.tensor(sides)}
    cells = torch.cat([bev_map[0].flatten(1).T for bev_map in relation])
    if storage == "int8":
        coarse = _coarse_rows(sides).to(cells.device)
        named["reld.coarse"] = _float(cells[coarse], storage)
        cells = cells.masked_fill(coarse[:, None], 0.0)
    return named | _encode_features("reld", cells, storage)


def _coarse_rows(sides: list[int]) -> Tensor:
    """Which rows of ``reld.features`` belong to the scales that 8 bits would spoil."""
    return torch.cat([torch.full((side**2,), side <= _COARSE_SIDE) for side in sides])


def _encode_response(response: TeacherResponse, storage: Storage) -> dict[str, Tensor]:
    tasks = response.tasks
    heatmaps = torch.cat([task.heatmap_prob[0] for task in tasks])
    named = {
        "respd.classes": torch.tensor([task.heatmap_prob.shape[1] for task in tasks]),
        "respd.cells": torch.tensor([len(task.boxes.indices) for task in tasks]),
        "respd.indices": torch.cat([task.boxes.indices for task in tasks]),
        "respd.features": _float(torch.cat([task.boxes.features for task in tasks]), storage),
        "respd.heatmap_prob": heatmaps if storage == "fp32" else probability_codes(heatmaps),
    }
    if storage != "fp32":
        peaks = [task.heatmap_prob[0].flatten(1)[:, task.boxes.indices].T.flatten() for task in tasks]
        named["respd.peaks"] = _float(torch.cat(peaks), storage)
    return named


def _float(values: Tensor, storage: Storage) -> Tensor:
    if storage == "fp32":
        return values
    largest = torch.finfo(torch.float16).max
    return values.clamp(-largest, largest).half()


def _compact(tensor: Tensor) -> Tensor:
    tensor = tensor.detach().cpu()
    return tensor.to(torch.int32 if tensor.dtype == torch.int64 else tensor.dtype).contiguous()


class _Stored:
    """Reads parts of stored targets, and says which tensor is missing or wrong."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self._tensors = tensors
        nx, ny = self._tensor("grid_shape").tolist()
        self.grid_shape = (int(nx), int(ny))

    def has(self, prefix: str) -> bool:
        return any(name.startswith(prefix) for name in self._tensors)

    def floats(self, name: str) -> Tensor:
        return self._tensor(name).float()

    def cells(self, name: str) -> SparseCells:
        return self._cells(f"{name}.indices", self._tensor(f"{name}.indices"), self._features(name))

    def relation(self) -> tuple[Tensor, ...]:
        """[1, C, s, s] for each scale s, the coarse ones from their own tensor in int8."""
        sides = self._numbers("reld.sides")
        features = self._features("reld")
        if self._tensor("reld.features").dtype == torch.uint8:
            features[_coarse_rows(sides)] = self.floats("reld.coarse")
        parts = features.split([side**2 for side in sides])
        return tuple(part.T.reshape(1, -1, side, side) for part, side in zip(parts, sides, strict=True))

    def response(self) -> TeacherResponse:
        """Heatmaps of every task, with the exact probabilities where they are kept, and the boxes' cells."""
        classes, counts = self._numbers("respd.classes"), self._numbers("respd.cells")
        stored = self._tensor("respd.heatmap_prob")
        coded = stored.dtype == torch.uint8
        heatmaps = (probabilities(stored) if coded else stored).split(classes)
        indices = self._tensor("respd.indices").split(counts)
        features = self.floats("respd.features").split(counts)
        boxes = [self._cells("respd.indices", *part) for part in zip(indices, features, strict=True)]
        if coded:
            self._put_peaks(heatmaps, boxes)
        return TeacherResponse(
            tuple(TaskResponse(heatmap[None], cells) for heatmap, cells in zip(heatmaps, boxes, strict=True))
        )

    def _put_peaks(self, heatmaps: tuple[Tensor, ...], boxes: list[SparseCells]) -> None:
        sizes = [len(heatmap) * len(cells.indices) for heatmap, cells in zip(heatmaps, boxes, strict=True)]
        peaks = self.floats("respd.peaks").split(sizes)
        for heatmap, cells, values in zip(heatmaps, boxes, peaks, strict=True):
            heatmap.flatten(1)[:, cells.indices] = values.view(-1, len(heatmap)).T

    def _features(self, name: str) -> Tensor:
        name = f"{name}.features"
        stored = self._tensor(name)
        if stored.dtype != torch.uint8:
            return stored.float()
        return ChannelCodes(stored, self._tensor(f"{name}.scale"), self._tensor(f"{name}.lowest")).values()

    def _cells(self, name: str, indices: Tensor, features: Tensor) -> SparseCells:
        cells = self.grid_shape[0] * self.grid_shape[1]
        if len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < cells:
            raise DamagedArtifactError(
                f"teacher targets name cells outside their grid of {cells} cells in {name} "
                f"({int(indices.min())} to {int(indices.max())}); extract the targets again"
            )
        return SparseCells(indices.long(), features, 1, self.grid_shape)

    def _numbers(self, name: str) -> list[int]:
        return [int(number) for number in self._tensor(name).tolist()]

    def _tensor(self, name: str) -> Tensor:
        if name not in self._tensors:
            raise DamagedArtifactError(
                f"teacher targets lack the tensor {name}, found {', '.join(sorted(self._tensors)) or 'none'}; "
                "extract the targets again"
            )
        return self._tensors[name]
