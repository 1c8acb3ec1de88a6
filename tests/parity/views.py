"""View transforms."""

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from crkd_core.models.view_transform import ViewTransform, frustum_points, lidar_depth_image
from tests.parity.comparison import Comparison
from tests.parity.parts import Part, check_training, leaves
from tests.parity.released import rig_from_case, view_config, view_grid

# Downsampling: convolutions of 3 x 3 at stride 1, 2 and 1 see this far in the map before it.
_REACH, _STRIDE = 4, 2


def run_view_transform(comparison: Comparison) -> None:
    """Plain or depth-aware LSS: geometry, depth image, pooled map, result and gradients."""
    comparison.rule("truncate")
    case = comparison.case
    part = _build(comparison)
    module, augmentation = part.module, case["in/lidar_aug_matrix"]
    lidar = case.series("in/points") or None
    before = [points.clone() for points in lidar or []]
    _check_geometry(comparison, module, augmentation)
    if lidar is not None and "out/depth_image" in case:
        image = tuple(case.config["image_size"])
        comparison.check("out/depth_image", lidar_depth_image(lidar, rig_from_case(case), augmentation, image))

    pooled: list[Tensor] = []
    if module.downsample is not None:
        module.downsample.register_forward_pre_hook(lambda module, args: pooled.append(args[0]))

    def transform(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        pooled.clear()
        bev = module(inputs["img_feat"], rig_from_case(case), augmentation, lidar)
        return {"bev": bev, "bev_before_downsample": pooled[0] if pooled else bev}

    train_prefix = "out_train/" if case.keys("out_train/") else None
    module.eval()
    inputs = leaves({"img_feat": case["in/img_feat"]})
    outputs = transform(inputs)
    _check_maps(comparison, outputs, "out/")
    if train_prefix:
        module.train()
        inputs = leaves({"img_feat": case["in/img_feat"]})
        outputs = transform(inputs)
        _check_maps(comparison, outputs, train_prefix)
    if case.keys("grad/"):
        check_training(comparison, part, inputs, {"bev": outputs["bev"]})
    _check_callers_points(comparison, lidar or [], before, augmentation)


def unclear_cells(ambiguous: Tensor, downsampled: bool) -> Tensor:
    """(B, 1, X, Y) of the cells whose value hangs on pooled cells marked as ambiguous."""
    marked = ambiguous.bool()[:, None]
    if not downsampled:
        return marked
    return max_pool2d(marked.float(), 2 * _REACH + 1, stride=_STRIDE, padding=_REACH) > 0


def _build(comparison: Comparison) -> Part:
    settings = comparison.case.config
    depth_aware = bool(comparison.case.keys("param/dtransform."))
    config = view_config({"type": "DepthLSSTransform" if depth_aware else "LSSTransform", **settings})
    module = ViewTransform(
        settings["in_channels"],
        config,
        view_grid(settings),
        tuple(settings["image_size"]),
        tuple(settings["feature_size"]),
    )
    part = Part(module, "encoders.camera.vtransform", "camera.view_transform")
    return part.load(comparison.case.under("param/"))


def _check_geometry(comparison: Comparison, module: ViewTransform, augmentation: Tensor) -> None:
    case = comparison.case
    points = frustum_points(module.frustum, rig_from_case(case), augmentation)
    if "out/geom" in case:
        comparison.check("out/geom", points)
    if "out/geom_sample" in case:
        every = -(-points.shape[2] // case["out/geom_sample"].shape[2])
        comparison.check("out/geom_sample", points[:, :, ::every])
    if "param/frustum" in case:
        off = (module.frustum - case["param/frustum"]).abs().max()
        comparison.require("param/frustum", bool(off < 1e-3), "the frustum is another", float(off))


def _check_maps(comparison: Comparison, outputs: dict[str, Tensor], prefix: str) -> None:
    case = comparison.case
    ambiguous = next((case[key] for key in case.arrays if "ambiguous" in key), None)
    for name, value in outputs.items():
        key = f"{prefix}{name}"
        if key not in case:
            continue
        clear = None
        if ambiguous is not None and ambiguous.any():
            comparison.rule("ambiguous")
            downsampled = value.shape[2:] != ambiguous.shape[1:]
            clear = (~unclear_cells(ambiguous, downsampled)).expand(value.shape)
        comparison.check(key, value, where=clear)


def _check_callers_points(
    comparison: Comparison, lidar: list[Tensor], before: list[Tensor], augmentation: Tensor
) -> None:
    """Ours must not touch the points; the recorded ones are shifted by the augmentation's translation."""
    for index, (points, original) in enumerate(zip(lidar, before, strict=True)):
        key = f"out/points{index}_after_call"
        if key in comparison.case:
            comparison.rule("in-place")
            shifted = points.clone()
            shifted[:, :3] -= augmentation[index, :3, 3]
            comparison.check(key, shifted)
            comparison.require(key, torch.equal(points, original), "our module wrote to its caller's points")
