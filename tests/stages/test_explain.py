"""Every known cause of low scores is recognised in good detections that were spoilt that way, and alone."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from crkd_core.config.schema import Config
from crkd_core.datasets.prepared.prepared_data import PreparedData
from crkd_core.evaluation.diagnose import Evidence, diagnose
from crkd_core.evaluation.evaluated_split import EvaluatedSplit
from crkd_core.evaluation.io.detections import Detections
from crkd_core.evaluation.nuscenes.scoring import score
from crkd_core.evaluation.sensor_inputs import SensorInput, sensor_inputs
from crkd_core.geometry.boxes import Boxes3D
from crkd_core.models.decode import SampleDetections
from tests.support.described import NUSCENES

SPLIT = "train"
Spoil = Callable[[torch.Tensor, torch.Tensor, torch.Generator], torch.Tensor]


@pytest.fixture(scope="module")
def prepared(chain):
    return PreparedData(chain.workspace.artifacts("prepare")[-1])


def evidence_of(prepared: PreparedData, samples: list) -> Evidence:
    split = EvaluatedSplit(prepared, SPLIT, prepared.tokens(SPLIT))
    return Evidence(score(Detections.collect(samples, NUSCENES).table, split.ground_truth), split.lidar_from_global())


def spoilt(prepared: PreparedData, spoil: Spoil) -> Evidence:
    """The annotated objects as a good detector would see them, with something wrong, and some false positives."""
    random = torch.Generator().manual_seed(0)
    samples = []
    for token in prepared.tokens(SPLIT):
        truth = prepared.annotations(token)
        boxes = torch.nan_to_num(truth.boxes.tensor)
        sigma = torch.tensor([0.15, 0.15, 0.1, 0.05, 0.1, 0.05, 0.08, 0.2, 0.2])
        boxes = boxes + sigma * torch.randn(boxes.shape, generator=random)
        boxes[:, 3:6].clamp_(min=0.2)
        boxes = torch.cat([boxes, boxes + torch.tensor([4.0, 5.0, *[0.0] * 7])])
        labels = torch.cat([truth.labels, truth.labels])
        right, wrong = torch.rand((2, len(truth)), generator=random)
        scores = torch.cat([0.5 + 0.5 * right, 0.5 * wrong])
        detections = SampleDetections(Boxes3D(spoil(boxes, labels, random)), scores, labels)
        samples.append((token, detections, prepared.global_from_lidar(token)))
    return evidence_of(prepared, samples)


def same(boxes, labels, random):
    return boxes


def bottoms(boxes, labels, random):
    return boxes - 0.5 * boxes[:, 5:6] * torch.eye(9)[2]


def tops(boxes, labels, random):
    return boxes + 0.5 * boxes[:, 5:6] * torch.eye(9)[2]


def turned(degrees: float) -> Spoil:
    return lambda boxes, labels, random: boxes + np.deg2rad(degrees) * torch.eye(9)[6]


def flipped_by_chance(boxes, labels, random):
    return boxes + np.pi * (torch.rand((len(boxes), 1), generator=random) < 0.5) * torch.eye(9)[6]


def standing(boxes, labels, random):
    return torch.cat([boxes[:, :7], torch.zeros(len(boxes), 2)], dim=1)


def length_first(boxes, labels, random):
    return boxes[:, [0, 1, 2, 4, 3, 5, 6, 7, 8]]


def height_first(boxes, labels, random):
    return boxes[:, [0, 1, 2, 5, 3, 4, 6, 7, 8]]


def moved(x: float, y: float) -> Spoil:
    return lambda boxes, labels, random: boxes + torch.tensor([x, y, *[0.0] * 7])


@pytest.mark.parametrize(
    ("spoil", "cause", "words"),
    [
        (bottoms, "boxes off by half their height", "m below"),
        (tops, "boxes off by half their height", "m above"),
        (turned(90), "yaw off by 90 degrees", "turned by +90 degrees"),
        (turned(-90), "yaw off by 90 degrees", "turned by -90 degrees"),
        (turned(180), "yaw off by 180 degrees", "point backwards"),
        (flipped_by_chance, "front and back are confused", "as if by chance"),
        (standing, "all velocities are zero", "stand still"),
        (length_first, "sizes in another order", "(length, width, height)"),
        (height_first, "sizes in another order", "(height, width, length)"),
        (moved(0.0, 1.5), "boxes moved by a constant", "+1.5) m"),
        (moved(-6.0, 2.0), "boxes moved by a constant", "(-6.0, +2.0) m"),
        (moved(5000.0, 0.0), "wrong split or version", "from the car"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_else(prepared, spoil, cause, words):
    (diagnosis,) = diagnose(spoilt(prepared, spoil))
    assert diagnosis.cause == cause
    assert words in diagnosis.evidence
    assert any(letter.isdigit() for letter in diagnosis.evidence)
    assert diagnosis.advice


def test_good_detections_are_not_suspected(prepared):
    evidence = replace(
        spoilt(prepared, same), inputs=(SensorInput("radar", 6, 4, 1, 2), SensorInput("lidar", 9, 4, None, 1))
    )
    assert len(evidence.tp_pairs[0]) > 30
    assert diagnose(evidence) == ()


def test_boxes_in_the_frame_of_the_car(prepared):
    gt = [(token, prepared.annotations(token)) for token in prepared.tokens(SPLIT)]
    samples = [
        (token, SampleDetections(truth.boxes, torch.full((len(truth),), 0.9), truth.labels), np.eye(4))
        for token, truth in gt
    ]
    (diagnosis,) = diagnose(evidence_of(prepared, samples))
    assert diagnosis.cause == "boxes in the car's frame"


def test_samples_of_another_place_on_the_same_map(prepared):
    """Detections where nothing is: nearer than the limit of the first test of place, and far from every object."""
    samples = []
    for token in prepared.tokens(SPLIT):
        boxes = torch.zeros(40, 9)
        boxes[:, 3:6] = 1.0
        centres = prepared.annotations(token).boxes.centre[:, :2]
        places = torch.rand((2000, 2), generator=torch.Generator().manual_seed(1)) * 120 - 60
        lonely = places[(places[:, None] - centres).abs().amax(dim=-1).amin(dim=1) > 21][:40]
        boxes[: len(lonely), :2] = lonely
        detections = SampleDetections(
            Boxes3D(boxes[: len(lonely)]),
            torch.linspace(0.1, 0.9, len(lonely)),
            torch.zeros(len(lonely), dtype=torch.long),
        )
        samples.append((token, detections, prepared.global_from_lidar(token)))
    (diagnosis,) = diagnose(evidence_of(prepared, samples))
    assert diagnosis.cause == "wrong split or version"
    assert "within 20 m" in diagnosis.evidence


def test_a_head_that_was_not_trained(prepared):
    random = torch.Generator().manual_seed(0)
    samples = []
    for token in prepared.tokens(SPLIT):
        boxes = torch.rand((100, 9), generator=random) * torch.tensor([70.0, 70, 1, 1, 1, 1, 1, 1, 1])
        boxes -= torch.tensor([35.0, 35, 0, -0.5, -0.5, -0.5, 0, 0, 0])
        scores = 0.1 + 0.01 * torch.randn(100, generator=random)
        labels = torch.randint(0, 10, (100,), generator=random)
        samples.append((token, SampleDetections(Boxes3D(boxes), scores, labels), prepared.global_from_lidar(token)))
    (diagnosis,) = diagnose(evidence_of(prepared, samples))
    assert diagnosis.cause == "an untrained head"
    nothing = [(token, _nothing(), pose) for token, _, pose in samples]
    (diagnosis,) = diagnose(evidence_of(prepared, nothing))
    assert diagnosis.cause == "nothing is detected"


def _nothing() -> SampleDetections:
    return SampleDetections(Boxes3D.empty(), torch.zeros(0), torch.zeros(0, dtype=torch.long))


def test_missing_points_and_sweeps(prepared):
    good = spoilt(prepared, same)
    (diagnosis,) = diagnose(replace(good, inputs=(SensorInput("radar", 6, 4, 4, 4),)))
    assert diagnosis.cause == "no radar points"
    (diagnosis,) = diagnose(replace(good, inputs=(SensorInput("radar", 6, 4, 0, 4),)))
    assert diagnosis.cause == "no radar sweeps"
    (diagnosis,) = diagnose(replace(good, inputs=(SensorInput("lidar", 9, 4, None, 4),)))
    assert diagnosis.cause == "no lidar sweeps"
    assert diagnose(replace(good, inputs=(SensorInput("radar", 1, 4, 0, 4),))) == ()


def test_inputs_are_counted_from_the_prepared_data(chain, prepared):
    config: Config = chain.config
    tokens = prepared.tokens(SPLIT)
    lidar, radar = sensor_inputs(prepared, tokens, config.data, ("camera", "lidar", "radar"))
    assert (lidar.name, lidar.sweeps, lidar.samples) == ("lidar", config.data.lidar.sweeps, len(tokens))
    older = [len(prepared.lidar_sweeps(token).paths) > 1 for token in tokens]
    assert lidar.alone == older.count(False)
    filled = [len(prepared.radar(token)[0]) > 0 for token in tokens]
    assert (radar.empty, radar.alone < radar.samples) == (filled.count(False), True)
    assert sensor_inputs(prepared, tokens, config.data, ("camera",)) == ()
