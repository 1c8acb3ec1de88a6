"""Fusers, BEV decoders, image pyramids and image backbones."""

import torch
from torch import Tensor, nn

from crkd_core.config.models import FuserConfig
from crkd_core.models.backbones import build_backbone
from crkd_core.models.backbones.swin import SwinTransformer
from crkd_core.models.decoder import build_decoder
from crkd_core.models.fuser import build_fuser
from crkd_core.models.necks import build_neck
from tests.parity.comparison import Comparison
from tests.parity.parts import Part, check_outputs, check_training, leaves
from tests.parity.released import backbone_config, decoder_config, neck_config, second_config


def run_fuser(comparison: Comparison) -> None:
    """Gated or plain, in evaluation and training mode."""
    case = comparison.case
    kind = "gated" if case.config["type"] == "GatedFuser" else "conv"
    module = build_fuser(FuserConfig(kind=kind, channels=case.config["out_channels"]), *case.config["in_channels"])
    part = Part(module, "fuser", "fuser").load(case.under("param/"))

    def fuse(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        camera, points, fused = module(inputs["camera"], inputs["other"])
        outputs = {"after_relu": fused}
        if kind == "gated":
            outputs |= {"gated_1": camera, "gated_2": points}
        return outputs

    inputs = {name: case[f"in/{name}"] for name in ("camera", "other")}
    module.eval()
    check_outputs(comparison, _with_rectified(comparison, fuse(inputs), "out/"))
    if case.keys("out_train/") or case.keys("grad/"):
        module.train()
        inputs = leaves(inputs)
        outputs = fuse(inputs)
        check_outputs(comparison, _with_rectified(comparison, outputs, "out_train/"), "out_train/")
        check_training(comparison, part, inputs, outputs)


def _with_rectified(comparison: Comparison, outputs: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    if f"{prefix}before_relu" not in comparison.case:
        return outputs
    comparison.rule("as-rectified")
    return outputs | {"before_relu": outputs["after_relu"]}


def run_decoder(comparison: Comparison) -> None:
    """The residual decoder or SECOND with its pyramid: every stage and the result."""
    case = comparison.case
    settings = case.config
    residual = "blocks" in settings
    config = decoder_config(settings, settings["neck"]) if residual else second_config(settings)
    module = build_decoder(settings["in_channels"], config)
    part = Part(module, "decoder", "decoder").load(case.under("param/"))
    stages = module.stages if residual else module.blocks
    seen = record_outputs(stages)
    module.eval()
    outputs = {"neck": module(case["in/x"])}
    check_outputs(comparison, outputs | {f"stage{index}": stage for index, stage in enumerate(seen)})
    _train(comparison, part, {"x0": case["in/x"]}, lambda inputs: [module(inputs["x0"])])


def run_neck(comparison: Comparison) -> None:
    """An image pyramid; of the LSS-style one also the middle level, which our model does not return."""
    case = comparison.case
    module = build_neck(neck_config(case.config), tuple(case.config["in_channels"]))
    part = Part(module, "encoders.camera.neck", "camera.neck").load(case.under("param/"))
    seen = record_outputs([module.smooth_middle]) if hasattr(module, "smooth_middle") else []

    def merge(inputs: dict[str, Tensor]) -> list[Tensor]:
        seen.clear()
        return [module(tuple(inputs.values())), *seen]

    inputs = {f"x{index}": x for index, x in enumerate(case.series("in/x"))}
    module.eval()
    check_outputs(comparison, {str(index): out for index, out in enumerate(merge(inputs))})
    _train(comparison, part, inputs, merge)


def run_backbone(comparison: Comparison) -> None:
    """A ResNet or Swin Transformer in evaluation mode."""
    case = comparison.case
    config = backbone_config(case.config)
    module = build_backbone(config).eval()
    state = case.under("param/")
    if not isinstance(module, SwinTransformer):
        Part(module, "encoders.camera.backbone", "camera.backbone").load(state, case.config.get("left_out", ()))
        maps = list(enumerate(module(case["in/x"])))
    else:
        maps = _swin_maps(comparison, module, state)
    out_indices = case.config["out_indices"]
    chosen = [stage_map for stage, stage_map in maps if stage in out_indices]
    check_outputs(comparison, {str(index): stage_map for index, stage_map in enumerate(chosen)})


def _swin_maps(comparison: Comparison, module: SwinTransformer, state: dict[str, Tensor]) -> list[tuple[int, Tensor]]:
    """The map of every stage; norms that the case does not have are neutral."""
    case = comparison.case
    for key in [key for key in state if key.endswith("relative_position_index")]:
        positions = module.stages[0][0].attention.relative_position_index
        comparison.require(
            f"param/{key}", torch.equal(positions, state[key]), "relative positions are counted differently"
        )
    first_norm = [state.pop(f"norm0.{name}", None) for name in ("weight", "bias")]
    for stage, norm in enumerate(module.norms, start=1):
        for name, tensor in norm.state_dict().items():
            state.setdefault(f"norm{stage}.{name}", tensor)
    Part(module, "encoders.camera.backbone", "camera.backbone").load(state, case.config.get("left_out", ()))
    seen = record_outputs([module.stages[0]])
    maps = list(enumerate(module(case["in/x"]), start=1))
    weight, bias = first_norm
    if weight is not None:
        comparison.rule("first-norm")
        first = nn.functional.layer_norm(seen[0], weight.shape, weight, bias)
        maps.insert(0, (0, first.permute(0, 3, 1, 2)))
    return maps


def record_outputs(modules: nn.ModuleList | list[nn.Module]) -> list[Tensor]:
    """A list that the outputs of these modules are appended to, call by call."""
    seen: list[Tensor] = []
    for module in modules:
        module.register_forward_hook(lambda module, inputs, output: seen.append(output))
    return seen


def _train(comparison: Comparison, part: Part, inputs: dict[str, Tensor], call) -> None:
    case = comparison.case
    if not (case.keys("out_train/") or case.keys("grad/")):
        return
    part.module.train()
    inputs = leaves(inputs)
    outputs = {str(index): out for index, out in enumerate(call(inputs))}
    check_outputs(comparison, outputs, "out_train/")
    check_training(comparison, part, inputs, outputs)
