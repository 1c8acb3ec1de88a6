"""Compiling a detector's dense parts.

Backbone, neck, fuser, decoder and head see tensors of one shape and are most of the arithmetic. The sparse parts
(voxels, pillars, BEV pooling) see another number of points in every sample, so they stay as they are.
"""

import torch
from torch import Tensor, nn

from crkd_core.errors import ConfigError
from crkd_core.models.detector import Detector


def dense_parts(detector: Detector) -> list[nn.Module]:
    """The parts whose tensors have the same shape in every batch of one size."""
    camera = [detector.camera.backbone, detector.camera.neck] if detector.camera is not None else []
    fuser = [detector.fuser] if detector.fuser is not None else []
    return [*camera, *fuser, detector.decoder, detector.head]


def compile_dense_parts(detector: Detector, backend: str = "inductor") -> None:
    """Let `torch.compile` make each dense part faster at its first use; results change by rounding only.

    The modules stay the same objects, so that state-dict names do not change. Another batch size compiles anew.
    """
    for part in dense_parts(detector):
        part.compile(dynamic=False, backend=backend)


def check_compiler(device: torch.device) -> None:
    """Find out before a run whether `torch.compile` works here.

    Raises:
        ConfigError: it does not, in the compiler's own words.
    """
    try:
        torch.compile(_double, dynamic=False)(torch.ones(2, device=device))
    except Exception as error:  # compilers raise errors of any class
        raise ConfigError(
            f"train.compile needs a compiler that torch can use for {device.type}, and it failed with "
            f"{type(error).__name__}: {str(error).strip().splitlines()[0]}; install one (g++ for a CPU, Triton for a "
            "GPU), or set train.compile=false"
        ) from error


def _double(x: Tensor) -> Tensor:
    return x + x
