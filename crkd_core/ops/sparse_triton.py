"""Sparse 3D convolution on a GPU by the optional spconv-triton library; the only place that imports it.

:mod:`.sparse_conv` is the readable implementation and holds the weights; it asks :func:`chosen_for` which of the two
computes. The choice changes how fast, not what: same weights, same sites in the same order, float32 in any case.

The environment variable ``CRKD_SPARSE_CONV`` decides:

- ``auto`` (default): spconv-triton for features on a CUDA device where it is installed, plain torch otherwise;
- ``torch``: always plain torch;
- ``triton``: spconv-triton for features on a CUDA device, and an error where it is not installed.

An installed library that fails raises its own error: a run that silently became many times slower would be worse.
"""

import importlib
import importlib.util
import math
import os
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.func import functional_call

from crkd_core.errors import ConfigError

SWITCH = "CRKD_SPARSE_CONV"
_CHOICES = ("auto", "torch", "triton")
_LIBRARY = "spconv_triton"

Triple = tuple[int, int, int]
# What the library remembers of a set of sites between layers, by kernel size.
NeighbourCache = dict[str, Any]


def chosen_for(device: torch.device, sites: int, kernel: Triple) -> bool:
    """Whether this library convolves features of so many sites on a device.

    Without sites, and with a kernel of a single cell (whose weights it lays out differently), torch does it.

    Raises:
        ConfigError: the switch has an unknown value, or asks for the library where it is not installed.
    """
    choice = os.environ.get(SWITCH, "auto")
    if choice not in _CHOICES:
        raise ConfigError(f"the environment variable {SWITCH}: expected one of {', '.join(_CHOICES)}, found {choice!r}")
    if choice == "torch" or device.type != "cuda" or sites == 0 or math.prod(kernel) == 1:
        return False
    if _installed():
        return True
    if choice == "triton":
        raise ConfigError(
            f"{SWITCH}=triton needs the optional spconv-triton library, which is not installed; "
            f"run: pip install crkd[gpu], or set {SWITCH}=torch"
        )
    return False


def submanifold(
    features: Float[Tensor, "n c"],
    coordinates: Int[Tensor, "n 4"],
    spatial_shape: Triple,
    batch_size: int,
    weight: Float[Tensor, "kx ky kz c out"],
    cache: NeighbourCache,
) -> Float[Tensor, "n out"]:
    """Convolution whose output sites are its input sites, in their order.

    Args:
        coordinates: sample, x, y, z of every site.
        cache: belongs to these sites; what it is filled with is reused by further layers on them.
    """
    kernel = _kernel(weight)
    layer = _layer("SubMConv3d", weight.shape[3], weight.shape[4], kernel, (1, 1, 1), _half(kernel))
    out = _apply(layer, features, coordinates, spatial_shape, batch_size, weight, dict(cache))
    cache.update(out.indice_dict)
    return out.features


def strided(
    features: Float[Tensor, "n c"],
    coordinates: Int[Tensor, "n 4"],
    spatial_shape: Triple,
    batch_size: int,
    weight: Float[Tensor, "kx ky kz c out"],
    stride: Triple,
    padding: Triple,
) -> tuple[Float[Tensor, "m out"], Int[Tensor, "m 4"]]:
    """Convolution whose output sites are all that an input site reaches: features and sites, in no certain order."""
    layer = _layer("SparseConv3d", weight.shape[3], weight.shape[4], _kernel(weight), stride, padding)
    out = _apply(layer, features, coordinates, spatial_shape, batch_size, weight, {})
    return out.features, out.indices.long()


def _apply(
    layer: torch.nn.Module,
    features: Tensor,
    coordinates: Tensor,
    spatial_shape: Triple,
    batch_size: int,
    weight: Tensor,
    cache: NeighbourCache,
) -> Any:
    # The library computes half precision under autocast while training and float32 otherwise; we always want float32.
    with torch.autocast(features.device.type, enabled=False):
        x = _library().SparseConvTensor(
            features.float(), coordinates.int(), list(spatial_shape), batch_size, indice_dict=cache
        )
        # Its weights are [out, kx, ky, kz, in].
        return functional_call(layer, {"weight": weight.float().permute(4, 0, 1, 2, 3).contiguous()}, (x,))


@lru_cache(maxsize=256)
def _layer(
    kind: str, in_channels: int, out_channels: int, kernel: Triple, stride: Triple, padding: Triple
) -> torch.nn.Module:
    """A layer of the library without memory for weights, which are handed in at every call."""
    with torch.device("meta"):
        return getattr(_library(), kind)(
            in_channels,
            out_channels,
            list(kernel),
            stride=list(stride),
            padding=list(padding),
            bias=False,
            indice_key=f"{kind}-{'x'.join(map(str, kernel))}",
        )


@lru_cache(maxsize=1)
def _installed() -> bool:
    return importlib.util.find_spec(_LIBRARY) is not None


def _library() -> Any:
    return importlib.import_module(f"{_LIBRARY}.pytorch")


def _kernel(weight: Tensor) -> Triple:
    kx, ky, kz = weight.shape[:3]
    return kx, ky, kz


def _half(kernel: Triple) -> Triple:
    x, y, z = (size // 2 for size in kernel)
    return x, y, z
