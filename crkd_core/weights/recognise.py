"""Telling from the names of its tensors what a checkpoint file holds."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from crkd_core.errors import UsageError

Role = Literal["teacher", "student", "distilled", "backbone"]
BackboneKind = Literal["resnet", "swin"]

_SHORT = {"resnet": "r50", "swin": "swint"}
_PRETRAINED = {"resnet": "torchvision_resnet", "swin": "official_swin"}
_DETECTOR_BACKBONE = "encoders.camera.backbone."
_SHOWN = 3


@dataclass(frozen=True)
class Recognised:
    """What a file holds.

    Attributes:
        role: a teacher, a plain student, a distiller (with its student, teacher and relation adapters), or an image
            backbone alone.
        backbone: kind of the image backbone.
    """

    role: Role
    backbone: BackboneKind

    @property
    def model(self) -> str:
        """Short name, such as ``student_r50``, ``distill_swint`` or ``torchvision_resnet``."""
        if self.role == "backbone":
            return _PRETRAINED[self.backbone]
        return f"{'distill' if self.role == 'distilled' else self.role}_{_SHORT[self.backbone]}"


def recognise(names: Collection[str]) -> Recognised:
    """What the tensors of these names belong to; whether their shapes fit is for the conversion to say.

    Raises:
        UsageError: neither a published CRKD detector nor a torchvision ResNet nor an official Swin Transformer.
    """
    known = set(names)
    modules = {name.partition(".")[0] for name in known}
    sensors = {name.split(".")[1] for name in known if name.startswith("encoders.") and name.count(".")}
    if "encoders_student" in modules:
        return Recognised("distilled", _kind_within(known, "encoders_student.camera.backbone."))
    if "lidar" in sensors and "camera" in sensors:
        return Recognised("teacher", _kind_within(known, _DETECTOR_BACKBONE))
    if "radar" in sensors and "camera" in sensors:
        return Recognised("student", _kind_within(known, _DETECTOR_BACKBONE))
    if {"conv1.weight", "layer1.0.conv1.weight"} <= known:
        return Recognised("backbone", "resnet")
    if {"patch_embed.proj.weight", "layers.0.blocks.0.attn.qkv.weight"} <= known:
        return Recognised("backbone", "swin")
    raise _unknown(known)


def _kind_within(names: set[str], prefix: str) -> BackboneKind:
    if f"{prefix}conv1.weight" in names:
        return "resnet"
    if f"{prefix}patch_embed.projection.weight" in names:
        return "swin"
    raise _unknown(names)


def _unknown(names: set[str]) -> UsageError:
    return UsageError(
        "the file is of no known model: expected a CRKD teacher, student or distiller with a ResNet or Swin backbone, "
        f"a torchvision ResNet or an official Swin Transformer, found {len(names)} tensors such as "
        f"{', '.join(sorted(names)[:_SHOWN])}"
    )
