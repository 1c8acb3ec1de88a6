"""From a head's maps to detections: all samples and tasks together against a plain Python loop over boxes.

The maps are a trained head's as far as selection goes: objects of all ten classes at the grid of a preset, a Gaussian
peak of its own height for each, twice as many faint peaks where nothing is, noise, and around every peak cells whose
boxes almost agree, for suppression to sort out. Both ways give the same detections, which is checked. The loop works
task by task and box by box on Python numbers; it leaves out pairs that are too far apart to overlap.
Times are medians over repeats, per sample.

    python examples/benchmarks/decoding.py [--preset paper-r50] [--batches 1 4] [--device cpu|cuda]
"""

import argparse
import math

import torch
from measuring import median_seconds, show
from torch import Tensor

from crkd_core.config.description_files import nuscenes
from crkd_core.config.loading import load_config
from crkd_core.config.models import NMSConfig
from crkd_core.geometry.boxes import Boxes3D
from crkd_core.geometry.grid import BEVGrid
from crkd_core.models.box_coder import CHANNELS, BoxCoder
from crkd_core.models.decode import SampleDetections, decode_detections, decode_peaks
from crkd_core.models.head_targets import draw_gaussians, gaussian_radius
from crkd_core.models.outputs import HeadOutput, TaskOutput

CLASSES, TASKS = nuscenes().class_names, nuscenes().head_tasks
# Objects of a sample by class, and their width, length and height (m): about what a busy nuScenes key frame shows.
OBJECTS = {
    "car": (18, 1.95, 4.6, 1.7),
    "truck": (4, 2.5, 6.9, 2.8),
    "construction_vehicle": (1, 2.8, 6.4, 3.2),
    "bus": (1, 2.9, 11.0, 3.5),
    "trailer": (2, 2.9, 12.3, 3.9),
    "barrier": (10, 2.5, 0.5, 1.0),
    "motorcycle": (1, 0.8, 2.1, 1.5),
    "bicycle": (1, 0.6, 1.7, 1.3),
    "pedestrian": (12, 0.7, 0.7, 1.8),
    "traffic_cone": (6, 0.4, 0.4, 1.1),
}


def make_head(grid: BEVGrid, samples: int) -> HeadOutput:
    """Maps of `samples` different scenes."""
    scenes = [_task_maps(grid, torch.Generator().manual_seed(seed)) for seed in range(samples)]
    return HeadOutput(
        tuple(TaskOutput(*(torch.stack(maps) for maps in zip(*tasks, strict=True))) for tasks in zip(*scenes))
    )


def _task_maps(grid: BEVGrid, generator: torch.Generator) -> list[tuple[Tensor, ...]]:
    tasks = []
    for classes in TASKS:
        probability = 0.03 * torch.rand((len(classes), *grid.shape), generator=generator)
        regression = torch.randn((10, *grid.shape), generator=generator) * 0.1
        for channel, name in enumerate(classes):
            for times, (least, most) in ((1, (0.15, 0.95)), (2, (0.05, 0.3))):
                for row in _objects(name, times, grid, generator):
                    height = least + (most - least) * float(torch.rand((), generator=generator))
                    _draw(row, height, grid, probability[channel], regression, generator)
        tasks.append((torch.logit(probability), *regression.split([*CHANNELS])))
    return tasks


def _objects(name: str, times: int, grid: BEVGrid, generator: torch.Generator) -> Tensor:
    count, *size = OBJECTS[name]
    random = torch.rand((times * count, 9), generator=generator)
    lower = torch.tensor([grid.x_range_m[0], grid.y_range_m[0], -2.0])
    extent = torch.tensor([grid.x_range_m[1], grid.y_range_m[1], 0.0]) - lower
    sizes = torch.tensor(size) * (0.8 + 0.4 * random[:, 3:6])
    motion = (random[:, 6:] - 0.5) * torch.tensor([2 * math.pi, 10.0, 10.0])
    return torch.cat([lower + random[:, :3] * extent, sizes, motion], dim=1)


def _draw(
    row: Tensor, height: float, grid: BEVGrid, probability: Tensor, regression: Tensor, generator: torch.Generator
) -> None:
    """Add one object: its peak, and its box, a little different, at every cell of the peak's window."""
    cell = grid.locate(row[None, :2])[0]
    radius = gaussian_radius(row[4:5] / grid.cell_m, row[3:4] / grid.cell_m, 0.1).int().clamp(min=2)
    window = draw_gaussians(torch.nn.functional.pad(cell, (1, 0)), radius, (1, *grid.shape))[0]
    # A trained head's peak is narrower than its target: far from the centre it is sure that there is none.
    probability.copy_(torch.maximum(probability, height * window**1.5))
    around = window > 0
    noise = torch.randn((10, int(around.sum())), generator=generator) * 0.05
    target = BoxCoder(grid).encode(row[None], cell)[0]
    centres = torch.nonzero(around).float()
    offset = (grid.to_cells(row[:2]) - centres).T.clamp(-1, 2)
    regression[:, around] = target[:, None] + noise
    regression[:2, around] = offset + noise[:2]


def loop_over_boxes(head: HeadOutput, grid: BEVGrid, config: NMSConfig) -> list[SampleDetections]:
    """The definition: task by task, box by box."""
    samples = []
    for sample in range(len(head.tasks[0].offset)):
        rows: list[list[float]] = []
        for task, classes in zip(head.tasks, TASKS, strict=True):
            candidates = _read_candidates(task, sample, CLASSES.index(classes[0]), grid, config)
            rows += _keep_best(candidates, classes, config)
        table = torch.tensor(rows, dtype=torch.float64).reshape(-1, 11)
        samples.append(SampleDetections(Boxes3D(table[:, :9].float()), table[:, 9].float(), table[:, 10].long()))
    return samples


def _read_candidates(
    task: TaskOutput, sample: int, first_label: int, grid: BEVGrid, config: NMSConfig
) -> list[list[float]]:
    scores = task.heatmap_logits[sample].flatten().double().sigmoid()
    above = torch.nonzero(scores > config.score_threshold).flatten()
    ranked = sorted(zip(scores[above].tolist(), above.tolist(), strict=True), key=lambda pair: -pair[0])
    regression = task.regression[sample].flatten(1)
    (nx, ny), rows = grid.shape, []
    for score, index in ranked[: config.max_candidates]:
        channel, cell = divmod(index, nx * ny)
        dx, dy, z, log_w, log_l, log_h, sine, cosine, vx, vy = regression[:, cell].tolist()
        x = (cell // ny + dx) * grid.cell_m + grid.x_range_m[0]
        y = (cell % ny + dy) * grid.cell_m + grid.y_range_m[0]
        if max(abs(x), abs(y)) > config.centre_limit_m or abs(z) > config.height_limit_m:
            continue
        size = (math.exp(log_w), math.exp(log_l), math.exp(log_h))
        rows.append([x, y, z, *size, math.atan2(-cosine, -sine), vx, vy, score, first_label + channel])
    return rows


def _keep_best(candidates: list[list[float]], classes: tuple[str, ...], config: NMSConfig) -> list[list[float]]:
    squared_m2 = config.circle_classes.get(classes[0])
    outlines = [] if squared_m2 else [_outline(row, config) for row in candidates]
    kept: list[int] = []
    for index, row in enumerate(candidates):
        for better in kept:
            other = candidates[better]
            distance_m2 = (row[0] - other[0]) ** 2 + (row[1] - other[1]) ** 2
            if squared_m2:
                if distance_m2 <= squared_m2:
                    break
            elif _overlap(outlines[index], outlines[better], distance_m2) > config.rotated_iou:
                break
        else:
            kept.append(index)
    return [candidates[index] for index in kept[: config.max_detections]]


def _outline(row: list[float], config: NMSConfig) -> tuple[list[tuple[float, float]], float, float]:
    """Corners counter-clockwise, area, and radius of the circle around them."""
    factor = config.size_factors.get(CLASSES[int(row[10])], 1.0)
    width, length, cos, sin = row[3] * factor, row[4] * factor, math.cos(row[6]), math.sin(row[6])
    corners = []
    for along, across in ((0.5, 0.5), (-0.5, 0.5), (-0.5, -0.5), (0.5, -0.5)):
        x, y = along * length, across * width
        corners.append((row[0] + x * cos - y * sin, row[1] + x * sin + y * cos))
    return corners, width * length, math.hypot(width, length) / 2


def _overlap(first: tuple, second: tuple, distance_m2: float) -> float:
    """Intersection over union, the first outline cut by each side of the second."""
    if distance_m2 > (first[2] + second[2]) ** 2:
        return 0.0
    corners = first[0]
    for index, (x0, y0) in enumerate(second[0]):
        x1, y1 = second[0][index - 3]
        depths = [(x1 - x0) * (y - y0) - (y1 - y0) * (x - x0) for x, y in corners]
        cut = []
        for at, (x, y) in enumerate(corners):
            before, depth = depths[at - 1], depths[at]
            if (before < 0) != (depth < 0):
                share = before / (before - depth)
                px, py = corners[at - 1]
                cut.append((px + share * (x - px), py + share * (y - py)))
            if depth >= 0:
                cut.append((x, y))
        corners = cut
    area = sum(corners[i - 1][0] * y - x * corners[i - 1][1] for i, (x, y) in enumerate(corners)) / 2
    return area / (first[1] + second[1] - area)


def check_equal(batched: list[SampleDetections], loop: list[SampleDetections]) -> None:
    """Raises:
    AssertionError: the two ways differ.
    """
    for actual, expected in zip(batched, loop, strict=True):
        torch.testing.assert_close(actual.labels.cpu(), expected.labels, rtol=0, atol=0)
        torch.testing.assert_close(actual.scores.cpu(), expected.scores, rtol=0, atol=1e-6)
        torch.testing.assert_close(actual.boxes.tensor.cpu(), expected.boxes.tensor, rtol=1e-5, atol=1e-5)


def measure(grid: BEVGrid, config: NMSConfig, samples: int, device: str, repeats: int) -> list[str]:
    """One row of the table."""
    head = make_head(grid, samples)
    there = HeadOutput(tuple(TaskOutput(*(m.to(device) for m in vars(task).values())) for task in head.tasks))
    check_equal(batched := decode_detections(there, grid, config, TASKS), loop_over_boxes(head, grid, config))
    candidates = int(decode_peaks(head, grid, config).valid.sum()) / samples
    kept = sum(len(decoded.scores) for decoded in batched) / samples
    fast = median_seconds(lambda: decode_detections(there, grid, config, TASKS), repeats, device) * 1e3 / samples
    slow = median_seconds(lambda: loop_over_boxes(head, grid, config), repeats) * 1e3 / samples
    return [f"batch {samples}", f"{candidates:.0f}", f"{kept:.0f}", f"{fast:.2f}", f"{slow:.2f}", f"{slow / fast:.1f}x"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="paper-r50", help="configuration whose grid and thresholds are taken")
    parser.add_argument("--batches", nargs="+", type=int, default=(1, 4), help="samples decoded together")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--repeats", type=int, default=10, help="timed calls, after one that is not counted")
    options = parser.parse_args()
    config = load_config(options.preset)
    grid, head = config.data.grid.build(), config.student.head
    rows = [measure(grid, head.nms, size, options.device, options.repeats) for size in options.batches]
    where = torch.cuda.get_device_name() if options.device == "cuda" else f"{torch.get_num_threads()} threads"
    cells = "x".join(str(side) for side in grid.shape)
    columns = ["", "candidates", "detections", "batched (ms)", "loop (ms)", "ratio"]
    show(f"Decoding per sample, {options.preset} ({cells} cells, six tasks), {where}", columns, rows)


if __name__ == "__main__":
    main()
