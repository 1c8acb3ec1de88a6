"""Image backbones of the optional timm library."""

import importlib
import importlib.util
from types import ModuleType
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from crkd_core.config.models import TimmConfig
from crkd_core.errors import ConfigError
from crkd_core.models.backbones.protocol import NECK_REDUCTIONS, Backbone, check_reductions

_READABLE = (4, *NECK_REDUCTIONS)


class TimmBackbone(Backbone):
    """A timm model; returns its maps at 1/4 (where it has one), 1/8, 1/16 and 1/32 of the input.

    Raises:
        ConfigError: timm is not installed, has no such model, or the model lacks one of the last three maps.
    """

    def __init__(self, config: TimmConfig) -> None:
        super().__init__()
        timm = _import_timm()
        try:
            every_map = _feature_info(timm.create_model(config.name, features_only=True, pretrained=False)).reduction()
            readable = [index for index, reduction in enumerate(every_map) if reduction in _READABLE]
            self.body: nn.Module = timm.create_model(
                config.name, features_only=True, pretrained=False, out_indices=readable
            )
        except RuntimeError as error:
            raise ConfigError(
                f"timm cannot build the image backbone {config.name!r} as a feature extractor: "
                f"{str(error).splitlines()[0]}; choose another camera.backbone.name (timm.list_models() has them all)"
            ) from error
        self.out_channels = tuple(_feature_info(self.body).channels())
        self.reductions = tuple(_feature_info(self.body).reduction())
        check_reductions(config.name, self.reductions, "camera.backbone.name")

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> tuple[Tensor, ...]:
        return tuple(self.body(images))


def _import_timm() -> ModuleType:
    if importlib.util.find_spec("timm") is None:
        raise ConfigError(
            "camera.backbone.kind timm needs the optional timm library, which is not installed; "
            "run: pip install crkd[timm]"
        )
    return importlib.import_module("timm")


def _feature_info(model: Any) -> Any:
    return model.feature_info
