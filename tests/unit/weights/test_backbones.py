"""Backbones of torchvision and of the official Swin Transformer."""

import pytest
import torch

from crkd_core.config.models import ResNetConfig, SwinConfig
from crkd_core.errors import ConfigError
from crkd_core.models.backbones import build_backbone
from crkd_core.models.backbones.swin import PatchMerging, relative_position_index
from crkd_core.weights.backbones import backbone_shapes, import_backbone
from crkd_core.weights.naming import our_name
from tests.parity.cases import GoldenCase, load_case
from tests.support.published_models import random_state

NARROW = SwinConfig.model_construct(embed_dims=8, depths=(2, 2), heads=(2, 2), window=7, drop_path=0.0)


def official_swin(case: GoldenCase) -> dict[str, torch.Tensor]:
    """The recorded official state dict; its relative positions, noise in the record, as they really are."""
    positions = {
        key: relative_position_index(7) for key in case.under("in/") if key.endswith("relative_position_index")
    }
    assert len(positions) == 4
    return {**case.under("in/"), **positions}


def resnet_state() -> dict[str, torch.Tensor]:
    """What torchvision saves of a ResNet-50: our names, a classifier, and no batch counters in its older files."""
    shapes = {k: tuple(s) for k, s in backbone_shapes(ResNetConfig()).items() if not k.endswith("num_batches_tracked")}
    return random_state({**shapes, "fc.weight": (1000, 2048), "fc.bias": (1000,)})


def test_torchvision_resnet_loads_directly():
    state = resnet_state()
    assert sum(tensor.numel() for key, tensor in state.items() if "running" not in key) == 25_557_032
    model = build_backbone(ResNetConfig())
    model.load_state_dict(import_backbone(state, ResNetConfig()).weights)
    assert torch.equal(model.get_parameter("layer3.5.conv2.weight"), state["layer3.5.conv2.weight"])
    assert torch.equal(
        model.get_buffer("layer4.0.downsample.1.running_var"), state["layer4.0.downsample.1.running_var"]
    )


def test_another_resnet_is_refused():
    state = resnet_state()
    del state["layer3.5.conv2.weight"]
    with pytest.raises(ConfigError, match=r"1 missing \(layer3\.5\.conv2\.weight\)"):
        import_backbone(state, ResNetConfig())


def test_official_swin_is_converted_as_published():
    case = load_case("swin_checkpoint_convert")
    weights = import_backbone(official_swin(case), NARROW).weights
    prefix = "camera.backbone."
    expected = {
        our_name(f"encoders.{prefix}{key.removeprefix('backbone.')}").removeprefix(prefix): tensor
        for key, tensor in case.under("out/").items()
        if "relative_position_index" not in key and not key.startswith("backbone.norm.")
    }
    new = {key for key in weights if key.startswith("norms.")}
    assert weights.keys() - new == expected.keys()
    assert all(torch.equal(weights[key], tensor) for key, tensor in expected.items())
    assert {key: float(weights[key].unique()) for key in new} == {"norms.0.weight": 1.0, "norms.0.bias": 0.0}
    build_backbone(NARROW).load_state_dict(weights)


def test_converted_merging_computes_what_the_official_one_does():
    case = load_case("swin_checkpoint_convert")
    official = case.under("in/layers.0.downsample.")
    merging = PatchMerging(8)
    converted = import_backbone(official_swin(case), NARROW).weights
    merging.load_state_dict(
        {k.removeprefix("mergings.0."): t for k, t in converted.items() if k.startswith("mergings.0.")}
    )
    x = torch.randn(2, 6, 4, 8, generator=torch.Generator().manual_seed(0))
    corners = torch.cat([x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]], dim=-1)
    normed = torch.nn.functional.layer_norm(corners, (32,), official["norm.weight"], official["norm.bias"])
    assert torch.allclose(merging(x), normed @ official["reduction.weight"].T, atol=1e-5)


def test_official_swin_of_another_window_or_with_strange_tensors_is_refused():
    official = official_swin(load_case("swin_checkpoint_convert"))
    state = {**official, "layers.0.blocks.0.attn.relative_position_index": relative_position_index(8)}
    with pytest.raises(ConfigError, match="another window or numbering"):
        import_backbone(state, NARROW)
    state = {**official, "absolute_pos_embed": torch.zeros(1)}
    with pytest.raises(ConfigError, match=r"1 unexpected \(absolute_pos_embed\)"):
        import_backbone(state, NARROW)
    masked = {**official, "layers.0.blocks.1.attn_mask": torch.zeros(1)}
    assert import_backbone(masked, NARROW).weights.keys() == import_backbone(official, NARROW).weights.keys()
