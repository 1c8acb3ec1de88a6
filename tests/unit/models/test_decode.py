"""From head maps to detections."""

import pytest
import torch

from crkd_core.config.models import HeadConfig, NMSConfig
from crkd_core.geometry.boxes import Boxes3D
from crkd_core.geometry.grid import BEVGrid
from crkd_core.models.box_coder import CHANNEL_COUNT, CHANNELS
from crkd_core.models.decode import decode_detections, decode_peaks
from crkd_core.models.head_targets import HeadTargets, build_head_targets
from crkd_core.models.outputs import HeadOutput, TaskOutput
from tests.support.described import CLASSES, TASKS

GRID = BEVGrid((-9.6, 9.6), (-4.8, 4.8), (-5.0, 3.0), 0.6)


def perfect_head(targets: HeadTargets) -> HeadOutput:
    """What a head that makes no mistakes says for these targets."""
    tasks = []
    for task in targets.tasks:
        batch, _, nx, ny = task.heatmap.shape
        regression = torch.zeros(batch, CHANNEL_COUNT, nx * ny)
        for b in range(batch):
            regression[b][:, task.cells[b][task.valid[b]]] = task.boxes[b][task.valid[b]].T
        parts = regression.view(batch, CHANNEL_COUNT, nx, ny).split([*CHANNELS], dim=1)
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
    targets = build_head_targets([seen, empty[0]], [labels, empty[1]], GRID, HeadConfig(), TASKS)
    detections, nothing = decode_detections(
        perfect_head(targets), GRID, NMSConfig(), TASKS, matrix.expand(2, 4, 4) if augmented else None
    )
    assert len(nothing.scores) == 0
    on_grid = GRID.locate(seen.centre[:, :2])[1]
    order, expected = detections.labels.argsort(), labels[on_grid].argsort()
    assert torch.equal(detections.labels[order], labels[on_grid][expected])
    decoded, original = detections.boxes[order].wrapped().tensor, boxes[on_grid][expected].wrapped().tensor
    assert torch.allclose(decoded, original, atol=1e-4)


def maps_of(logits: dict[str, list[tuple[int, int, float]]]) -> HeadOutput:
    """Peaks at cells by class; boxes of 1 m in their cells' centres."""
    nx, ny = GRID.shape
    tasks = []
    for classes in TASKS:
        heatmap = torch.full((1, len(classes), nx, ny), -9.0)
        for channel, name in enumerate(classes):
            for x, y, value in logits.get(name, []):
                heatmap[0, channel, x, y] = value
        zeros = torch.zeros(1, 3, nx, ny)
        maps = (zeros[:, :2] + 0.5, zeros[:, :1], zeros, zeros[:, :2] + 1, zeros[:, :2])
        tasks.append(TaskOutput(heatmap, *(values.clone() for values in maps)))
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
    (detections,) = decode_detections(head, GRID, NMSConfig(), TASKS)
    kept = [CLASSES[label] for label in detections.labels]
    assert kept == ["car", "car", "bus", "bus", "pedestrian"]
    assert (detections.scores[1:2] < detections.scores[:1]).all()
    (detections,) = decode_detections(head, GRID, NMSConfig(size_factors={}), TASKS)
    assert [CLASSES[label] for label in detections.labels].count("pedestrian") == 2


def test_thresholds_and_limits():
    head = maps_of({"car": [(1, 1, -2.3), (10, 10, 0.0)], "barrier": [(2 * i, 0, 1.0) for i in range(16)]})
    (detections,) = decode_detections(head, GRID, NMSConfig(max_detections=5), TASKS)
    assert [CLASSES[label] for label in detections.labels] == ["car"] + ["barrier"] * 5
    assert detections.boxes.centre[0, :2].tolist() == pytest.approx([-9.6 + 10.5 * 0.6, -4.8 + 10.5 * 0.6], abs=1e-5)
    (detections,) = decode_detections(head, GRID, NMSConfig(centre_limit_m=4.0), TASKS)
    assert (detections.boxes.centre[:, :2].abs() <= 4.0).all()


def test_fewer_cells_than_candidates():
    (detections,) = decode_detections(maps_of({"car": [(1, 1, 3.0)]}), GRID, NMSConfig(max_candidates=5000), TASKS)
    assert len(detections.scores) == 1


def random_head(seed: int, samples: int) -> HeadOutput:
    """Many peaks, and many of equal height: logits on a coarse scale, as half precision gives them."""
    generator = torch.Generator().manual_seed(seed)
    tasks = []
    for classes in TASKS:
        logits = (torch.randn((samples, len(classes), *GRID.shape), generator=generator) * 8).round() / 4 - 3
        maps = torch.randn((samples, CHANNEL_COUNT, *GRID.shape), generator=generator) * 0.5
        tasks.append(TaskOutput(logits, *maps.split([*CHANNELS], dim=1)))
    return HeadOutput(tuple(tasks))


def taken(head: HeadOutput, index: int) -> HeadOutput:
    return HeadOutput(tuple(TaskOutput(*(m[index : index + 1] for m in vars(task).values())) for task in head.tasks))


def assert_same(detections, expected):
    assert torch.equal(detections.labels.cpu(), expected.labels)
    assert torch.equal(detections.scores.cpu(), expected.scores)
    torch.testing.assert_close(detections.boxes.tensor.cpu(), expected.boxes.tensor, rtol=0, atol=1e-6)


def test_a_batch_is_its_samples():
    head, nms = random_head(0, 3), NMSConfig(max_candidates=60)
    matrices = torch.stack([torch.eye(4), torch.diag(torch.tensor([-1.0, 1, 1, 1])), torch.eye(4)])
    for index, detections in enumerate(decode_detections(head, GRID, nms, TASKS, matrices)):
        assert len(detections.scores) > 50
        assert_same(detections, decode_detections(taken(head, index), GRID, nms, TASKS, matrices[index : index + 1])[0])


def test_candidates_are_the_highest_cells_and_of_equal_ones_the_first():
    head = random_head(1, 2)
    peaks = decode_peaks(head, GRID, NMSConfig(max_candidates=40))
    first_label = 0
    for task, (output, classes) in enumerate(zip(head.tasks, TASKS, strict=True)):
        for sample in range(2):
            flat = output.heatmap_logits[sample].flatten()
            order = torch.argsort(flat, descending=True, stable=True)[:40]
            assert (flat == flat[order[-1]]).sum() > 1
            assert peaks.valid[sample, task].all()
            assert torch.equal(peaks.scores[sample, task], flat[order].double().sigmoid())
            assert torch.equal(peaks.labels[sample, task] - first_label, order // (GRID.shape[0] * GRID.shape[1]))
            z = output.height[sample].flatten()[order % (GRID.shape[0] * GRID.shape[1])]
            assert torch.equal(peaks.boxes[sample, task, :, 2].float(), z)
        first_label += len(classes)


def test_mixed_precision_does_not_reach_the_boxes():
    head, matrix = random_head(2, 1), torch.eye(4)[None] * torch.tensor([1.0, -1, 1, 1])
    expected = decode_detections(head, GRID, NMSConfig(), TASKS, matrix)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_same(decode_detections(head, GRID, NMSConfig(), TASKS, matrix)[0], expected)


def test_values_that_are_not_finite_give_no_boxes():
    head = maps_of({"car": [(1, 1, 3.0), (8, 1, 2.0), (12, 5, float("nan"))], "bus": [(3, 3, 1.0)]})
    head.tasks[0].log_size[0, 0, 8, 1] = 1e4
    head.tasks[2].velocity[0, 1, 3, 3] = float("nan")
    (detections,) = decode_detections(head, GRID, NMSConfig(), TASKS)
    assert detections.labels.tolist() == [0]
    assert detections.boxes.centre[0, 0].item() == pytest.approx(-9.6 + 1.5 * 0.6, abs=1e-5)


def test_nothing_above_the_threshold():
    (detections,) = decode_detections(maps_of({}), GRID, NMSConfig(), TASKS)
    assert detections.boxes.tensor.shape == (0, 9)
    assert detections.scores.dtype == torch.float32
    assert len(decode_detections(maps_of({}), GRID, NMSConfig(score_threshold=0.0), TASKS)[0].scores) > 6
    assert len(decode_detections(random_head(0, 1), GRID, NMSConfig(score_threshold=1.0), TASKS)[0].scores) == 0


@pytest.mark.parametrize("circle", [{}, {classes[0]: 1.0 for classes in TASKS}])
def test_one_kind_of_suppression_for_all_tasks(circle):
    head = maps_of({"car": [(5, 5, 3.0), (5, 5, 2.0)], "pedestrian": [(5, 5, 3.0), (6, 5, 2.0)]})
    (detections,) = decode_detections(head, GRID, NMSConfig(circle_classes=circle), TASKS)
    assert detections.labels.tolist() == [0, 8]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_selects_the_same_boxes():
    head = random_head(3, 4)
    matrices = torch.eye(4).expand(4, 4, 4)
    there = HeadOutput(tuple(TaskOutput(*(m.cuda() for m in vars(task).values())) for task in head.tasks))
    detections = decode_detections(there, GRID, NMSConfig(), TASKS, matrices.cuda())
    for on_gpu, expected in zip(detections, decode_detections(head, GRID, NMSConfig(), TASKS, matrices), strict=True):
        assert_same(on_gpu, expected)
