"""Names of a published detector's tensors, in the released code and in this package.

A rule is a pair of patterns, the published and that of this package; ``*`` stands for one component of a dotted name,
a last ``**`` for the rest of it. The first rule that matches renames, in either direction.
"""

import re
from collections.abc import Iterable
from functools import cache

from crkd_core.models.box_coder import BoxCode

_CAMERA = "encoders.camera"
_RADAR = "encoders.radar.backbone"
_LIDAR = "encoders.lidar.backbone"
_PUBLISHED_BOX_CODE = BoxCode(offset="reg", height="height", log_size="dim", rotation="rot", velocity="vel")
_HEAD_MAPS = {published: name for name, published in vars(_PUBLISHED_BOX_CODE).items()} | {"heatmap": "heatmap_logits"}
_LSS_FPN = {
    "lateral_convs.0": "lateral_fine",
    "lateral_convs.1": "lateral_middle",
    "fpn_convs.0": "smooth_fine",
    "fpn_convs.1": "smooth_middle",
}
_CONV_NORM = {"conv": "0", "bn": "1"}

_SWIN = [
    ("patch_embed.**", "patch_embedding.**"),
    ("stages.*.blocks.*.attn.w_msa.**", "stages.*.*.attention.**"),
    ("stages.*.blocks.*.ffn.layers.0.0.**", "stages.*.*.mlp.0.**"),
    ("stages.*.blocks.*.ffn.layers.1.**", "stages.*.*.mlp.2.**"),
    ("stages.*.blocks.*.**", "stages.*.*.**"),
    ("stages.*.downsample.**", "mergings.*.**"),
    *((f"norm{stage}.**", f"norms.{stage - 1}.**") for stage in (1, 2, 3)),
]
_RULES: list[tuple[str, str]] = [
    *((f"{_CAMERA}.backbone.{published}", f"camera.backbone.{name}") for published, name in _SWIN),
    # ResNets have torchvision's names in both.
    (f"{_CAMERA}.backbone.**", "camera.backbone.**"),
    (f"{_CAMERA}.neck.deblocks.**", "camera.neck.branches.**"),
    *(
        (f"{_CAMERA}.neck.{layer}.{published}.**", f"camera.neck.{our_layer}.{name}.**")
        for layer, our_layer in _LSS_FPN.items()
        for published, name in _CONV_NORM.items()
    ),
    (f"{_CAMERA}.vtransform.dtransform.**", "camera.view_transform.depth_encoder.**"),
    (f"{_CAMERA}.vtransform.depthnet.**", "camera.view_transform.depth_net.**"),
    (f"{_CAMERA}.vtransform.downsample.**", "camera.view_transform.downsample.**"),
    (f"{_RADAR}.pts_voxel_encoder.rfn_layers.**", "radar.pillar_net.layers.**"),
    # Three times convolution, norm and ReLU in one row there, nested here.
    *(
        (f"{_RADAR}.caliber.{3 * layer + part}.**", f"radar.calibration.{layer}.{part}.**")
        for layer in range(3)
        for part in range(2)
    ),
    (f"{_RADAR}.distill_activation_head.**", "radar.activation.**"),
    *(
        (f"{_LIDAR}.{published}.{part}.**", f"lidar.encoder.{module}.{name}.**")
        for published, module in {"conv_input": "stem", "conv_out": "out"}.items()
        for part, name in enumerate(("conv", "norm"))
    ),
    *(
        (f"{_LIDAR}.encoder_layers.encoder_layer{stage + 1}.*.{published}", f"lidar.encoder.stages.{stage}.*.{name}")
        for stage in range(4)
        for published, name in (
            ("0.**", "conv.**"),
            ("1.**", "norm.**"),
            ("bn1.**", "norm1.**"),
            ("bn2.**", "norm2.**"),
            ("conv1.**", "conv1.**"),
            ("conv2.**", "conv2.**"),
        )
    ),
    ("fuser.input_conv_sensor_1.**", "fuser.camera_gate.**"),
    ("fuser.input_conv_sensor_2.**", "fuser.points_gate.**"),
    ("fuser.output_fuser_conv_norm.**", "fuser.fuse.**"),
    # The plain fuser is a bare sequence there.
    *((f"fuser.{layer}.**", f"fuser.conv.{layer}.**") for layer in range(2)),
    # Before the rule for residual decoders, which would match too.
    ("decoder.backbone.blocks.**", "decoder.blocks.**"),
    ("decoder.neck.deblocks.**", "decoder.branches.**"),
    ("decoder.backbone.**", "decoder.stages.**"),
    ("decoder.neck.fuse.**", "decoder.merge.**"),
    # The published sequence begins with the upsampling, which has no weights.
    ("decoder.neck.upsample.1.**", "decoder.refine.0.**"),
    ("decoder.neck.upsample.2.**", "decoder.refine.1.**"),
    *((f"heads.object.shared_conv.{published}.**", f"head.shared.{name}.**") for published, name in _CONV_NORM.items()),
    *(
        (f"heads.object.task_heads.*.{published}.{layer}.**", f"head.tasks.*.maps.{name}.{our_layer}.**")
        for published, name in _HEAD_MAPS.items()
        for layer, our_layer in (("0.conv", "0"), ("0.bn", "1"), ("1", "3"))
    ),
]
_ADAPTERS = [("fused_feat_affinity_loss.adapt_modules.*.conv_channel_layer.**", "adapters.*.**")]


def our_name(published: str) -> str | None:
    """Our state-dict key of a published detector's; None where no rule matches."""
    return _rename(published, _compiled(tuple(_RULES)))


def published_name(name: str) -> str | None:
    """The published key of one of our detector's; None where no rule matches."""
    return _rename(name, _compiled(_swapped(_RULES)))


def our_adapter_name(published: str) -> str | None:
    """Key of a RelD adapter in our ``DistillationObjective``; None where it is not one."""
    return _rename(published, _compiled(tuple(_ADAPTERS)))


def published_adapter_name(name: str) -> str | None:
    """The inverse of :func:`our_adapter_name`."""
    return _rename(name, _compiled(_swapped(_ADAPTERS)))


def _swapped(rules: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple((name, published) for published, name in rules)


@cache
def _compiled(rules: tuple[tuple[str, str], ...]) -> list[tuple[re.Pattern[str], str]]:
    return [(_pattern(before), _template(after)) for before, after in rules]


def _pattern(rule: str) -> re.Pattern[str]:
    parts = {"*": r"([^.]+)", "**": r"(.+)"}
    return re.compile(r"\.".join(parts.get(part) or re.escape(part) for part in rule.split(".")))


def _template(rule: str) -> str:
    return ".".join("{}" if part.startswith("*") else part for part in rule.split("."))


def _rename(name: str, rules: list[tuple[re.Pattern[str], str]]) -> str | None:
    for pattern, template in rules:
        match = pattern.fullmatch(name)
        if match:
            return template.format(*match.groups())
    return None
