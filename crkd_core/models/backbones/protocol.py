"""What a detector asks of an image backbone."""

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, nn

from crkd_core.errors import ConfigError

NECK_REDUCTIONS = (8, 16, 32)


class Backbone(nn.Module, ABC):
    """Images to feature maps of several resolutions, finest first.

    The necks read the last three maps, at 1/8, 1/16 and 1/32 of the image; a second_fpn also one at 1/4 before them.

    Attributes:
        out_channels: channels of each map.
        reductions: pixels of the image along a side of one cell of each map.
    """

    out_channels: tuple[int, ...]
    reductions: tuple[int, ...]

    @abstractmethod
    def forward(self, images: Float[Tensor, "n 3 h w"]) -> tuple[Tensor, ...]:
        """One map [N, out_channels[i], H / reductions[i], W / reductions[i]] for each i, sides rounded up."""


def check_reductions(name: str, reductions: tuple[int, ...], setting: str = "camera.backbone") -> None:
    """The necks can read the maps of the backbone `name`, which `setting` chose.

    Raises:
        ConfigError: its last maps are not those at 1/8, 1/16 and 1/32 of the image.
    """
    if reductions[-3:] != NECK_REDUCTIONS:
        raise ConfigError(
            f"{setting}: the necks need maps at 1/8, 1/16 and 1/32 of the image, and {name} has "
            f"1/{', 1/'.join(map(str, reductions))}; choose another model"
        )
