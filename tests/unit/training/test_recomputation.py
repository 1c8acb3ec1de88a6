"""Recomputed activations: gradients, buffers and random numbers stay bit-equal, less is kept."""

import copy

import pytest
import torch
from torch import nn

from crkd_core.config.models import DecoderConfig, SwinConfig
from crkd_core.models.detector import build_detector
from crkd_core.training.recomputation import blocks_of, recompute
from tests.support.tiny_detector import TINY_DATA, tiny_config, tiny_inputs

PARTS = ("backbone", "neck", "decoder", "head")
SWIN = SwinConfig(embed_dims=8, depths=(1, 2, 1, 1), heads=(1, 1, 2, 2), window=2, drop_path=0.4)


def detector(kind: str) -> nn.Module:
    torch.manual_seed(3)
    config = tiny_config(("camera", "radar"))
    if kind == "swin":
        neck = config.camera.neck.model_copy(update={"kind": "lss_fpn"})
        camera = config.camera.model_copy(update={"backbone": SWIN, "neck": neck})
        decoder = DecoderConfig(kind="second", channels=(8, 8), blocks=1, out_channels=12)
        config = config.model_copy(update={"camera": camera, "decoder": decoder})
    return build_detector(config, TINY_DATA).train()


def run(model: nn.Module) -> tuple[dict[str, torch.Tensor], int]:
    """Gradients and state after one backward pass, and the bytes that were kept for it."""
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    torch.manual_seed(5)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = model(tiny_inputs())
        maps = [task.heatmap_logits for task in output.head.tasks] + [output.features.fused]
        total = sum(part.square().sum() for part in maps)
    total.backward()
    gradients = {f"gradient {name}": p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {**gradients, **model.state_dict(), "random": torch.rand(3)}, sum(kept.values())


@pytest.mark.parametrize("kind", ["resnet", "swin"])
@pytest.mark.parametrize("parts", [("backbone",), ("decoder",), PARTS], ids=",".join)
def test_recomputing_changes_nothing_but_what_is_kept(kind, parts):
    model = detector(kind)
    again = copy.deepcopy(model)
    recompute(again, parts)
    expected, kept = run(model)
    results, fewer = run(again)
    assert results.keys() == expected.keys()
    assert all(results[name].equal(expected[name]) for name in expected)
    assert fewer < kept
    assert any("running_mean" in name and tensor.any() for name, tensor in results.items())


@pytest.mark.parametrize("kind", ["resnet", "swin"])
def test_blocks_cover_every_part_once(kind):
    model = detector(kind)
    for part in (model.camera.backbone, model.decoder, model.head):
        blocks = list(blocks_of(part))
        inside = [id(module) for block in blocks for module in block.modules()]
        assert len(inside) == len(set(inside))
        assert not any(isinstance(block, nn.ModuleList | nn.ModuleDict) for block in blocks)


def test_detectors_without_a_camera_are_left_as_they_are():
    model = build_detector(tiny_config(("lidar",)), TINY_DATA)
    recompute(model, ("backbone", "neck"))
    assert model.camera is None
