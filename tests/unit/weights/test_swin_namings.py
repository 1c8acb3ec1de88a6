"""One Swin Transformer under the names of four libraries: the same weights, proved by what they compute."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from crkd_core.config.models import ResNetConfig, SwinConfig
from crkd_core.errors import ConfigError
from crkd_core.models.backbones import build_backbone
from crkd_core.models.backbones.swin import PatchMerging, SwinTransformer, relative_position_index
from crkd_core.weights.backbones import import_backbone
from crkd_core.weights.recognise import Naming

SMALL = SwinConfig(embed_dims=8, depths=(2, 1, 1, 2), heads=(2, 2, 4, 4), window=4, drop_path=0.0)
NORMS = ("norms.0.weight", "norms.0.bias", "norms.1.weight", "norms.1.bias", "norms.2.weight", "norms.2.bias")


@pytest.fixture(scope="module")
def model() -> SwinTransformer:
    torch.manual_seed(0)
    model = build_backbone(SMALL)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def corners_first(merging: Tensor) -> Tensor:
    """A merging's input channels as the official code concatenates its tokens: (0, 0), (1, 0), (0, 1), (1, 1)."""
    channels = merging.shape[-1] // 4
    position = [
        4 * channel + 2 * row + column
        for row, column in ((0, 0), (1, 0), (0, 1), (1, 1))
        for channel in range(channels)
    ]
    return merging[..., position]


def block_name(rest: list[str], attention: str, first: str, second: str) -> str:
    changes = {"attention": attention, "mlp.0": first, "mlp.2": second}
    name = ".".join(rest)
    for before, after in changes.items():
        name = name.replace(before, after) if name.startswith(before) else name
    return name


def published_name(key: str, library: str) -> str:
    parts = key.split(".")
    number = int(parts[1]) if parts[1].isdigit() else None
    if library == "mmdet":
        names = {"patch_embedding": "patch_embed", "norms": f"norm{(number or 0) + 1}"}
        blocks = ("attn.w_msa", "ffn.layers.0.0", "ffn.layers.1")
        at = {"stages": "stages.{}.blocks.{}", "mergings": "stages.{}.downsample"}
    elif library == "torchvision":
        names = {"patch_embedding": "features.0", "projection": "0", "norm": "2"}
        blocks = ("attn", "mlp.0", "mlp.3")
        at = {"stages": "features.{odd}.{1}", "mergings": "features.{even}"}
    else:
        names = {"patch_embedding": "patch_embed", "projection": "proj", "norms": f"norm{(number or 0) + 1}"}
        blocks = ("attn", "mlp.fc1", "mlp.fc2")
        at = {"stages": "layers.{}.blocks.{}", "mergings": "layers.{later}.downsample"}
    counts = {"odd": 2 * (number or 0) + 1, "even": 2 * (number or 0) + 2}
    counts["later"] = (number or 0) + (library == "timm")
    if parts[0] == "stages":
        return f"{at['stages'].format(number, parts[2], **counts)}.{block_name(parts[3:], *blocks)}"
    if parts[0] == "mergings":
        return f"{at['mergings'].format(number, **counts)}.{'.'.join(parts[2:])}"
    if parts[0] == "norms":
        return f"{names['norms']}.{parts[2]}"
    return ".".join(names.get(part, part) for part in parts)


def published(model: SwinTransformer, library: str) -> dict[str, Tensor]:
    """The weights as a library saves those of a classifier (mmdetection: of a detector's backbone)."""
    state = {}
    for key, tensor in model.state_dict().items():
        if library != "mmdet" and key.startswith("norms."):
            continue
        reorder = key.startswith("mergings.") and library != "mmdet"
        state[published_name(key, library)] = corners_first(tensor) if reorder else tensor
    index = relative_position_index(SMALL.window)
    for key in [key for key in state if key.endswith("relative_position_bias_table")]:
        flat = index.flatten() if library == "torchvision" else index
        state[key.replace("bias_table", "index")] = flat
    if library == "mmdet":
        return {**state, "norm0.weight": torch.ones(8), "norm0.bias": torch.ones(8)}
    head = "head.fc" if library == "timm" else "head"
    classifier = {f"{head}.weight": torch.ones(10, 64), "norm.weight": torch.ones(64), "norm.bias": torch.ones(64)}
    mask = {"layers.0.blocks.1.attn_mask": torch.zeros(4, 16, 16)} if library == "official" else {}
    return {**state, **classifier, **mask}


NAMINGS: dict[str, Naming] = {
    "official": "official", "timm": "official", "torchvision": "torchvision", "mmdet": "mmdet"
}  # fmt: skip


@pytest.mark.parametrize("library", NAMINGS)
def test_the_same_weights_come_out_of_every_naming(model, library):
    imported = import_backbone(published(model, library), SMALL, NAMINGS[library])
    expected = model.state_dict()
    kept = [key for key in expected if library == "mmdet" or key not in NORMS]
    assert imported.weights.keys() == expected.keys()
    assert all(torch.equal(imported.weights[key], expected[key]) for key in kept)
    new = set(expected) - set(kept)
    assert {key: float(imported.weights[key].unique()) for key in new} == {
        key: float(key.endswith("weight")) for key in new
    }
    left_out = {"mmdet": "norm0 (2 tensors)"}.get(library, "head, norm (3 tensors)")
    assert imported.notes == (f"left out: {left_out}, which no image backbone of a detector has",)


def test_the_mergings_of_both_orders_compute_the_same():
    # Independently of the conversion: tokens are picked one by one, and multiplied with the published matrix.
    torch.manual_seed(1)
    model = build_backbone(SMALL)
    official = published(model, "official")
    x = torch.randn(1, 4, 6, 8)
    for naming, order in (("official", ((0, 0), (1, 0), (0, 1), (1, 1))), ("mmdet", None)):
        state = published(model, naming)
        at = "layers.0" if naming == "official" else "stages.0"
        gain, bias = (state[f"{at}.downsample.norm.{kind}"] for kind in ("weight", "bias"))
        matrix = state[f"{at}.downsample.reduction.weight"]
        expected = torch.empty(1, 2, 3, 16)
        for row in range(2):
            for column in range(3):
                if order:
                    tokens = torch.cat([x[0, 2 * row + down, 2 * column + right] for down, right in order])
                else:
                    patch = x[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].permute(0, 3, 1, 2)
                    tokens = F.unfold(patch, kernel_size=2)[0, :, 0]
                expected[0, row, column] = matrix @ F.layer_norm(tokens, (32,), gain, bias)
        merging = PatchMerging(8)
        weights = import_backbone(state, SMALL, naming).weights
        merging.load_state_dict({k.removeprefix("mergings.0."): t for k, t in weights.items() if "mergings.0." in k})
        assert torch.allclose(merging(x), expected, atol=1e-5)
    assert not torch.equal(official["layers.0.downsample.reduction.weight"], model.mergings[0].reduction.weight)


@pytest.mark.parametrize("library", NAMINGS)
def test_a_merging_of_another_width_is_refused(model, library):
    state = published(model, library)
    key = next(key for key in state if key.endswith("reduction.weight"))
    state[key] = state[key][:, :-1]
    with pytest.raises(ConfigError, match=r"1 of another shape \(.*reduction\.weight \(16, 31\) instead of \(16, 32\)"):
        import_backbone(state, SMALL, NAMINGS[library])


@pytest.mark.parametrize("library", NAMINGS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int32])
def test_relative_positions_are_compared_in_any_number_type(model, library, dtype):
    state = {k: t.to(dtype) if k.endswith("_index") else t for k, t in published(model, library).items()}
    assert import_backbone(state, SMALL, NAMINGS[library]).weights
    shifted = {k: t + 1 if k.endswith("_index") else t for k, t in state.items()}
    with pytest.raises(ConfigError, match="another window or numbering"):
        import_backbone(shifted, SMALL, NAMINGS[library])


def test_positions_that_claim_a_huge_table_are_not_touched(model):
    state = published(model, "official")
    state["layers.0.blocks.0.attn.relative_position_index"] = torch.tensor(1).expand(10**6, 10**6)
    with pytest.raises(ConfigError, match=r"found \(1000000, 1000000\)"):
        import_backbone(state, SMALL)


def test_another_size_says_how_to_configure_it(model):
    with pytest.raises(ConfigError, match="embed_dims 8 instead of 96, depths ") as caught:
        import_backbone(published(model, "official"), SwinConfig())
    values = "kind: swin, embed_dims: 8, depths: [2, 1, 1, 2], heads: [2, 2, 4, 4], window: 4"
    assert f"--set 'student.camera.backbone={{{values}}}'" in str(caught.value)
    resnet18 = build_backbone(ResNetConfig(block="basic", depths=(2, 2, 2, 2), width=8)).state_dict()
    with pytest.raises(ConfigError, match="block basic instead of bottleneck") as caught:
        import_backbone(resnet18, ResNetConfig())
    assert "{kind: resnet, block: basic, depths: [2, 2, 2, 2], width: 8}" in str(caught.value)


def test_absolute_positions_and_swin_v2_are_refused(model):
    state = published(model, "official")
    with pytest.raises(ConfigError, match=r"1 unexpected \(absolute_pos_embed\)"):
        import_backbone({**state, "absolute_pos_embed": torch.zeros(1, 64, 8)}, SMALL)
    with pytest.raises(ConfigError, match=r"1 unexpected \(layers\.0\.blocks\.0\.attn\.logit_scale\)"):
        import_backbone({**state, "layers.0.blocks.0.attn.logit_scale": torch.zeros(2, 1, 1)}, SMALL)
