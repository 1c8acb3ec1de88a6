"""The published full-size models as their recorded key lists, and checkpoints made from them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from crkd_core.config import load_config
from crkd_core.config.models import DetectorConfig
from crkd_core.config.schema import Config
from crkd_core.models.detector import build_detector
from crkd_core.training.student import without_calibration
from crkd_core.weights.published import export_detector
from tests.parity.cases import DATA, KEY_LISTS
from tests.parity.packing import read_key_lists
from tests.support.described import TASKS

MODELS = ("teacher_r50", "teacher_swint", "student_r50", "student_swint", "distill_r50", "distill_swint")
_CONSTANTS = ("vtransform.dx", "vtransform.bx", "vtransform.nx", "vtransform.frustum")
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked", "relative_position_index")


@dataclass(frozen=True)
class PublishedModel:
    """One recorded key list."""

    name: str
    shapes: Mapping[str, tuple[int, ...]]
    types: Mapping[str, torch.dtype]
    meta: dict

    @property
    def config(self) -> Config:
        return load_config(f"paper-{self.name.split('_')[1]}")

    def detector(self, role: str) -> DetectorConfig:
        """The configuration of its teacher or student."""
        if role == "teacher":
            return self.config.teacher
        return self.config.student if self.name.startswith("distill") else without_calibration(self.config.student)

    def empty(self) -> dict[str, Tensor]:
        """Its state dict without values."""
        return {k: torch.empty(s, dtype=self.types[k], device="meta") for k, s in self.shapes.items()}

    def trained(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the parameters that its run trained."""
        fixed = (*_CONSTANTS, *_BUFFERS)
        own = {key: shape for key, shape in self.shapes.items() if not key.endswith(fixed)}
        if self.name.startswith("distill"):
            teacher = ("encoders.", "fuser.", "decoder.", "heads.")
            own = {key: shape for key, shape in own.items() if not key.startswith(teacher)}
        if "not_trainable_parameters" in self.meta:
            stated = {*self.meta["buffers"], *self.meta["not_trainable_parameters"]}
            assert own.keys() == self.shapes.keys() - stated
        return own


@cache
def _key_lists() -> dict[str, Any]:
    return read_key_lists(DATA / KEY_LISTS)


def load_model(name: str) -> PublishedModel:
    """A recorded key list."""
    recorded = _key_lists()[name]
    shapes = {key: tuple(shape) for key, shape, *_ in recorded["keys"]}
    types = {key: getattr(torch, kind.removeprefix("torch.")) for key, _, kind, *_ in recorded["keys"]}
    return PublishedModel(name, shapes, types, recorded["meta"])


def random_state(shapes: Mapping[str, tuple[int, ...]], types: Mapping[str, torch.dtype] | None = None) -> dict:
    """Seeded values of these shapes: floats (variances above zero), or counters where the type says so."""
    generator = torch.Generator().manual_seed(0)
    counters = {key for key, kind in (types or {}).items() if not kind.is_floating_point}

    def values(key: str, shape: tuple[int, ...]) -> Tensor:
        if key in counters:
            return torch.randint(100, shape, generator=generator)
        drawn = torch.randn(shape, generator=generator)
        return drawn.abs() if key.endswith("running_var") else drawn

    return {key: values(key, shape) for key, shape in shapes.items()}


TINY = load_config("tiny")


def tiny_weights(role: str) -> dict[str, Tensor]:
    """Random weights of the tiny preset's teacher or student."""
    with torch.device("meta"):
        state = build_detector(getattr(TINY, role), TINY.data, TASKS).state_dict()
    return random_state({k: tuple(t.shape) for k, t in state.items()}, {k: t.dtype for k, t in state.items()})


def tiny_published(role: str) -> dict[str, Tensor]:
    """The same as the published code would save them."""
    return export_detector(tiny_weights(role), getattr(TINY, role), TINY.data)
