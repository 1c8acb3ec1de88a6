"""Whole detectors."""

from dataclasses import replace

import pytest
import torch

from crkd_core.config.models import (
    FuserConfig,
    LidarBranchConfig,
    Modality,
    RadarBranchConfig,
)
from crkd_core.errors import ConfigError, CrkdError
from crkd_core.geometry.boxes import Boxes3D
from crkd_core.geometry.sensors import CameraRig, SensorInputs
from crkd_core.models.decode import decode_detections
from crkd_core.models.detection_loss import detection_loss
from crkd_core.models.detector import build_detector
from crkd_core.models.head_targets import build_head_targets
from tests.support.described import TASKS
from tests.support.tiny_detector import TINY_DATA, tiny_config, tiny_inputs

MODALITY_SETS: list[tuple[Modality, ...]] = [
    ("camera", "radar"),
    ("camera", "lidar"),
    ("camera",),
    ("lidar",),
    ("radar",),
]


def one_object() -> tuple[list[Boxes3D], list[torch.Tensor]]:
    box = torch.tensor([[1.0, 2, -1, 2, 4, 1.5, 0.3, 1, float("nan")]])
    return [Boxes3D(box), Boxes3D.empty()], [torch.tensor([8]), torch.zeros(0, dtype=torch.long)]


@pytest.mark.parametrize("empty_sample", [False, True])
@pytest.mark.parametrize("modalities", MODALITY_SETS, ids="+".join)
def test_every_modality_set_learns(modalities, empty_sample):
    config = tiny_config(modalities)
    detector = build_detector(config, TINY_DATA, TASKS)
    out = detector(tiny_inputs(empty_sample=empty_sample))
    grid = TINY_DATA.grid.build()
    assert out.features.fused.shape[2:] == grid.shape == (16, 24)
    terms = detection_loss(out.head, build_head_targets(*one_object(), grid, config.head, TASKS), config.head)
    sum(terms.values()).backward()
    for name, parameter in detector.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    shared = [p for name, p in detector.named_parameters() if not name.startswith("head.tasks")]
    assert sum(bool(p.grad.any()) for p in shared) > 0.9 * len(shared)
    detections = decode_detections(detector.eval()(tiny_inputs()).head, grid, config.head.nms, TASKS)
    assert len(detections) == 2


@pytest.mark.parametrize("modalities", MODALITY_SETS, ids="+".join)
def test_inputs_are_not_written_to(modalities):
    inputs, before = tiny_inputs(), tiny_inputs()
    build_detector(tiny_config(modalities), TINY_DATA, TASKS)(inputs)
    assert torch.equal(inputs.images, before.images)
    for a, b in zip(inputs.lidar + inputs.radar, before.lidar + before.radar, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("modalities", [("camera", "radar"), ("camera", "lidar")], ids="+".join)
def test_autocast_is_finite_and_near_float32(modalities):
    torch.manual_seed(0)
    config = tiny_config(modalities)
    detector = build_detector(config, TINY_DATA, TASKS)
    with torch.no_grad():
        exact = detector(tiny_inputs())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = detector(tiny_inputs())
        targets = build_head_targets(*one_object(), TINY_DATA.grid.build(), config.head, TASKS)
        total = sum(detection_loss(out.head, targets, config.head).values())
    expected = exact.features.fused
    assert (out.features.fused.float() - expected).abs().max() < 0.1 * expected.abs().max()
    total.backward()
    assert all(p.grad.isfinite().all() for p in detector.parameters())


def test_samples_do_not_influence_each_other_at_test_time():
    for modalities in MODALITY_SETS[:2]:
        torch.manual_seed(1)
        detector = build_detector(tiny_config(modalities), TINY_DATA, TASKS).eval()
        both = tiny_inputs()
        first = SensorInputs(
            both.images[:1],
            CameraRig(*(t[:1] for t in vars(both.rig).values())),
            both.lidar[:1],
            both.radar[:1],
            both.bev_augmentation[:1],
        )
        with torch.no_grad():
            together, alone = detector(both).features.fused[:1], detector(first).features.fused
        assert torch.allclose(together, alone, atol=1e-5)


def test_features_of_gates_calibration_and_single_branches():
    student = build_detector(
        tiny_config(("camera", "radar"), radar=RadarBranchConfig(channels=(8, 8), calibration=True)), TINY_DATA, TASKS
    )
    features = student(tiny_inputs()).features
    assert features.radar_activation.shape == (2, 1, 16, 24)
    assert (features.radar_activation >= 0).all()
    assert (features.gated_camera.abs() <= features.camera.abs()).all()
    assert (features.fused >= 0).all()
    plain = build_detector(
        tiny_config(("camera", "lidar"), fuser=FuserConfig(kind="conv", channels=12)), TINY_DATA, TASKS
    )
    features = plain(tiny_inputs()).features
    assert features.gated_camera is features.camera
    assert features.gated_points is features.points
    assert features.radar_activation is None
    alone = build_detector(tiny_config(("radar",)), TINY_DATA, TASKS)(tiny_inputs()).features
    assert alone.camera is None
    assert alone.fused is alone.points


def test_missing_sensor_and_wrong_voxels_are_explained():
    detector = build_detector(tiny_config(("camera", "radar")), TINY_DATA, TASKS)
    with pytest.raises(CrkdError, match="radar points"):
        detector(replace(tiny_inputs(), radar=None))
    with pytest.raises(CrkdError, match="images of the configured size"):
        detector(replace(tiny_inputs(), images=torch.zeros(2, 2, 3, 64, 64)))
    with pytest.raises(CrkdError, match="needs LiDAR points"):
        build_detector(tiny_config(("camera", "lidar")), TINY_DATA, TASKS)(replace(tiny_inputs(), lidar=None))
    with pytest.raises(ConfigError, match=r"lidar\.voxel_m"):
        build_detector(tiny_config(("lidar",), lidar=LidarBranchConfig(voxel_m=(0.1, 0.1, 0.2))), TINY_DATA, TASKS)
