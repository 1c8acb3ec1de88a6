"""Telling from the names of its tensors what a checkpoint file holds."""

import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from crkd_core.errors import UsageError
from crkd_core.progress import format_count
from crkd_core.weights.matching import StateDict

Role = Literal["teacher", "student", "distilled", "backbone"]
BackboneKind = Literal["resnet", "swin"]
Naming = Literal["torchvision", "official", "mmdet"]

_SHORT = {"resnet": "r50", "swin": "swint"}
_DETECTOR_BACKBONE = "encoders.camera.backbone."
# Only distillation trains a student that calibrates its radar map.
_CALIBRATION = "encoders.radar.backbone.caliber."
_DETECTOR = re.compile(r"(.*?\.|)encoders(_student)?\.(camera|lidar|radar)\.")
# Tensors that an image backbone of each naming begins with; the first of each is looked for at the end of names.
_BACKBONES: dict[tuple[BackboneKind, Naming], tuple[str, str]] = {
    ("resnet", "torchvision"): ("layer1.0.conv1.weight", "conv1.weight"),
    ("swin", "official"): ("layers.0.blocks.0.attn.qkv.weight", "patch_embed.proj.weight"),
    ("swin", "mmdet"): ("stages.0.blocks.0.attn.w_msa.qkv.weight", "patch_embed.projection.weight"),
    ("swin", "torchvision"): ("features.1.0.attn.qkv.weight", "features.0.0.weight"),
}
_SHOWN = 3


@dataclass(frozen=True)
class Recognised:
    """What a file holds.

    Attributes:
        role: a teacher, a plain student, a distilled student, or an image backbone.
        backbone: kind of the image backbone.
        naming: whose names an image backbone has; those of detectors are mmdetection's.
        prefix: what the names of the model's tensors begin with in the file, such as ``model.`` or ``img_backbone.``.
        is_distiller: the file holds the distilled student's teacher and relation adapters too.
    """

    role: Role
    backbone: BackboneKind
    naming: Naming = "mmdet"
    prefix: str = ""
    is_distiller: bool = False

    @property
    def model(self) -> str:
        """Short name, such as ``student_r50``, ``distill_swint`` or ``torchvision_resnet``."""
        if self.role == "backbone":
            return f"{self.naming}_{self.backbone}"
        student = "distill" if self.is_distiller else "student"
        return f"{'teacher' if self.role == 'teacher' else student}_{_SHORT[self.backbone]}"

    def take(self, state: Mapping[str, Tensor]) -> tuple[StateDict, str]:
        """The model's tensors under names without the prefix, and a note of those left out ("" for none)."""
        inside = {key.removeprefix(self.prefix): t for key, t in state.items() if key.startswith(self.prefix)}
        others = Counter(_module(key) for key in state if not key.startswith(self.prefix))
        taken = f"{self.prefix}* ({format_count(len(inside), 'tensor')})"
        note = f"taken: {taken}; left out: {_counted(others)} ({others.total()})"
        return inside, note if others else ""


def recognise(names: Collection[str], role: Role | None = None) -> Recognised:
    """What the tensors of these names belong to; whether their shapes fit is for the conversion to say.

    Args:
        role: what it is wanted for; as a backbone, the image backbone of any detector is taken.

    Raises:
        UsageError: neither a published CRKD detector nor an image backbone of a known naming, or several of them.
    """
    known = set(names)
    detector = None if role == "backbone" else _detector(known)
    if detector is not None:
        return detector
    backbones = _backbones(known)
    if len(backbones) > 1:
        raise UsageError(
            f"the file holds {len(backbones)} image backbones ({', '.join(f'{b.prefix}*' for b in backbones)}); "
            "save the one you mean alone"
        )
    if not backbones:
        raise _unknown(known)
    backbone = backbones[0]
    if role not in (None, "backbone") and not all(name.startswith(backbone.prefix) for name in known):
        raise _other_detector(known, backbone)
    return backbone


def _detector(names: set[str]) -> Recognised | None:
    matches = [match for match in map(_DETECTOR.match, names) if match]
    prefixes = sorted({match[1] for match in matches})
    if len(prefixes) > 1:
        raise UsageError(
            f"the file holds {len(prefixes)} detectors ({', '.join(f'{prefix}*' for prefix in prefixes)}); save the "
            "one you mean alone"
        )
    prefix = "".join(prefixes)
    inside = {name.removeprefix(prefix) for name in names if name.startswith(prefix)}
    sensors = {match[3] for match in matches}
    if any(match[2] for match in matches):
        kind = _kind_within(inside, "encoders_student.camera.backbone.")
        return Recognised("distilled", kind, prefix=prefix, is_distiller=True)
    if "camera" not in sensors or not sensors & {"lidar", "radar"}:
        return None
    kind = _kind_within(inside, _DETECTOR_BACKBONE)
    if "lidar" in sensors:
        return Recognised("teacher", kind, prefix=prefix)
    is_calibrated = any(name.startswith(_CALIBRATION) for name in inside)
    return Recognised("distilled" if is_calibrated else "student", kind, prefix=prefix)


def _backbones(names: set[str]) -> list[Recognised]:
    return [
        Recognised("backbone", kind, naming, name.removesuffix(ending))
        for (kind, naming), (ending, companion) in _BACKBONES.items()
        for name in sorted(names)
        if name.endswith(ending)
        and name.removesuffix(ending)[-1:] in ("", ".")
        and name.removesuffix(ending) + companion in names
    ]


def _kind_within(names: set[str], prefix: str) -> BackboneKind:
    for (kind, _), (_, companion) in _BACKBONES.items():
        if prefix + companion in names:
            return kind
    raise _unknown(names)


def _unknown(names: set[str]) -> UsageError:
    return UsageError(
        "the file is of no known model: expected a CRKD teacher, student or distiller with a ResNet or Swin backbone, "
        f"or an image backbone as torchvision, timm, mmdetection or Swin name it, found "
        f"{format_count(len(names), 'tensor')} of {_counted(Counter(_module(name) for name in names))}"
    )


def _other_detector(names: set[str], backbone: Recognised) -> UsageError:
    inside = sum(name.startswith(backbone.prefix) for name in names)
    others = Counter(_module(name) for name in names if not name.startswith(backbone.prefix))
    return UsageError(
        f"the file is of no known model: of its {len(names)} tensors {inside} are an image backbone "
        f"({backbone.prefix}*), which --as backbone takes, and {others.total()} fit no part of CRKD "
        f"({_counted(others)})"
    )


def _module(name: str) -> str:
    return name.partition(".")[0]


def _counted(modules: Counter[str]) -> str:
    more = f" and {len(modules) - _SHOWN} more modules" if len(modules) > _SHOWN else ""
    largest = sorted(modules, key=lambda module: (-modules[module], module))
    return ", ".join(largest[:_SHOWN]) + more
