"""What stored teacher targets look like must never change: names, order, types, shapes and bytes of every tensor.

The values are made of whole numbers and rounded once, so that the digests are the same on every machine.
"""

import hashlib
import json

import pytest
import torch
from torch import Tensor

from crkd_core.config.loading import load_config
from crkd_core.distillation.losses import decode_targets
from crkd_core.distillation.target_kinds import BoxResponse, DenseMap, ScaledMaps, SparseCells, TaskResponse
from crkd_core.distillation.targets import TeacherTargets
from crkd_core.teacher_cache.settings import target_settings

GRID = (20, 16)
CLASSES, CELLS = (1, 2, 2, 1, 2, 2), (7, 1, 0, 12, 3, 5)


def _values(seed: int, *shape: int) -> Tensor:
    """Multiples of 1/512 from -4 to 4."""
    count = int(torch.tensor(shape).prod())
    numbers = (torch.arange(count) * 2654435761 + seed * 40503 + 977) % 4093 - 2046
    return (numbers.float() / 512).reshape(shape)


def _probabilities(seed: int, *shape: int) -> Tensor:
    return ((_values(seed, *shape) + 4.01) / 8.03).square().square().clamp(1e-4, 1 - 1e-4)


def _cells(seed: int, count: int, channels: int) -> SparseCells:
    indices = (torch.arange(count) * (317 // max(count, 1)) + seed % 3).long()
    return SparseCells(indices, _values(seed, count, channels), 1, GRID)


def _targets() -> TeacherTargets:
    tasks = tuple(
        TaskResponse(_probabilities(30 + index, 1, classes, *GRID), _cells(40 + index, cells, 10))
        for index, (classes, cells) in enumerate(zip(CLASSES, CELLS, strict=True))
    )
    relation = tuple(_values(20 + side, 1, 6, side, side).clamp(min=0) for side in (16, 8, 4))
    return TeacherTargets(
        1,
        GRID,
        {
            "csrd.objectness": DenseMap(_probabilities(1, 1, *GRID)),
            "msfd.camera": _cells(2, 31, 5),
            "msfd.fused": _cells(3, 29, 6),
            "reld": ScaledMaps(relation),
            "respd": BoxResponse(tasks),
        },
    )


def _described(tensors: dict[str, Tensor]) -> dict[str, str]:
    return {
        name: f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)} "
        + hashlib.sha256(tensor.numpy().tobytes()).hexdigest()[:16]
        for name, tensor in tensors.items()
    }


def _digest(described: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()[:16]


ENCODED = {
    "fp32": {
        "grid_shape": "int32 [2] 278b0e50d4a91c11",
        "csrd.objectness": "float32 [20, 16] 1736ed20afa143a8",
        "msfd.camera.indices": "int32 [31] fe89af047cb4dbb5",
        "msfd.camera.features": "float32 [31, 5] 7f285eaf96153b6b",
        "msfd.fused.indices": "int32 [29] b5b432f5489384a1",
        "msfd.fused.features": "float32 [29, 6] 87d90fe973718c94",
        "reld.sides": "int32 [3] 53bb7e58686ad21d",
        "reld.features": "float32 [336, 6] 2bb6f0d8b6da0c63",
        "respd.classes": "int32 [6] 10cf1bb83a82bda1",
        "respd.cells": "int32 [6] 0551b55db1964ea3",
        "respd.indices": "int32 [28] fbeda0bbd9efac82",
        "respd.features": "float32 [28, 10] 35dc6e094ad79ab3",
        "respd.heatmap_prob": "float32 [10, 20, 16] e491c1bf66b5f769",
    },
    "fp16": {
        "grid_shape": "int32 [2] 278b0e50d4a91c11",
        "csrd.objectness": "float16 [20, 16] 33c1ab40b3e96538",
        "msfd.camera.indices": "int32 [31] fe89af047cb4dbb5",
        "msfd.camera.features": "float16 [31, 5] 402612e42f2a69ab",
        "msfd.fused.indices": "int32 [29] b5b432f5489384a1",
        "msfd.fused.features": "float16 [29, 6] 25a4f86198f0f271",
        "reld.sides": "int32 [3] 53bb7e58686ad21d",
        "reld.features": "float16 [336, 6] 34c5e2e684bbf492",
        "respd.classes": "int32 [6] 10cf1bb83a82bda1",
        "respd.cells": "int32 [6] 0551b55db1964ea3",
        "respd.indices": "int32 [28] fbeda0bbd9efac82",
        "respd.features": "float16 [28, 10] 54bc3cbf0950e2de",
        "respd.heatmap_prob": "uint8 [10, 20, 16] 8e4edb0fe64d722e",
        "respd.peaks": "float16 [37] 4e3468832c7df8cb",
    },
    "int8": {
        "grid_shape": "int32 [2] 278b0e50d4a91c11",
        "csrd.objectness": "float16 [20, 16] 33c1ab40b3e96538",
        "msfd.camera.indices": "int32 [31] fe89af047cb4dbb5",
        "msfd.camera.features": "uint8 [31, 5] 8ccfb2a1f23a94d6",
        "msfd.camera.features.scale": "float32 [5] e290ce79818662fe",
        "msfd.camera.features.lowest": "float32 [5] bc312a894d6563d4",
        "msfd.fused.indices": "int32 [29] b5b432f5489384a1",
        "msfd.fused.features": "uint8 [29, 6] 8073568f58650243",
        "msfd.fused.features.scale": "float32 [6] 41acbbcc21c08ffa",
        "msfd.fused.features.lowest": "float32 [6] 9522a35eee5cbf36",
        "reld.sides": "int32 [3] 53bb7e58686ad21d",
        "reld.coarse": "float16 [80, 6] cb633e5925584f4e",
        "reld.features": "uint8 [336, 6] d83fc98c1cfe72ec",
        "reld.features.scale": "float32 [6] 1ee0aa405417815f",
        "reld.features.lowest": "float32 [6] 9d908ecfb6b256de",
        "respd.classes": "int32 [6] 10cf1bb83a82bda1",
        "respd.cells": "int32 [6] 0551b55db1964ea3",
        "respd.indices": "int32 [28] fbeda0bbd9efac82",
        "respd.features": "float16 [28, 10] 54bc3cbf0950e2de",
        "respd.heatmap_prob": "uint8 [10, 20, 16] 8e4edb0fe64d722e",
        "respd.peaks": "float16 [37] 4e3468832c7df8cb",
    },
}
DECODED = {"fp32": "68f481bb11c6d05b", "fp16": "6e847a3899777835", "int8": "99b60f52845f7626"}


@pytest.mark.parametrize("storage", ["fp32", "fp16", "int8"])
def test_encoded_tensors_are_the_recorded_ones(storage):
    described = _described(_targets().encode(storage))
    assert described == ENCODED[storage]


@pytest.mark.parametrize("storage", ["fp32", "fp16", "int8"])
def test_decoded_values_are_the_recorded_ones(storage):
    stored = _targets().encode(storage)
    decoded = decode_targets(stored).encode("fp32")
    assert _digest(_described(decoded)) == DECODED[storage]


KEYS = {
    (): {
        "csrd": {"target": "heatmap", "reading": "released"},
        "msfd": {
            "reading": "released", "mask": "rotated", "range_steps_m": [20.0, 30.0], "speed_steps_mps": [0.3, 0.8],
            "growth": [0.25, 0.5], "growth_limits_m": [0.5, 4.0],
        },
        "reld_scales": [32, 16, 8, 4],
        "respd_box_threshold": 0.1,
    },
    ("distill.losses=[respd, csrd]", "distill.csrd.weight=3", "distill.csrd.target=lidar_feature"): {
        "respd_box_threshold": 0.1,
        "csrd": {"target": "lidar_feature", "reading": "released"},
    },
    ("distill.losses=[msfd]", "distill.released_quirks=[mask]", "distill.msfd.growth=[0.1, 0.2]"): {
        "msfd": {
            "reading": "released", "mask": "released", "range_steps_m": [20.0, 30.0], "speed_steps_mps": [0.3, 0.8],
            "growth": [0.1, 0.2], "growth_limits_m": [0.5, 4.0],
        },
    },
}  # fmt: skip


@pytest.mark.parametrize("overrides", KEYS, ids=len)
def test_what_a_manifest_says_of_the_losses_is_as_recorded(overrides):
    """Also in its order: the digest of existing targets depends on it."""
    settings = target_settings(load_config("paper-r50", None, list(overrides)))
    names = list(settings)
    first = names.index("storage") + 1
    assert names[:first] == [
        "losses", "grid", "image", "lidar", "augmentation", "augment_images", "seed", "views", "storage",
    ]  # fmt: skip
    of_losses = {name: settings[name] for name in names[first:]}
    assert json.dumps(of_losses) == json.dumps(KEYS[overrides])
