"""Pyramids whose stages give unequal numbers of channels."""

import pytest
import torch

from crkd_core.config.loading import dump_config, load_config
from crkd_core.config.models import CameraNeckConfig, DecoderConfig
from crkd_core.errors import ConfigError
from crkd_core.models.decoder import build_decoder
from crkd_core.models.detector import build_detector
from crkd_core.models.necks import build_neck
from crkd_core.training.student import without_calibration
from crkd_core.weights.published import export_detector, import_detector
from tests.support.described import NUSCENES, TASKS

UNEQUAL = [
    "student.camera.neck.channels=[8, 16, 24, 4]",
    "student.decoder={kind: second, channels: [32, 48], blocks: 1, out_channels: [40, 24]}",
]


def test_each_stage_of_a_neck_has_its_own_channels():
    torch.manual_seed(0)
    neck = build_neck(CameraNeckConfig(channels=(3, 5, 2, 6)), (4, 8, 16, 32)).eval()
    stages = tuple(torch.randn(2, 4 * 2**i, 16 // 2**i, 24 // 2**i) for i in range(4))
    merged = neck(stages)
    assert merged.shape == (2, 16, 8, 12)
    for index, (start, stop) in enumerate(((0, 3), (3, 8), (8, 10), (10, 16))):
        torch.testing.assert_close(merged[:, start:stop], neck.branches[index](stages[index]))


def test_each_stage_of_a_second_decoder_has_its_own_channels():
    torch.manual_seed(0)
    config = DecoderConfig(kind="second", channels=(6, 10), blocks=1, out_channels=(3, 5))
    decoder = build_decoder(4, config).eval()
    fused = torch.randn(1, 4, 8, 12)
    decoded = decoder(fused)
    assert decoded.shape == (1, 8, 8, 12)
    first = decoder.blocks[0](fused)
    torch.testing.assert_close(decoded[:, :3], decoder.branches[0](first))
    torch.testing.assert_close(decoded[:, 3:], decoder.branches[1](decoder.blocks[1](first)))


@pytest.mark.parametrize(("number", "listed"), [(16, (4, 4, 4, 4)), (8, (2, 2, 2, 2))])
def test_one_number_means_equal_parts_and_stays_one_number(number, listed):
    one, four = CameraNeckConfig(channels=number), CameraNeckConfig(channels=listed)
    shapes = [
        {key: tensor.shape for key, tensor in build_neck(config, (4, 8, 16, 32)).state_dict().items()}
        for config in (one, four)
    ]
    assert shapes[0] == shapes[1]
    assert one.model_dump(mode="json") == {"kind": "second_fpn", "channels": number}
    assert four.model_dump(mode="json") == {"kind": "second_fpn", "channels": list(listed)}


def test_a_detector_of_unequal_stages_is_exported_and_imported(tmp_path):
    config = load_config("tiny", None, UNEQUAL)
    (tmp_path / "config.yaml").write_text(dump_config(config))
    assert load_config("tiny", tmp_path / "config.yaml") == config
    detector = without_calibration(config.student)
    weights = build_detector(detector, config.data, TASKS).state_dict()
    back = import_detector(export_detector(weights, detector, config.data), detector, config.data, NUSCENES)
    assert list(back) == list(weights)
    assert all(torch.equal(back[key], weights[key]) for key in weights)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("student.camera.neck.channels=[8, 16]", "one number or a list of four, .* found \\[8, 16\\]"),
        ("student.camera.neck.channels=[8, 16, 8, 8, 8]", "a list of four"),
        ("student.camera.neck.channels=[]", "a list of at least 1"),
        ("student.camera.neck.channels=[8, 0, 8, 8]", r"'student\.camera\.neck\.channels\.1': expected greater than"),
        ("student.camera.neck.channels=wide", r"'student\.camera\.neck\.channels': expected a valid integer, found"),
        ("student.camera.neck={kind: lss_fpn, channels: [8, 8, 8, 8]}", "one number, found .* kind: second_fpn"),
        ("student.decoder.out_channels=[8, 8]", "one number, found .* kind: second"),
        ("student.decoder={kind: second, channels: [8, 8], out_channels: [8]}", r"or a list of 2, found \[8\]"),
        ("student.decoder={kind: second, channels: [8, 8], out_channels: 9}", "or a list of 2, found 9"),
    ],
)
def test_lists_that_do_not_fit_are_refused(override, words):
    with pytest.raises(ConfigError, match=words):
        load_config("tiny", None, [override])


def test_a_backbone_of_three_maps_needs_another_neck():
    with pytest.raises(ConfigError, match=r"merges four stages and this backbone gives 3; set camera\.neck\.kind"):
        build_neck(CameraNeckConfig(channels=16), (8, 16, 32))


def test_neck_of_uneven_width_is_refused():
    with pytest.raises(ConfigError, match="multiple of 4"):
        build_neck(CameraNeckConfig(channels=18), (4, 8, 16, 32))
