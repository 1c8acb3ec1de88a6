"""Published weights of single parts."""

import pytest
import torch

from crkd_core.config.models import DecoderConfig, ViewTransformConfig
from crkd_core.errors import ConfigError
from crkd_core.geometry.grid import BEVGrid
from crkd_core.models.decoder import build_decoder
from crkd_core.models.fuser import ConvFuser, GatedFuser
from crkd_core.models.view_transform import ViewTransform
from crkd_core.weights.naming import our_name, published_name
from crkd_core.weights.parts import import_part

GRID = BEVGrid((-4.8, 4.8), (-4.8, 4.8), (-5.0, 3.0), 0.6)


@pytest.mark.parametrize(
    ("module", "path"),
    [
        (GatedFuser(4, 6, 8), "fuser"),
        (ConvFuser(4, 6, 8), "fuser"),
        (build_decoder(8, DecoderConfig(channels=(6, 8, 10), out_channels=8)), "decoder"),
        (build_decoder(8, DecoderConfig(kind="second", channels=(6, 10), out_channels=8)), "decoder"),
    ],
)
def test_names_of_every_fuser_and_decoder_come_back(module, path):
    state = module.state_dict()
    published = {published_name(f"{path}.{key}").removeprefix(f"{path}."): value for key, value in state.items()}
    assert all(our_name(published_name(f"{path}.{key}")) == f"{path}.{key}" for key in state)
    back = import_part(published, module, path, path)
    assert list(back) == list(state)
    assert all(torch.equal(back[key], state[key]) for key in state)


def test_constants_are_left_out():
    view = ViewTransform(4, ViewTransformConfig(channels=3, depth_range_m=(1.0, 4.0)), GRID, (32, 64), (4, 8))
    published = {key.replace("depth_net", "depthnet"): value for key, value in view.state_dict().items()}
    constants = {name: torch.zeros(3) for name in ("dx", "bx", "nx", "frustum")}
    path = ("encoders.camera.vtransform", "camera.view_transform")
    assert import_part(published | constants, view, *path).keys() == view.state_dict().keys()


def test_weights_of_another_part_are_refused():
    fuser = GatedFuser(4, 6, 8)
    with pytest.raises(ConfigError, match=r"no tensor of fuser corresponds to the published decoder\.backbone"):
        import_part({"backbone.0.0.conv1.weight": torch.zeros(1)}, fuser, "decoder", "fuser")
    with pytest.raises(ConfigError, match="missing"):
        import_part({}, fuser, "fuser", "fuser")
