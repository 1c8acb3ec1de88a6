"""Backbones trained on ImageNet: torchvision's ResNets and the official Swin Transformers."""

from collections.abc import Mapping

import torch
from torch import Tensor

from crkd_core.config.models import ResNetConfig, SwinConfig
from crkd_core.errors import ConfigError
from crkd_core.models.backbones import build_backbone
from crkd_core.models.swin import relative_position_index
from crkd_core.weights.matching import StateDict, match_tensors

_CLASSIFIER = ("fc.", "head.")
_SWIN_NAMES = (
    ("patch_embed.proj.", "patch_embedding.projection."),
    ("patch_embed.norm.", "patch_embedding.norm."),
    (".blocks.", "."),
    (".attn.", ".attention."),
    (".mlp.fc1.", ".mlp.0."),
    (".mlp.fc2.", ".mlp.2."),
)


def import_backbone(state: Mapping[str, Tensor], config: ResNetConfig | SwinConfig) -> StateDict:
    """The state dict of our image backbone from a published classifier's; see the two functions below."""
    return import_swin(state, config) if isinstance(config, SwinConfig) else import_resnet(state, config)


def import_resnet(state: Mapping[str, Tensor], config: ResNetConfig) -> StateDict:
    """A torchvision ResNet without its classifier; the names are ours too.

    Raises:
        ConfigError: tensors are missing, unexpected or of another shape than the configuration's.
    """
    return match_tensors({k: t for k, t in state.items() if not k.startswith(_CLASSIFIER)}, backbone_shapes(config))


def import_swin(state: Mapping[str, Tensor], config: SwinConfig) -> StateDict:
    """An official Swin Transformer (such as swin_tiny_patch4_window7_224) without its classifier.

    The norms of the returned maps, which a classifier does not have, are new: weight 1 and bias 0.

    Raises:
        ConfigError: tensors are missing, unexpected or of another shape than the configuration's, or the relative
            positions are counted differently.
    """
    shapes = backbone_shapes(config)
    new_norms = [key for key in shapes if key.startswith("norms.")]
    converted = {key: torch.full(shapes[key], float(key.endswith("weight"))) for key in new_norms}
    names = {}
    for key, tensor in state.items():
        if key.startswith((*_CLASSIFIER, "norm.")) or key.endswith("attn_mask"):
            continue
        if key.endswith("relative_position_index"):
            _check_positions(key, tensor, config.window)
            continue
        ours = _our_swin_name(key)
        names[ours] = key
        converted[ours] = _in_unfold_order(tensor) if ".downsample." in key else tensor
    return match_tensors(converted, shapes, shown_as=names)


def backbone_shapes(config: ResNetConfig | SwinConfig) -> dict[str, torch.Size]:
    """Names and shapes of a backbone's state dict, without allocating it."""
    with torch.device("meta"):
        return {name: tensor.shape for name, tensor in build_backbone(config).state_dict().items()}


def _our_swin_name(key: str) -> str:
    if key.startswith("layers."):
        _, stage, rest = key.split(".", 2)
        merging = rest.startswith("downsample.")
        key = f"mergings.{stage}.{rest.removeprefix('downsample.')}" if merging else f"stages.{stage}.{rest}"
    for theirs, ours in _SWIN_NAMES:
        key = key.replace(theirs, ours)
    return key


def _in_unfold_order(merging: Tensor) -> Tensor:
    """Input channels of a patch merging: official (column, row, channel) to ours (channel, row, column)."""
    return merging.unflatten(-1, (2, 2, -1)).transpose(-1, -3).flatten(-3).contiguous()


def _check_positions(key: str, found: Tensor, window: int) -> None:
    expected = relative_position_index(window)
    if not torch.equal(found.long(), expected):
        raise ConfigError(
            f"the file's {key} is of another window or numbering: expected {tuple(expected.shape)} for a window of "
            f"{window}, found {tuple(found.shape)}; set camera.backbone.window"
        )
