"""From head maps to detections."""

import pytest
import torch

from crkd_core.config.classes import DETECTION_CLASSES, HEAD_TASKS
from crkd_core.config.models import HeadConfig, NMSConfig
from crkd_core.evaluation.decode import decode_detections
from crkd_core.geometry.boxes import Boxes3D
from crkd_core.geometry.grid import BEVGrid
from crkd_core.models.head_targets import HeadTargets, build_head_targets
from crkd_core.models.outputs import HeadOutput, TaskOutput

GRID = BEVGrid((-9.6, 9.6), (-4.8, 4.8), (-5.0, 3.0), 0.6)


def perfect_head(targets: HeadTargets) -> HeadOutput:
    """What a head that makes no mistakes says for these targets."""
    tasks = []
    for task in targets.tasks:
        batch, _, nx, ny = task.heatmap.shape
        regression = torch.zeros(batch, 10, nx * ny)
        for b in range(batch):
            regression[b][:, task.cells[b][task.valid[b]]] = task.boxes[b][task.valid[b]].T
        parts = regression.view(batch, 10, nx, ny).split([2, 1, 3, 2, 2], dim=1)
        tasks.append(TaskOutput(torch.where(task.heatmap == 1, 6.0, -6.0), *parts))
    return HeadOutput(tuple(tasks))


def random_scene(seed: int) -> tuple[Boxes3D, torch.Tensor]:
    """Boxes far enough apart that nothing suppresses anything."""
    generator = torch.Generator().manual_seed(seed)
    spots = torch.cartesian_prod(torch.arange(-8.0, 9.0, 4.0), torch.tensor([-3.0, 1.0]))
    labels = torch.randperm(10, generator=generator)[: len(spots)]
    random = torch.rand(len(labels), 9, generator=generator)
    scale = torch.tensor([1.2, 1.2, 2.0, 0.5, 0.5, 1.0, 6.28, 8.0, 8.0])
    lower = torch.tensor([0, 0, -2.0, 0.3, 0.3, 0.5, -3.14, -4.0, -4.0])
    tensor = random * scale + lower
    tensor[:, :2] += spots[: len(labels)]
    return Boxes3D(tensor), labels


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("augmented", [False, True])
def test_encoding_then_decoding_returns_the_boxes(seed, augmented):
    boxes, labels = random_scene(seed)
    matrix = torch.eye(4)
    if augmented:
        matrix[:3, :3] = torch.diag(torch.tensor([-0.95, 0.95, 0.95]))
        matrix[:3, 3] = torch.tensor([0.3, -0.2, 0.4])
    seen = boxes.augmented(matrix)
    empty = (Boxes3D.empty(), torch.zeros(0, dtype=torch.long))
    targets = build_head_targets([seen, empty[0]], [labels, empty[1]], GRID, HeadConfig())
    found, nothing = decode_detections(
        perfect_head(targets), GRID, NMSConfig(), matrix.expand(2, 4, 4) if augmented else None
    )
    assert len(nothing.scores) == 0
    on_grid = GRID.locate(seen.centre[:, :2])[1]
    order, expected = found.labels.argsort(), labels[on_grid].argsort()
    assert torch.equal(found.labels[order], labels[on_grid][expected])
    ours, theirs = found.boxes[order].wrapped().tensor, boxes[on_grid][expected].wrapped().tensor
    assert torch.allclose(ours, theirs, atol=1e-4)


def maps_of(logits: dict[str, list[tuple[int, int, float]]]) -> HeadOutput:
    """Peaks at cells by class; boxes of 1 m in their cells' centres."""
    nx, ny = GRID.shape
    tasks = []
    for classes in HEAD_TASKS:
        heatmap = torch.full((1, len(classes), nx, ny), -9.0)
        for channel, name in enumerate(classes):
            for x, y, value in logits.get(name, []):
                heatmap[0, channel, x, y] = value
        zeros = torch.zeros(1, 3, nx, ny)
        tasks.append(TaskOutput(heatmap, zeros[:, :2] + 0.5, zeros[:, :1], zeros, zeros[:, :2] + 1, zeros[:, :2]))
    return HeadOutput(tuple(tasks))


def test_suppression_is_that_of_the_task():
    head = maps_of(
        {
            "car": [(5, 5, 3.0), (8, 5, 2.0), (9, 5, 1.0)],  # 1.8 m and 2.4 m from the first, limit 2 m
            "bus": [(5, 5, 3.0), (7, 5, 2.0)],  # 1.2 m apart, boxes of 1 m at 45 degrees: overlap below 0.2
            "trailer": [(5, 5, 2.5)],  # on the bus
            "pedestrian": [(5, 5, 3.0), (7, 5, 2.0)],  # 1.2 m apart, but enlarged 2.5 times
        }
    )
    (found,) = decode_detections(head, GRID, NMSConfig())
    kept = [DETECTION_CLASSES[label] for label in found.labels]
    assert kept == ["car", "car", "bus", "bus", "pedestrian"]
    assert (found.scores[1:2] < found.scores[:1]).all()
    (found,) = decode_detections(head, GRID, NMSConfig(size_factors={}))
    assert [DETECTION_CLASSES[label] for label in found.labels].count("pedestrian") == 2


def test_thresholds_and_limits():
    head = maps_of({"car": [(1, 1, -2.3), (10, 10, 0.0)], "barrier": [(2 * i, 0, 1.0) for i in range(16)]})
    (found,) = decode_detections(head, GRID, NMSConfig(max_detections=5))
    assert [DETECTION_CLASSES[label] for label in found.labels] == ["car"] + ["barrier"] * 5
    assert found.boxes.centre[0, :2].tolist() == pytest.approx([-9.6 + 10.5 * 0.6, -4.8 + 10.5 * 0.6], abs=1e-5)
    (found,) = decode_detections(head, GRID, NMSConfig(centre_limit_m=4.0))
    assert (found.boxes.centre[:, :2].abs() <= 4.0).all()


def test_fewer_cells_than_candidates():
    (found,) = decode_detections(maps_of({"car": [(1, 1, 3.0)]}), GRID, NMSConfig(max_candidates=5000))
    assert len(found.scores) == 1
