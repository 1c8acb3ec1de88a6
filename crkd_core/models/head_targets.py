"""What the head should say for given boxes: Gaussian peaks on the heatmaps and one regression row for each object.

Source: CenterPoint; the radius formula is CornerNet's in the variant that CenterPoint's published models were
trained with (all three roots are ``(b + sqrt) / 2``, without the division by ``2 a``). A centre belongs to a cell
by floor; the released code truncates and so supervises centres just below the lower border in cell 0.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from crkd_core.config.description import HeadTasks
from crkd_core.config.models import HeadConfig
from crkd_core.geometry.boxes import Boxes3D
from crkd_core.geometry.grid import BEVGrid
from crkd_core.models.box_coder import CHANNEL_COUNT, BoxCoder


@dataclass(frozen=True)
class TaskTargets:
    """Targets of one head task with K classes for B samples and up to M objects each.

    Attributes:
        heatmap: (B, K, X, Y) in [0, 1], 1 at the cell of each object's centre.
        cells: (B, M) flat cell ``x * ny + y`` of each object.
        boxes: (B, M, 10) box codes seen from `cells`.
        valid: (B, M) whether the slot holds an object on the grid.
    """

    heatmap: Tensor
    cells: Tensor
    boxes: Tensor
    valid: Tensor

    def objects(self) -> tuple[Int[Tensor, "n"], Float[Tensor, "n channels"]]:
        """Cells ``b * X * Y + x * Y + y``, counted through the whole batch, and codes of the slots with an object."""
        sample, slot = torch.nonzero(self.valid, as_tuple=True)
        cells_a_sample = self.heatmap[0, 0].numel()
        return sample * cells_a_sample + self.cells[sample, slot], self.boxes[sample, slot]


@dataclass(frozen=True)
class HeadTargets:
    """One :class:`TaskTargets` per head task, and the first class of each, by which loss terms are named."""

    tasks: tuple[TaskTargets, ...]
    names: tuple[str, ...]

    @property
    def sizes(self) -> list[int]:
        """Classes of each task."""
        return [task.heatmap.shape[1] for task in self.tasks]


@torch.no_grad()
def build_head_targets(
    boxes: list[Boxes3D], labels: list[Tensor], grid: BEVGrid, config: HeadConfig, tasks: HeadTasks
) -> HeadTargets:
    """Targets of a batch.

    Args:
        boxes: objects of each sample in the model frame.
        labels: (M,) of each object; what is no class, such as -1, is ignored.
        grid: the head's grid.
        config: radius, and the number of objects supervised of a task and sample; later objects are left out.
        tasks: the head's.
    """
    sizes = [len(classes) for classes in tasks]
    objects = _sort_objects(boxes, labels, sizes, config.max_objects)
    rows, slot = objects.boxes, (objects.sample, objects.task, objects.slot)

    cells, inside = grid.locate(rows[:, :2])
    valid = inside & (rows[:, 3] > 0) & (rows[:, 4] > 0)
    length, width = rows[:, 4] / grid.cell_m, rows[:, 3] / grid.cell_m
    radius = gaussian_radius(length, width, config.gaussian_overlap)
    radius = radius.nan_to_num().int().clamp(min=config.min_radius_cells)
    peaks = torch.cat([(objects.sample * sum(sizes) + objects.label)[:, None], cells], dim=1)[valid]
    heatmaps = draw_gaussians(peaks, radius[valid], (len(boxes) * sum(sizes), *grid.shape))

    slots = (len(boxes), len(tasks), config.max_objects)
    flat = rows.new_zeros(slots, dtype=torch.long)
    flat[slot] = torch.where(valid, grid.flatten(cells), 0)
    mask = rows.new_zeros(slots, dtype=torch.bool)
    mask[slot] = valid
    codes = rows.new_zeros((*slots, CHANNEL_COUNT))
    codes[slot] = torch.where(valid[:, None], BoxCoder(grid).encode(rows, cells), 0.0)
    parts = zip(
        heatmaps.view(len(boxes), sum(sizes), *grid.shape).split(sizes, dim=1),
        flat.unbind(dim=1),
        codes.unbind(dim=1),
        mask.unbind(dim=1),
        strict=True,
    )
    return HeadTargets(tuple(TaskTargets(*part) for part in parts), tuple(classes[0] for classes in tasks))


@dataclass(frozen=True)
class _SortedObjects:
    """The supervised objects of a whole batch: sample by sample, in each class by class, in each as they came.

    Attributes:
        boxes: (N, 9); `label`: (N,) its class, which is its channel among the heatmaps of all tasks.
        sample, task, slot: (N,) where an object stands in the targets.
    """

    boxes: Tensor
    label: Tensor
    sample: Tensor
    task: Tensor
    slot: Tensor


def _sort_objects(boxes: list[Boxes3D], labels: list[Tensor], sizes: list[int], limit: int) -> _SortedObjects:
    # One sort for all samples and tasks: a GPU would spend longer starting the small kernels of each than training.
    classes, device = sum(sizes), boxes[0].tensor.device
    label = torch.cat([part.to(device) for part in labels])
    counts = [len(part) for part in labels]
    sample = torch.repeat_interleave(torch.tensor(counts, device=device), output_size=sum(counts))
    chosen = torch.nonzero((label >= 0) & (label < classes)).flatten()
    chosen = chosen[torch.sort(sample[chosen] * classes + label[chosen], stable=True).indices]
    sample, label = sample[chosen], label[chosen]

    task = torch.tensor([index for index, size in enumerate(sizes) for _ in range(size)], device=device)[label]
    group = sample * len(sizes) + task
    slot = torch.arange(len(group), device=device) - torch.searchsorted(group, group)
    objects = torch.cat([part.tensor.float() for part in boxes])[chosen]
    if max(counts) > limit:
        kept = slot < limit
        objects, label, sample, task, slot = (part[kept] for part in (objects, label, sample, task, slot))
    return _SortedObjects(objects, label, sample, task, slot)


def gaussian_radius(
    length_cells: Float[Tensor, "*n"], width_cells: Float[Tensor, "*n"], overlap: float
) -> Float[Tensor, "*n"]:
    """How far (cells) a centre may move until the box overlaps the true one by less than `overlap`, as published."""
    total, area = length_cells + width_cells, length_cells * width_cells
    outside = (total + (total**2 - 4 * area * (1 - overlap) / (1 + overlap)).sqrt()) / 2
    inside = (2 * total + (4 * total**2 - 16 * area * (1 - overlap)).sqrt()) / 2
    b = -2 * overlap * total
    across = (b + (b**2 + 16 * overlap * area * (1 - overlap)).sqrt()) / 2
    return torch.minimum(torch.minimum(outside, inside), across)


def draw_gaussians(
    peaks: Int[Tensor, "m 3"], radius_cells: Int[Tensor, "m"], shape: tuple[int, int, int]
) -> Float[Tensor, "k x y"]:
    """Maps with a Gaussian window around each peak; where windows meet the higher value counts.

    Args:
        peaks: channel, x and y cell of each peak.
        radius_cells: half size of the square window; the deviation is ``(2 radius + 1) / 6``.
        shape: channels, cells along x, cells along y.
    """
    heatmap = torch.zeros(math.prod(shape), device=peaks.device)
    if not len(peaks):
        return heatmap.view(shape)
    reach = int(radius_cells.max())
    steps = torch.arange(-reach, reach + 1, device=peaks.device)
    step = torch.cartesian_prod(steps, steps)
    cells = peaks[:, None, 1:] + step
    sigma = (2 * radius_cells.double() + 1) / 6
    values = torch.exp(-step.square().sum(dim=1) / (2 * sigma[:, None] ** 2)).float()
    inside = (step.abs() <= radius_cells[:, None, None]).all(dim=2) & (cells >= 0).all(dim=2)
    inside &= (cells[..., 0] < shape[1]) & (cells[..., 1] < shape[2])
    index = (peaks[:, :1] * shape[1] + cells[..., 0]) * shape[2] + cells[..., 1]
    return heatmap.scatter_reduce(0, index[inside], values[inside], reduce="amax").view(shape)
