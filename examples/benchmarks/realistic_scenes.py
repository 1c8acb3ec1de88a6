"""Detector outputs with the statistics of trained ones: smooth, heavy-tailed maps and heatmaps with weak background.

Without weights or data at hand, size and precision of stored targets are measured on these. Half of the fused values
are zero (ReLU), the largest of a channel are ten times its deviation, and the heatmaps' background has logits of
-5.5 +- 1 that change by 0.2 from cell to cell: a teacher of a few hundred steps on the simulated world has about that.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from crkd_core.config.schema import Config
from crkd_core.geometry.boxes import Boxes3D
from crkd_core.models.head_targets import build_head_targets
from crkd_core.models.outputs import BEVFeatures, DetectorOutput, HeadOutput, TaskOutput

# Of each class of nuScenes: how many are in a sample, and a usual width, length and height (m).
OBJECTS = {
    "car": (17, (1.95, 4.6, 1.7)),
    "truck": (3, (2.5, 6.9, 2.8)),
    "construction_vehicle": (1, (2.8, 6.4, 3.2)),
    "bus": (1, (2.9, 11.0, 3.5)),
    "trailer": (2, (2.9, 12.3, 3.9)),
    "barrier": (6, (2.5, 0.5, 1.0)),
    "motorcycle": (1, (0.8, 2.1, 1.5)),
    "bicycle": (1, (0.6, 1.7, 1.3)),
    "pedestrian": (9, (0.67, 0.73, 1.77)),
    "traffic_cone": (4, (0.4, 0.4, 1.1)),
}


@dataclass(frozen=True)
class Scene:
    """What teacher and student say about one sample, and its boxes in the model frame."""

    teacher: DetectorOutput
    student: DetectorOutput
    boxes: Boxes3D


def make_scene(seed: int, config: Config) -> Scene:
    """A sample of 45 boxes on the configuration's grid, with maps as wide as its detectors'."""
    draw = _Maps(seed, config)
    boxes, labels = _draw_boxes(draw.generator, max(config.data.grid.x_range_m))
    tasks = config.dataset.head_tasks
    truths = build_head_targets([boxes], [labels], draw.grid, config.teacher.head, tasks).tasks
    teacher = draw.output([task.heatmap for task in truths])
    return Scene(teacher, draw.weaker(teacher), boxes)


def _draw_boxes(generator: torch.Generator, extent_m: float) -> tuple[Boxes3D, Tensor]:
    rows, labels = [], []
    for label, (count, size) in enumerate(OBJECTS.values()):
        for _ in range(count):
            chance = torch.rand(4, generator=generator)
            distance, bearing = 2 + 0.85 * extent_m * chance[0], 2 * math.pi * chance[1]
            speed = 4.0 if chance[2] < 0.25 else 0.05
            position = [float(distance * bearing.cos()), float(distance * bearing.sin()), -1.0]
            velocity = (torch.randn(2, generator=generator) * speed).tolist()
            rows.append([*position, *size, float(2 * math.pi * chance[3]), *velocity])
            labels.append(label)
    return Boxes3D(torch.tensor(rows)), torch.tensor(labels)


class _Maps:
    """Random maps of one sample."""

    def __init__(self, seed: int, config: Config) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.grid = config.data.grid.build()
        self._camera = config.teacher.camera.view_transform.channels
        self._fused = config.teacher.fuser.channels

    def output(self, heatmaps: list[Tensor]) -> DetectorOutput:
        objects = torch.cat(heatmaps, dim=1).amax(dim=1, keepdim=True)
        camera = self._features(self._camera, objects) * self._smooth(self._camera, 1.0).sigmoid()
        fused = self._features(self._fused, objects)
        tasks = [self._task(heatmap) for heatmap in heatmaps]
        return DetectorOutput(BEVFeatures(camera, None, camera, None, fused, objects), HeadOutput(tuple(tasks)))

    def weaker(self, teacher: DetectorOutput) -> DetectorOutput:
        """A student that half agrees with the teacher."""
        features = teacher.features
        camera, fused = (0.5 * m + 0.5 * m.roll(7, dims=2) for m in (features.gated_camera, features.fused))
        activation = (0.02 + 0.05 * self._smooth(1, 2.0) + 0.5 * features.radar_activation).relu()
        tasks = []
        for task in teacher.head.tasks:
            noise = [part + self._smooth(part.shape[1], 2.0) * 0.3 for part in task.box_code]
            logits = task.heatmap_logits + 0.7 * self._smooth(task.heatmap_logits.shape[1], 1.5)
            tasks.append(TaskOutput(logits, *noise))
        return DetectorOutput(BEVFeatures(camera, None, camera, None, fused, activation), HeadOutput(tuple(tasks)))

    def _task(self, target: Tensor) -> TaskOutput:
        classes = target.shape[1]
        background = -5.5 + self._smooth(classes, 4.0) + 0.1 * self._smooth(classes, 0.5)
        certainty = 0.4 + 0.55 * torch.rand((1, classes, 1, 1), generator=self.generator)
        objects = (target * certainty).clamp(1e-6, 1 - 1e-6).logit()
        return TaskOutput(
            torch.logaddexp(background, objects),
            0.5 + 0.3 * self._smooth(2, 2.0),
            0.5 * self._smooth(1, 2.0) - 1,
            0.5 * self._smooth(3, 2.0) + 1,
            0.7 * self._smooth(2, 2.0),
            2.0 * self._smooth(2, 2.0),
        )

    def _features(self, channels: int, objects: Tensor) -> Tensor:
        values = self._smooth(channels, 1.0) * (0.3 * self._smooth(1, 3.0)).exp()
        gain, answer = (torch.randn((1, channels, 1, 1), generator=self.generator) for _ in range(2))
        return ((values + 2 * answer * objects) * (0.5 * gain).exp()).relu()

    def _smooth(self, channels: int, sigma_cells: float) -> Tensor:
        """Unit noise that changes over some cells."""
        noise = torch.randn((channels, 1, *self.grid.shape), generator=self.generator)
        reach = math.ceil(3 * sigma_cells)
        kernel = torch.exp(-torch.arange(-reach, reach + 1).float().square() / (2 * sigma_cells**2))
        kernel = kernel / kernel.norm()
        smoothed = F.conv2d(noise, kernel.view(1, 1, -1, 1), padding=(reach, 0))
        smoothed = F.conv2d(smoothed, kernel.view(1, 1, 1, -1), padding=(0, reach))
        return smoothed.view(1, channels, *self.grid.shape)
