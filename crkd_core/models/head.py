"""The detection head: per task a heatmap of object centres and the maps that describe the box at each centre.

Source: CenterPoint (Yin et al. 2021).
"""

from jaxtyping import Float
from torch import Tensor, nn

from crkd_core.config.description import HeadTasks
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

    def forward(self, shared: Float[Tensor, "b c x y"]) -> TaskOutput:
        return TaskOutput(**{name: layers(shared) for name, layers in self.maps.items()})


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

    def forward(self, decoded: Float[Tensor, "b c x y"]) -> HeadOutput:
        shared = self.shared(decoded)
        return HeadOutput(tuple(task(shared) for task in self.tasks))
