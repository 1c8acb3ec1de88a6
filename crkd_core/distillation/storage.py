"""Stored forms of the tensors of teacher targets: float32, half precision, 8 bits a number.

Cell indices are ``x * Y + y``. Features in 8 bits have ``NAME.scale`` and ``NAME.lowest`` beside them, one number a
channel, see :class:`.quantisation.ChannelCodes`. In half precision, values beyond its range become its largest.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from crkd_core.distillation.quantisation import ChannelCodes
from crkd_core.errors import DamagedArtifactError

Storage = Literal["fp32", "fp16", "int8"]
"""``distill.targets.storage``: the precision of what is stored."""


def stored_float(values: Tensor, storage: Storage) -> Tensor:
    """Values that are never kept in 8 bits: float32, or half precision."""
    if storage == "fp32":
        return values
    largest = torch.finfo(torch.float16).max
    return values.clamp(-largest, largest).half()


def encode_features(name: str, features: Tensor, storage: Storage) -> dict[str, Tensor]:
    """Feature vectors [P, C] as ``NAME.features``."""
    name = f"{name}.features"
    if storage == "int8":
        coded = ChannelCodes.of(features)
        return {name: coded.codes, f"{name}.scale": coded.scale, f"{name}.lowest": coded.lowest}
    return {name: stored_float(features, storage)}


def compact(tensor: Tensor) -> Tensor:
    """A contiguous copy on the CPU, whole numbers in 32 bits."""
    tensor = tensor.detach().cpu()
    return tensor.to(torch.int32 if tensor.dtype == torch.int64 else tensor.dtype).contiguous()


class StoredTensors:
    """The tensors of one stored item; what is missing or does not fit is named.

    Attributes:
        grid_shape: (X, Y) of the BEV grid.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = tensors
        nx, ny = self.numbers("grid_shape")
        self.grid_shape = (nx, ny)

    def has(self, name: str) -> bool:
        """Whether there is a tensor of that name, or with it as the first part of its name."""
        return any(f"{stored}.".startswith(f"{name}.") for stored in self._tensors)

    def tensor(self, name: str) -> Tensor:
        """As it is stored.

        Raises:
            DamagedArtifactError: it is missing.
        """
        if name not in self._tensors:
            raise DamagedArtifactError(
                f"teacher targets lack the tensor {name}, found {', '.join(sorted(self._tensors)) or 'none'}; "
                "extract the targets again"
            )
        return self._tensors[name]

    def floats(self, name: str) -> Tensor:
        """In float32."""
        return self.tensor(name).float()

    def numbers(self, name: str) -> list[int]:
        """A list of whole numbers."""
        return [int(number) for number in self.tensor(name).tolist()]

    def features(self, name: str) -> Tensor:
        """What :func:`encode_features` stored, in float32."""
        name = f"{name}.features"
        stored = self.tensor(name)
        if stored.dtype != torch.uint8:
            return stored.float()
        return ChannelCodes(stored, self.tensor(f"{name}.scale"), self.tensor(f"{name}.lowest")).values()

    def cell_indices(self, name: str) -> Tensor:
        """Flat cell indices ``NAME.indices``, checked against the grid.

        Raises:
            DamagedArtifactError: a cell lies outside the grid.
        """
        indices, cells = self.tensor(f"{name}.indices"), self.grid_shape[0] * self.grid_shape[1]
        if len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < cells:
            raise DamagedArtifactError(
                f"teacher targets name cells outside their grid of {cells} cells in {name}.indices "
                f"({int(indices.min())} to {int(indices.max())}); extract the targets again"
            )
        return indices.long()
