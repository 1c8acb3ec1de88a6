"""Image backbone and necks."""

import pytest
import torch
from golden_cases import load_case, load_published, relative_error

from crkd_core.config.models import CameraNeckConfig, ResNetConfig
from crkd_core.errors import ConfigError
from crkd_core.models.necks import LSSFPN, SecondFPN, build_neck
from crkd_core.models.resnet import ResNet


def test_resnet_agrees_with_published():
    case = load_case("resnet50_narrow")
    model = ResNet(ResNetConfig(width=6)).eval()
    model.load_state_dict(case.under("param/"))
    with torch.no_grad():
        stages = model(case["in/x"])
    for index, stage in enumerate(stages):
        assert relative_error(stage, case[f"out/{index}"]) < 1e-4


@pytest.mark.parametrize(("name", "neck"), [
    ("neck_secondfpn_camera", lambda: SecondFPN((6, 8, 10, 12), 20)),
    ("neck_generalized_lssfpn", lambda: LSSFPN((6, 8, 10), 7)),
])  # fmt: skip
def test_neck_agrees_with_published(name, neck):
    case = load_case(name)
    state = case.under("param/")
    if "lss" in name:
        # The second output of the published pyramid is never used; ours does not compute it apart.
        case.arrays["in/cotangent1"][:] = 0
    model = neck().eval()
    load_published(model, state, "encoders.camera.neck.", "camera.neck.")
    with torch.no_grad():
        assert relative_error(model(tuple(case.list("in/x"))), case["out/0"]) < 1e-4
    model.train()
    out = model(tuple(case.list("in/x")))
    assert relative_error(out, case["out_train/0"]) < 1e-4


def test_second_fpn_gradients_agree_with_published():
    case = load_case("neck_secondfpn_camera")
    model = SecondFPN((6, 8, 10, 12), 20)
    load_published(model, case.under("param/"), "encoders.camera.neck.", "camera.neck.")
    inputs = [x.requires_grad_() for x in case.list("in/x")]
    (model(tuple(inputs)) * case["in/cotangent0"]).sum().backward()
    for x, expected in zip(inputs, case.list("grad/x"), strict=True):
        assert relative_error(x.grad, expected) < 1e-3
    gradients = {f"deblocks.{k.removeprefix('branches.')}": p.grad for k, p in model.named_parameters()}
    for key, expected in case.under("grad/param/").items():
        assert relative_error(gradients[key], expected) < 1e-3
    for key, expected in case.under("out_train_state/").items():
        running = model.get_buffer(key.replace("deblocks", "branches"))
        assert relative_error(running, expected) < 1e-4


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_resnet_has_the_usual_strides_and_names(block):
    model = ResNet(ResNetConfig(width=4, block=block, depths=(1, 2, 1, 1)))
    stages = model(torch.rand(1, 3, 64, 96))
    assert [tuple(s.shape[2:]) for s in stages] == [(16, 24), (8, 12), (4, 6), (2, 3)]
    assert tuple(s.shape[1] for s in stages) == model.out_channels
    assert {"conv1.weight", "bn1.running_mean", "layer2.0.downsample.0.weight"} <= set(model.state_dict())


def test_neck_of_uneven_width_is_refused():
    with pytest.raises(ConfigError, match="multiple of 4"):
        build_neck(CameraNeckConfig(channels=18), (4, 8, 16, 32))
