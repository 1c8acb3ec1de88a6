"""Fusers, BEV decoder, head."""

import torch
from golden_cases import GoldenCase, load_case, load_published, our_key, relative_error

from crkd_core.config.models import DecoderConfig
from crkd_core.models.decoder import Decoder
from crkd_core.models.fuser import ConvFuser, GatedFuser
from crkd_core.models.head import CenterHead


def assert_training_agrees(module: torch.nn.Module, case: GoldenCase, published_prefix: str, our_prefix: str) -> None:
    """Parameter gradients and running statistics after one recorded training step."""
    for key, expected in case.under("grad/param/").items():
        ours = our_key(published_prefix + key).removeprefix(our_prefix)
        assert relative_error(module.get_parameter(ours).grad, expected) < 1e-3
    for key, expected in case.under("out_train_state/").items():
        ours = our_key(published_prefix + key).removeprefix(our_prefix)
        assert relative_error(module.get_buffer(ours), expected) < 1e-4


def test_gated_fuser_agrees_with_published():
    case = load_case("gatedfuser")
    fuser = GatedFuser(6, 10, 12)
    load_published(fuser, case.under("param/"), "fuser.", "fuser.")
    names = ("gated_1", "gated_2", "after_relu")
    with torch.no_grad():
        for name, out in zip(names, fuser.eval()(case["in/camera"], case["in/other"]), strict=True):
            assert relative_error(out, case[f"out/{name}"]) < 1e-4
    camera, other = case["in/camera"].requires_grad_(), case["in/other"].requires_grad_()
    outputs = fuser.train()(camera, other)
    for name, out in zip(names, outputs, strict=True):
        assert relative_error(out, case[f"out_train/{name}"]) < 1e-4
    sum((out * case[f"in/cotangent_{name}"]).sum() for name, out in zip(names, outputs, strict=True)).backward()
    assert relative_error(camera.grad, case["grad/camera"]) < 1e-3
    assert relative_error(other.grad, case["grad/other"]) < 1e-3
    assert_training_agrees(fuser, case, "fuser.", "fuser.")


def test_conv_fuser_agrees_with_published():
    case = load_case("convfuser")
    fuser = ConvFuser(6, 10, 12).eval()
    load_published(fuser, case.under("param/"), "fuser.", "fuser.")
    camera, points, fused = fuser(case["in/camera"], case["in/other"])
    assert relative_error(fused, case["out/after_relu"]) < 1e-4
    assert torch.equal(camera, case["in/camera"])
    assert torch.equal(points, case["in/other"])


def test_decoder_agrees_with_published():
    case = load_case("decoder_resnet_lssfpn")
    decoder = Decoder(8, DecoderConfig(channels=(6, 8, 10), out_channels=8)).eval()
    load_published(decoder, case.under("param/"), "decoder.", "decoder.")
    with torch.no_grad():
        assert relative_error(decoder(case["in/x"]), case["out/neck"]) < 1e-4
    x = case["in/x"].requires_grad_()
    out = decoder.train()(x)
    assert relative_error(out, case["out_train/0"]) < 1e-4
    (out * case["in/cotangent0"]).sum().backward()
    assert relative_error(x.grad, case["grad/x0"]) < 1e-3
    assert_training_agrees(decoder, case, "decoder.", "decoder.")


def test_head_agrees_with_published():
    case = load_case("head_forward")
    head = CenterHead(16, 12, 8, -2.19).eval()
    load_published(head, case.under("param/"), "heads.object.", "head.")
    for ours, expected in zip(head(case["in/x"]).tasks, case.head("out/").tasks, strict=True):
        assert relative_error(ours.regression, expected.regression) < 1e-4
        assert relative_error(ours.heatmap_logits, expected.heatmap_logits) < 1e-4


def test_heatmap_bias_is_applied():
    head = CenterHead(8, 8, 8, -3.5)
    for task in head.tasks:
        assert (task.maps["heatmap_logits"][-1].bias == -3.5).all()
        assert (task.maps["offset"][-1].bias != -3.5).all()
