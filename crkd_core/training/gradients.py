"""Gradient norms and cosines of loss terms at the layers that they share.

Terms whose gradients have a negative cosine work against each other there. The parameters that are looked at lie where
the terms meet:

- ``fuser``: all parameters of the fuser, reached by every term that sees the fused map (not by CSRD);
- ``camera``: the view transform's, the last of the camera branch;
- ``lidar``, ``radar``: the last layer of that branch with a weight; the radar's is the end of the calibration, where
  CSRD meets the others.

Terms of one family (``heatmap/car``, ``heatmap/bus``, ...) are summed first. Names of the values are
``gradient_norm/LAYER/FAMILY`` and ``gradient_cosine/LAYER/FAMILY,FAMILY``. A family that does not reach a layer has
norm 0 there and no cosine.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations

import torch
from torch import Tensor, nn

from crkd_core.models.detector import Detector

SharedLayers = Mapping[str, Sequence[nn.Parameter]]
NORM, COSINE = "gradient_norm/", "gradient_cosine/"


def shared_layers(detector: Detector) -> dict[str, list[nn.Parameter]]:
    """The trained parameters at which terms meet, by layer; only layers that the detector has."""
    radar = detector.radar
    ends = {
        "fuser": detector.fuser,
        "camera": None if detector.camera is None else detector.camera.view_transform,
        "lidar": _last_weighted(detector.lidar),
        "radar": None if radar is None else _last_weighted(radar.calibration or radar.pillar_net),
    }
    chosen = {
        name: [] if end is None else [p for p in end.parameters() if p.requires_grad] for name, end in ends.items()
    }
    return {name: parameters for name, parameters in chosen.items() if parameters}


def _last_weighted(branch: nn.Module | None) -> nn.Module | None:
    """The last layer with a matrix or kernel; norms have vectors only."""
    if branch is None:
        return None
    weighted = [part for part in branch.modules() if any(p.dim() > 1 for p in part.parameters(recurse=False))]
    return weighted[-1]


def gradient_metrics(terms: Mapping[str, Tensor], layers: SharedLayers, scale: float = 1.0) -> dict[str, float]:
    """Norms and cosines of the gradients of every family of terms; the graph is kept for the training step.

    Nothing is accumulated in ``.grad`` and nothing is exchanged: under data parallelism it sees the terms of this
    process's share of the batch, and the hooks of the parallel module do not notice.

    Args:
        terms: the named, weighted loss terms of one step.
        layers: parameters by layer.
        scale: factor against underflow in fp16, as the gradient scaler has it; it does not change the results. Where
            a gradient overflows with it, that value is left out.
    """
    of_families = {name: _gradients(total * scale, layers) for name, total in _families(terms).items()}
    values: dict[str, float] = {}
    for layer in layers:
        norms = {family: float(gradients[layer].norm()) for family, gradients in of_families.items()}
        values |= {f"{NORM}{layer}/{family}": norm / scale for family, norm in norms.items()}
        for first, second in combinations(of_families, 2):
            product = norms[first] * norms[second]
            if product > 0:
                cosine = float(of_families[first][layer] @ of_families[second][layer]) / product
                values[f"{COSINE}{layer}/{first},{second}"] = cosine
    return {name: value for name, value in values.items() if abs(value) < float("inf")}


def _families(terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
    sums: dict[str, Tensor] = {}
    for name, term in terms.items():
        family = name.partition("/")[0]
        sums[family] = sums[family] + term.float() if family in sums else term.float()
    return {family: total for family, total in sums.items() if total.requires_grad}


def _gradients(total: Tensor, layers: SharedLayers) -> dict[str, Tensor]:
    parameters = [parameter for layer in layers.values() for parameter in layer]
    gradients = iter(torch.autograd.grad(total, parameters, retain_graph=True, allow_unused=True))
    return {name: torch.cat([_flat(next(gradients), p) for p in layer]) for name, layer in layers.items()}


def _flat(gradient: Tensor | None, parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter).flatten().float() if gradient is None else gradient.flatten().float()
