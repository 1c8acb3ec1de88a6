"""The detection head: per task a heatmap of object centres and the maps that describe the box at each centre.

Source: CenterPoint (Yin et al. 2021).
"""

from typing import cast

from jaxtyping import Float
from torch import Tensor, nn

from crkd_core.config.description import HeadTasks
from crkd_core.models.box_branches import BoxBranches, TaskOutputAtCells, normalise_branches
from crkd_core.models.box_coder import CHANNELS
from crkd_core.models.layers import conv_norm_relu
from crkd_core.models.outputs import HeadOutput, TaskOutput


class TaskHead(nn.Module):
    """The six maps of one task; their names are the fields of :class:`TaskOutput`."""

    def __init__(self, in_channels: int, map_channels: int, classes: int, heatmap_bias: float) -> None:
        super().__init__()
        maps = {"heatmap_logits": classes, **vars(CHANNELS)}
        self.maps = nn.ModuleDict(
            {
                name: nn.Sequential(
                    *conv_norm_relu(in_channels, map_channels),
                    nn.Conv2d(map_channels, channels, 3, padding=1),
                )
                for name, channels in maps.items()
            }
        )
        final_bias = self.maps["heatmap_logits"].get_submodule("3").get_parameter("bias")
        nn.init.constant_(final_bias, heatmap_bias)

    def forward(self, shared: Float[Tensor, "b c x y"], boxes: BoxBranches | None = None) -> TaskOutput:
        """Whole maps, or the whole heatmap alone where `boxes` has the box branches."""
        if boxes is not None:
            return TaskOutputAtCells(self.maps["heatmap_logits"](shared), boxes)
        return TaskOutput(**{name: layers(shared) for name, layers in self.maps.items()})

    @property
    def box_branches(self) -> list[nn.Sequential]:
        """The layers of the maps of the box code, in the order of its channels."""
        return [cast(nn.Sequential, self.maps[name]) for name in vars(CHANNELS)]


class CenterHead(nn.Module):
    """A shared convolution and one :class:`TaskHead` for each task."""

    def __init__(
        self, in_channels: int, shared_channels: int, map_channels: int, heatmap_bias: float, tasks: HeadTasks
    ) -> None:
        super().__init__()
        self.shared = conv_norm_relu(in_channels, shared_channels)
        self.tasks = nn.ModuleList(
            TaskHead(shared_channels, map_channels, len(classes), heatmap_bias) for classes in tasks
        )

    def forward(self, decoded: Float[Tensor, "b c x y"], box_maps: bool = True) -> HeadOutput:
        """All maps of all tasks.

        Args:
            box_maps: False: box codes will be read at a few cells, and are computed there only, where batch norms have
                a batch's statistics. They are the same, up to rounding.
        """
        shared = self.shared(decoded)
        branches = [cast(TaskHead, task).box_branches for task in self.tasks]
        if box_maps or not self.training or not _have_plain_norms(branches):
            return HeadOutput(tuple(task(shared) for task in self.tasks))
        boxes = normalise_branches(shared, branches)
        return HeadOutput(tuple(task(shared, of_task) for task, of_task in zip(self.tasks, boxes, strict=True)))


def _have_plain_norms(tasks: list[list[nn.Sequential]]) -> bool:
    """Whether statistics are those of a process's own batch."""
    return all(type(branch[1]) is nn.BatchNorm2d for task in tasks for branch in task)
