"""Published detectors: their state dicts to ours and back, tensor by tensor.

Besides trained weights a published state dict holds constants: the view transform's grid (``dx``, ``bx``, ``nx``,
``frustum``) and Swin's relative positions. Ours are computed from the configuration; an imported file's are compared
with them, so that weights for another grid or image size are refused.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from crkd_core.config.data import DataConfig
from crkd_core.config.description import DatasetDescription
from crkd_core.config.models import DetectorConfig, ResNetConfig, SwinConfig
from crkd_core.errors import ConfigError, UsageError
from crkd_core.models.backbones.swin import relative_position_index
from crkd_core.models.detector import build_detector
from crkd_core.models.view_transform import make_frustum
from crkd_core.weights.matching import StateDict, agrees, listed, match_tensors
from crkd_core.weights.naming import our_adapter_name, our_name, published_adapter_name, published_name

SparseLayout = Literal["spconv1", "spconv2"]

_MODULES = ("encoders", "fuser", "decoder", "heads")
_STUDENT = "_student"
_VIEW = "encoders.camera.vtransform"
_POSITIONS = "attn.w_msa.relative_position_index"
_CLASS_LOGITS = re.compile(r"heads\.object\.task_heads\.\d+\.heatmap\.1\.bias")


@dataclass(frozen=True)
class DistillerParts:
    """A published distiller taken apart.

    Attributes:
        teacher, student: published detector state dicts, the student's without its suffix.
        adapters: RelD adapters under the names of our ``DistillationObjective``.
    """

    teacher: StateDict
    student: StateDict
    adapters: StateDict


def split_distiller(state: Mapping[str, Tensor]) -> DistillerParts:
    """Take a distiller's state dict apart.

    Raises:
        ConfigError: it holds something else besides teacher, student and adapters.
    """
    parts = DistillerParts({}, {}, {})
    strange = []
    for key, tensor in state.items():
        module, _, rest = key.partition(".")
        adapter = our_adapter_name(key)
        if adapter is not None:
            parts.adapters[adapter] = tensor
        elif module in _MODULES:
            parts.teacher[key] = tensor
        elif module.removesuffix(_STUDENT) in _MODULES:
            parts.student[f"{module.removesuffix(_STUDENT)}.{rest}"] = tensor
        else:
            strange.append(key)
    if strange:
        raise ConfigError(
            f"the file is no CRKD distiller: {len(strange)} of its tensors belong to neither teacher, student nor "
            f"relation adapters, such as {', '.join(strange[:3])}"
        )
    return parts


def join_distiller(parts: DistillerParts) -> StateDict:
    """The inverse of :func:`split_distiller`."""
    joined = dict(parts.teacher)
    for key, tensor in parts.student.items():
        module, _, rest = key.partition(".")
        joined[f"{module}{_STUDENT}.{rest}"] = tensor
    return joined | {published_adapter_name(key) or key: tensor for key, tensor in parts.adapters.items()}


def import_detector(
    state: Mapping[str, Tensor], detector: DetectorConfig, data: DataConfig, description: DatasetDescription
) -> StateDict:
    """Our state dict of a published detector's, in the order of ours.

    Sparse convolution weights may have the layout of spconv 1 (as ours) or 2, recognised by their shape.

    Raises:
        ConfigError: tensors are missing, unexpected or of another shape than the configuration's, or the file's grid,
            frustum or window is another than the configuration's; says how many and which.
        UsageError: its head tells other classes apart, or its weights are not finite floating-point numbers.
    """
    expected = detector_shapes(detector, data, description)
    _check_classes(state, expected, description.text_name)
    constants = published_constants(detector, data)
    published = {key: tensor for key, tensor in state.items() if key not in constants}
    names = {key: our_name(key) or key for key in published}
    expected_names = {name: published_name(name) or name for name in expected}
    weights = match_tensors(
        {names[key]: _with_our_layout(tensor, expected.get(names[key])) for key, tensor in published.items()},
        expected,
        shown_as=expected_names | {name: key for key, name in names.items()},
        also_missing=[key for key in constants if key not in state],
    )
    _check_constants(state, constants)
    return weights


def export_detector(
    weights: Mapping[str, Tensor], detector: DetectorConfig, data: DataConfig, layout: SparseLayout = "spconv1"
) -> StateDict:
    """The published state dict of a detector: the inverse of :func:`import_detector`.

    Raises:
        ConfigError: the published models have no part for some of its tensors.
    """
    exported, unknown = {}, []
    for name, tensor in weights.items():
        published = published_name(name)
        if published is None:
            unknown.append(name)
            continue
        sparse = tensor.dim() == 5 and layout == "spconv2"
        exported[published] = tensor.permute(4, 0, 1, 2, 3).contiguous() if sparse else tensor
    if unknown:
        raise ConfigError(f"the published models have no part for {listed('of its tensors', unknown)}")
    return exported | published_constants(detector, data)


def check_exportable(detector: DetectorConfig) -> None:
    """The published format can hold such a detector.

    Raises:
        ConfigError: it has another set of sensors or another image backbone than a published one.
    """
    if len(detector.modalities) != 2 or "camera" not in detector.modalities:
        raise ConfigError(
            "a published detector has a camera with LiDAR or radar, and this one has "
            f"{' and '.join(detector.modalities)}"
        )
    backbone = detector.camera.backbone
    if not isinstance(backbone, ResNetConfig | SwinConfig):
        raise ConfigError(f"a published detector has a resnet or swin image backbone, and this one has {backbone.kind}")


def lost_settings(detector: DetectorConfig) -> list[str]:
    """Settings, beside the weights, that change what a detector computes and that the released code has not."""
    lost = []
    if "lidar" in detector.modalities and set(detector.lidar.feature_scales) != {1.0}:
        lost.append(f"lidar.feature_scales={list(detector.lidar.feature_scales)}")
    if "radar" in detector.modalities and detector.radar.padding != "released":
        lost.append(f"radar.padding={detector.radar.padding}")
    if "radar" in detector.modalities and detector.radar.calibration and detector.radar.calibration_residual:
        lost.append("radar.calibration_residual=true")
    return lost


def detector_shapes(
    detector: DetectorConfig, data: DataConfig, description: DatasetDescription
) -> dict[str, torch.Size]:
    """Names and shapes of our detector's state dict, without allocating it."""
    columns = description.radar_points.feature_columns
    with torch.device("meta"):
        built = build_detector(detector, data, description.head_tasks, radar_features=columns)
    return {name: tensor.shape for name, tensor in built.state_dict().items()}


def published_constants(detector: DetectorConfig, data: DataConfig) -> StateDict:
    """What a published state dict holds besides weights, computed from our configuration.

    The published view transform truncates where ours floors, so that one cell more below the lower borders falls into
    the first one. In z, where there is a single cell, this doubles the pooled range: ``z_range_m`` says what is
    really pooled, and the published constants half of it.
    """
    if "camera" not in detector.modalities:
        return {}
    view, image = detector.camera.view_transform, data.image
    cell = data.grid.cell_m / view.downsample
    ranges = (data.grid.x_range_m, data.grid.y_range_m)
    height = (view.z_range_m[1] - view.z_range_m[0]) / 2
    depth_bins = round((view.depth_range_m[1] - view.depth_range_m[0]) / view.depth_step_m)
    constants = {
        f"{_VIEW}.dx": torch.tensor([cell, cell, height]),
        f"{_VIEW}.bx": torch.tensor([*(lower + cell / 2 for lower, _ in ranges), view.z_range_m[1] - height / 2]),
        f"{_VIEW}.nx": torch.tensor([*(round((upper - lower) / cell) for lower, upper in ranges), 1]),
        f"{_VIEW}.frustum": make_frustum(
            view.depth_range_m[0] + view.depth_step_m * torch.arange(depth_bins),
            (image.height_px, image.width_px),
            (-(-image.height_px // 8), -(-image.width_px // 8)),
        ),
    }
    backbone = detector.camera.backbone
    if isinstance(backbone, SwinConfig):
        constants |= {
            f"encoders.camera.backbone.stages.{stage}.blocks.{block}.{_POSITIONS}": relative_position_index(
                backbone.window
            )
            for stage, depth in enumerate(backbone.depths)
            for block in range(depth)
        }
    return constants


def _check_classes(state: Mapping[str, Tensor], expected: Mapping[str, torch.Size], data_set: str) -> None:
    """Another number of classes says more than the many tensors that differ with it."""
    in_file = [state[key].shape[:1].numel() for key in sorted(state) if _CLASS_LOGITS.fullmatch(key)]
    names = {published_name(key) or key: shape for key, shape in expected.items()}
    in_head = [names[key].numel() for key in sorted(names) if _CLASS_LOGITS.fullmatch(key)]
    if in_file and in_file != in_head:
        raise UsageError(
            f"the file's head tells {sum(in_file)} classes apart, in tasks of {', '.join(map(str, in_file))}, and "
            f"crkd's the {sum(in_head)} of {data_set}, in tasks of {', '.join(map(str, in_head))}; of other classes "
            "only the image backbone can be imported, with --as backbone"
        )


def _check_constants(state: Mapping[str, Tensor], constants: Mapping[str, Tensor]) -> None:
    for key, expected in constants.items():
        constant = state[key]
        if not agrees(constant, expected):
            raise ConfigError(
                f"the file's {key} is not what the configuration makes it: expected {_summary(expected)}, "
                f"found {_summary(constant, expected.shape)}; set data.grid, data.image and camera.view_transform to "
                "those of its training (z_range_m: twice the height in dx, as the published code pools)"
            )


def _summary(tensor: Tensor, expected: torch.Size | None = None) -> str:
    # Values of a shape nobody asked for are not looked at: there may be any number of them.
    if tensor.is_complex() or expected not in (None, tensor.shape):
        return f"{tuple(tensor.shape)} of {str(tensor.dtype).removeprefix('torch.')}"
    if tensor.numel() <= 3:
        return str([round(float(value), 4) for value in tensor.flatten()])
    return f"{tuple(tensor.shape)} from {float(tensor.min()):g} to {float(tensor.max()):g}"


def _with_our_layout(tensor: Tensor, expected: torch.Size | None) -> Tensor:
    if expected is None or len(expected) != 5 or tensor.dim() != 5 or tensor.shape == expected:
        return tensor
    # spconv 2 keeps the output channels first.
    moved = tensor.permute(1, 2, 3, 4, 0)
    return moved.contiguous() if moved.shape == expected else tensor
