"""Variations of recorded cases whose results follow from the recorded ones: single samples, nothing there at all."""

from collections.abc import Callable

import pytest

from tests.parity.cases import load_case
from tests.parity.golden import GoldenCase
from tests.parity.results import run_case
from tests.parity.subset import PARTS, WHOLE
from tests.parity.variations import (
    Arrays,
    empty_second_image,
    first_image,
    first_pillars,
    first_sample,
    first_view,
    key_frame_and_empty_sweeps,
    no_boxes_to_suppress,
    no_detections,
    no_ground_truth,
    no_second_cloud,
    no_second_masks,
    nothing_likely,
    without,
)

VARIATIONS: list[tuple[str, Callable[[Arrays], Arrays], dict]] = [
    ("gatedfuser", first_sample, {"B": 1}),
    ("decoder_resnet_lssfpn", first_sample, {"B": 1}),
    ("decoder_second_secondfpn", first_sample, {}),
    ("neck_generalized_lssfpn", first_sample, {}),
    ("neck_secondfpn_camera", first_sample, {}),
    ("head_forward", first_sample, {"B": 1}),
    ("lss_transform", first_view, {"B": 1}),
    ("depth_lss_transform", first_view, {"B": 1}),
    ("radar_encoder", first_pillars, {"B": 1}),
    ("radar_encoder_calib", first_pillars, {"B": 1}),
    ("head_targets", first_image, {}),
    ("head_targets", empty_second_image, {}),
    ("head_targets_small_maxobj", empty_second_image, {}),
    ("kd_scale_mask", without("in/boxes1", "out/scaled1"), {}),
    ("radar_voxelize", without("points1", "voxels1", "coors1", "num1"), {}),
    ("object_paste", no_ground_truth, {"epoch": 15, "draws": []}),
    ("dataset_info", without("boxes__f64", "velocity__f64", "valid_flag", "bboxes_3d", "labels_3d"), {"names": []}),
    ("results_to_nuscenes", no_detections, {"attributes": []}),
    ("bev_aug", without("/points", "/radar", "/boxes", "/labels"), {}),
    ("kd_gt_masks", no_second_masks, {}),
    ("lidar_loading", key_frame_and_empty_sweeps, {}),
    ("head_get_bboxes", nothing_likely, {}),
    ("sparse_encoder", no_second_cloud, {}),
    ("rotated_nms", no_boxes_to_suppress, {}),
]


@pytest.mark.parametrize(
    ("name", "vary", "config"), VARIATIONS, ids=[f"{name}-{index}" for index, (name, _, _) in enumerate(VARIATIONS)]
)
def test_variations_agree(name, vary, config):
    case = load_case(name)
    result = run_case(GoldenCase(name, case.config | config, vary(case.arrays)))
    assert result.passed, "\n".join(result.problems)
    assert result.comparison.differences


def test_variations_are_of_recorded_cases():
    assert {name for name, _, _ in VARIATIONS} - {*WHOLE, *PARTS} == {"neck_secondfpn_camera"}
