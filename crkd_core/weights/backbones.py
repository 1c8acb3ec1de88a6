"""Image backbones trained elsewhere: ResNets, and Swin Transformers under the names of four libraries.

A patch merging reads its four tokens as (column, row, channel) in the official Swin Transformer, timm and torchvision,
and as (channel, row, column) in mmdetection and here. Its norm and its reduction are put in order with it.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from crkd_core.config.models import ResNetConfig, SwinConfig
from crkd_core.errors import ConfigError
from crkd_core.models.backbones import build_backbone
from crkd_core.models.backbones.swin import relative_position_index
from crkd_core.weights.matching import StateDict, agrees, match_tensors
from crkd_core.weights.naming import our_name
from crkd_core.weights.recognise import Naming

_CLASSIFIERS = ("fc.", "head.", "heads.", "classifier.")
_MASKS = "attn_mask"
_POSITIONS = "relative_position_index"
_OFFICIAL_SWIN = (
    ("patch_embed.proj.", "patch_embedding.projection."),
    ("patch_embed.norm.", "patch_embedding.norm."),
    (".blocks.", "."),
    (".attn.", ".attention."),
    (".mlp.fc1.", ".mlp.0."),
    (".mlp.fc2.", ".mlp.2."),
)
_AT = "camera.backbone."
_STAGE_NORM = re.compile(r"norm([0-3])\.(weight|bias)")


@dataclass(frozen=True)
class ImportedBackbone:
    """A published image backbone as ours.

    Attributes:
        weights: the state dict.
        notes: what of the file was left out, and what it had not.
    """

    weights: StateDict
    notes: tuple[str, ...] = ()


def import_backbone(
    state: Mapping[str, Tensor], config: ResNetConfig | SwinConfig, naming: Naming = "official"
) -> ImportedBackbone:
    """Our image backbone of a published one; see the two functions below.

    Args:
        naming: whose names a Swin Transformer has; timm's are the official ones.

    Raises:
        ConfigError: it is of another size than the configuration's, or its tensors do not fit.
    """
    if isinstance(config, SwinConfig):
        return import_swin(state, config, naming)
    return import_resnet(state, config)


def import_resnet(state: Mapping[str, Tensor], config: ResNetConfig) -> ImportedBackbone:
    """A ResNet as torchvision, timm and mmdetection name it, which is as we do, without its classifier.

    Raises:
        ConfigError: tensors are missing, unexpected or of another shape than the configuration's.
    """
    _check_size(_resnet_size(state), config)
    kept = {key: tensor for key, tensor in state.items() if not key.startswith(_CLASSIFIERS)}
    return ImportedBackbone(match_tensors(kept, backbone_shapes(config)), _left_out(state.keys() - kept.keys()))


def import_swin(state: Mapping[str, Tensor], config: SwinConfig, naming: Naming = "official") -> ImportedBackbone:
    """A Swin Transformer (such as swin_tiny_patch4_window7_224) without its classifier.

    The norms of the returned maps, which a classifier does not have, are new where the file lacks them: weight 1 and
    bias 0.

    Raises:
        ConfigError: tensors are missing, unexpected or of another shape than the configuration's, or the relative
            positions are counted differently.
    """
    shapes = backbone_shapes(config)
    # Merging stands at the end of a stage in the official names, and at the beginning of the next in timm's later ones.
    first = min((int(key.split(".")[1]) for key in state if re.match(r"layers\.\d+\.downsample\.", key)), default=0)
    converted: StateDict = {}
    names: dict[str, str] = {}
    left_out = set()
    for key, tensor in state.items():
        if key.endswith((_MASKS, _POSITIONS)):
            continue
        name = _our_swin_name(key, naming, first)
        if name is None:
            left_out.add(key)
            continue
        names[name] = key
        in_order = naming == "mmdet" or not name.startswith("mergings.") or tensor.shape != shapes.get(name)
        converted[name] = tensor if in_order else _in_unfold_order(tensor)
    _check_size(_swin_size(converted), config)
    for key, tensor in state.items():
        if key.endswith(_POSITIONS):
            _check_positions(key, tensor, config.window)
    new = [key for key in shapes if key.startswith("norms.") and key not in converted]
    converted |= {key: torch.full(shapes[key], float(key.endswith("weight"))) for key in new}
    return ImportedBackbone(match_tensors(converted, shapes, shown_as=names), _left_out(left_out))


def backbone_shapes(config: ResNetConfig | SwinConfig) -> dict[str, torch.Size]:
    """Names and shapes of a backbone's state dict, without allocating it."""
    with torch.device("meta"):
        return {name: tensor.shape for name, tensor in build_backbone(config).state_dict().items()}


def _our_swin_name(key: str, naming: Naming, first_merging: int) -> str | None:
    """Our key of a published one; None for what a feature extractor has not: the classifier and the norm before it."""
    if key.startswith((*_CLASSIFIERS, "norm.")):
        return None
    stage_norm = _STAGE_NORM.fullmatch(key)
    if stage_norm:
        level = int(stage_norm[1])
        return f"norms.{level - 1}.{stage_norm[2]}" if level else None
    if naming == "mmdet":
        return (our_name(f"encoders.{_AT}{key}") or key).removeprefix(_AT)
    if naming == "torchvision":
        return _from_torchvision(key)
    if key.startswith("layers."):
        _, stage, rest = key.split(".", 2)
        if rest.startswith("downsample."):
            key = f"mergings.{int(stage) - first_merging}.{rest.removeprefix('downsample.')}"
        else:
            key = f"stages.{stage}.{rest}"
    for official, name in _OFFICIAL_SWIN:
        key = key.replace(official, name)
    return key


def _from_torchvision(key: str) -> str:
    """There the patch embedding, and then stages and mergings in turn, are numbered as one sequence ``features``."""
    parts = key.split(".")
    if parts[0] != "features" or len(parts) < 4 or not parts[1].isdigit():
        return key
    number, rest = int(parts[1]), parts[2:]
    if number == 0:
        return ".".join(["patch_embedding", {"0": "projection", "2": "norm"}.get(rest[0], rest[0]), *rest[1:]])
    if number % 2 == 0:
        return ".".join(["mergings", str(number // 2 - 1), *rest])
    block = ".".join(rest).replace(".attn.", ".attention.").replace(".mlp.3.", ".mlp.2.")
    return f"stages.{number // 2}.{block}"


def _in_unfold_order(merging: Tensor) -> Tensor:
    """Input channels of a patch merging: official (column, row, channel) to ours (channel, row, column)."""
    quarters: Tensor = merging.unflatten(-1, (2, 2, -1))  # ... column row channel
    return quarters.transpose(-1, -3).flatten(-3).contiguous()


def _check_positions(key: str, positions: Tensor, window: int) -> None:
    expected = relative_position_index(window)
    # torchvision keeps them in one row.
    square = positions.reshape(expected.shape) if positions.shape == (expected.numel(),) else positions
    if not agrees(square, expected):
        raise ConfigError(
            f"the file's {key} is of another window or numbering: expected {tuple(expected.shape)} for a window of "
            f"{window}, found {tuple(positions.shape)}; set camera.backbone.window"
        )


def _resnet_size(state: Mapping[str, Tensor]) -> dict[str, object]:
    counts = [len({key.split(".")[1] for key in state if key.startswith(f"layer{stage}.")}) for stage in (1, 2, 3, 4)]
    block = "bottleneck" if any(key.startswith("layer1.0.conv3.") for key in state) else "basic"
    stem = state.get("conv1.weight")
    return {"block": block, "depths": counts, "width": stem.shape[0]} if stem is not None and stem.dim() == 4 else {}


def _swin_size(state: Mapping[str, Tensor]) -> dict[str, object]:
    tables = {key: state[key].shape for key in state if key.endswith(".0.attention.relative_position_bias_table")}
    embedding = state.get("patch_embedding.projection.weight")
    if (
        embedding is None
        or embedding.dim() != 4
        or len(tables) != 4
        or any(len(shape) != 2 for shape in tables.values())
    ):
        return {}
    stages = [tables[f"stages.{stage}.0.attention.relative_position_bias_table"] for stage in range(4)]
    depths = [len({key.split(".")[2] for key in state if key.startswith(f"stages.{stage}.")}) for stage in range(4)]
    return {
        "embed_dims": embedding.shape[0],
        "depths": depths,
        "heads": [shape[1] for shape in stages],
        "window": (math.isqrt(stages[0][0]) + 1) // 2,
    }


def _check_size(size: Mapping[str, object], config: ResNetConfig | SwinConfig) -> None:
    configured = config.model_dump(mode="json", include=set(size))
    different = {key: value for key, value in size.items() if configured[key] != value}
    if different:
        values = ", ".join(f"{key}: {value}" for key, value in size.items())
        differences = ", ".join(f"{key} {value} instead of {configured[key]}" for key, value in different.items())
        raise ConfigError(
            f"the file does not fit the configuration: its {config.kind} has {differences}; for that size add "
            f"--set 'student.camera.backbone={{kind: {config.kind}, {values}}}'"
        )


def _left_out(keys: set[str]) -> tuple[str, ...]:
    if not keys:
        return ()
    modules = sorted({key.partition(".")[0] for key in keys})
    count = f"{len(keys)} tensor{'s' * (len(keys) > 1)}"
    return (f"left out: {', '.join(modules)} ({count}), which no image backbone of a detector has",)
