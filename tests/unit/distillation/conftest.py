"""Random detector outputs, boxes and the recorded values of the published implementation."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from crkd_core.geometry.boxes import Boxes3D
from crkd_core.geometry.grid import BEVGrid
from crkd_core.models.outputs import BEVFeatures, DetectorOutput, HeadOutput, TaskOutput
from tests.support.described import TASKS


@pytest.fixture
def paper_grid() -> BEVGrid:
    return BEVGrid((-54.0, 54.0), (-54.0, 54.0), (-5.0, 3.0), 0.6)


@pytest.fixture
def small_grid() -> BEVGrid:
    """20 x 16 cells of 1.5 m."""
    return BEVGrid((-15.0, 15.0), (-12.0, 12.0), (-5.0, 3.0), 1.5)


@pytest.fixture
def random_output(small_grid: BEVGrid) -> Callable[..., DetectorOutput]:
    """A detector output of random maps whose leaves require gradients; heatmaps have hot and cold samples."""

    def make(
        seed: int,
        batch: int = 3,
        dtype: torch.dtype = torch.float32,
        heat: float = -3.0,
        grid: BEVGrid = small_grid,
    ) -> DetectorOutput:
        generator = torch.Generator().manual_seed(seed)

        def bev_map(channels: int, shift: float = 0.0) -> Tensor:
            values = torch.randn(batch, channels, *grid.shape, generator=generator) + shift
            return values.to(dtype).requires_grad_()

        def heatmap(channels: int) -> Tensor:
            values = torch.randn(batch, channels, *grid.shape, generator=generator) * 2 + heat
            values = values - 3.0 * torch.arange(batch)[:, None, None, None]
            return values.to(dtype).requires_grad_()

        tasks = tuple(
            TaskOutput(heatmap(len(task)), bev_map(2), bev_map(1), bev_map(3), bev_map(2), bev_map(2)) for task in TASKS
        )
        camera, points, fused = bev_map(5), bev_map(8), bev_map(8)
        return DetectorOutput(
            BEVFeatures(camera, points, camera, points, fused.relu(), bev_map(1).relu()), HeadOutput(tasks)
        )

    return make


@pytest.fixture
def random_boxes() -> Callable[[int, int], list[Boxes3D]]:
    """Boxes per sample: moving, still and of unknown velocity, some across or beyond the border; the last has none."""

    def make(seed: int, batch: int = 3) -> list[Boxes3D]:
        generator = torch.Generator().manual_seed(seed)
        samples = []
        for index in range(batch):
            count = 0 if index == batch - 1 and batch > 1 else 6
            tensor = torch.rand((count, 9), generator=generator)
            tensor[:, :2] = (tensor[:, :2] - 0.5) * 40
            tensor[:, 3:6] = tensor[:, 3:6] * torch.tensor([2.0, 5.0, 2.0]) + 0.3
            tensor[:, 6] *= 2 * math.pi
            tensor[::2, 7:] = float("nan")
            samples.append(Boxes3D(tensor))
        return samples

    return make


@pytest.fixture
def leaves() -> Callable[[DetectorOutput], list[Tensor]]:
    """All tensors of a detector output that take part in a loss."""

    def collect(output: DetectorOutput) -> list[Tensor]:
        features = output.features
        maps = [features.gated_camera, features.fused, features.radar_activation]
        for task in output.head.tasks:
            maps += [task.heatmap_logits, task.offset, task.height, task.log_size, task.rotation, task.velocity]
        return [bev_map for bev_map in maps if bev_map is not None]

    return collect
