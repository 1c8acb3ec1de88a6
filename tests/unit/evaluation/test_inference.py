"""Running a detector over batches: order, modes, frames."""

import math
from itertools import chain

import pytest
import torch
from torch import nn

from crkd_core.config.models import NMSConfig
from crkd_core.data.samples import Batch
from crkd_core.evaluation.inference import detect
from crkd_core.geometry.boxes import Boxes3D
from crkd_core.geometry.grid import BEVGrid
from crkd_core.geometry.sensors import SensorInputs
from crkd_core.models.outputs import BEVFeatures, DetectorOutput, HeadOutput, TaskOutput
from tests.support.described import TASKS

GRID = BEVGrid((-8.0, 8.0), (-8.0, 8.0), (-3.0, 3.0), 1.0)
CPU = torch.device("cpu")


class OnePeak(nn.Module):
    """Finds one car, in the cell that the sample's translation names; remembers how it was called."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4, 4))
        self.seen = []

    def forward(self, inputs):
        product = self.weight @ self.weight
        self.seen.append((self.training, torch.is_grad_enabled(), product.dtype))
        size = inputs.batch_size
        cells, _ = GRID.locate(inputs.bev_augmentation[:, :2, 3])
        heat = torch.full((size, 1, 16, 16), -9.0)
        heat[torch.arange(size), 0, cells[:, 0], cells[:, 1]] = 4.0
        tasks = [
            TaskOutput(
                heatmap_logits=heat if index == 0 else torch.full((size, len(classes), 16, 16), -9.0),
                offset=torch.zeros(size, 2, 16, 16),
                height=torch.zeros(size, 1, 16, 16),
                log_size=torch.zeros(size, 3, 16, 16),
                rotation=torch.ones(size, 2, 16, 16),
                velocity=torch.zeros(size, 2, 16, 16),
            )
            for index, classes in enumerate(TASKS)
        ]
        features = BEVFeatures(None, None, None, None, heat, None)
        return DetectorOutput(features, HeadOutput(tuple(tasks)))


def batch(*tokens):
    augmentation = torch.eye(4).repeat(len(tokens), 1, 1)
    augmentation[:, :2, 3] = torch.tensor([[float(token), -float(token)] for token in tokens])
    inputs = SensorInputs(None, None, None, None, augmentation)
    boxes, labels = [Boxes3D.empty() for _ in tokens], [torch.zeros(0, dtype=torch.long) for _ in tokens]
    return Batch(list(tokens), [-1] * len(tokens), inputs, boxes, labels, None)


def run(detector, batches, precision="fp32"):
    return list(chain.from_iterable(detect(detector, batches, GRID, NMSConfig(), TASKS, CPU, precision)))


def test_samples_come_in_order_without_their_augmentation():
    results = run(OnePeak(), [batch("1", "2"), batch("-3")])
    assert [token for token, _ in results] == ["1", "2", "-3"]
    for _, detections in results:
        assert detections.labels.tolist() == [0]
        # The peak lies at the augmentation's translation, which is the origin of the model frame.
        assert torch.allclose(detections.boxes.centre[0], torch.zeros(3), atol=1e-5)
        assert detections.scores[0] == pytest.approx(1 / (1 + math.exp(-4.0)))


@pytest.mark.parametrize(("precision", "expected"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_evaluation_mode_without_gradients_in_the_asked_precision(precision, expected):
    detector = OnePeak().train()
    run(detector, [batch("1")], precision)
    assert detector.seen == [(False, False, expected)]


def test_the_mode_does_not_leak_between_samples():
    for _, detections in chain.from_iterable(
        detect(OnePeak(), [batch("1", "2")], GRID, NMSConfig(), TASKS, CPU, "fp32")
    ):
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()
        assert not detections.scores.is_inference()
        detections.scores.clone().requires_grad_().sum().backward()
