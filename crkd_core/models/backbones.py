"""Choosing the image backbone, and backbones of the optional timm library."""

import importlib
import importlib.util
from types import ModuleType
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from crkd_core.config.models import ResNetConfig, SwinConfig, TimmConfig
from crkd_core.errors import ConfigError
from crkd_core.models.resnet import ResNet
from crkd_core.models.swin import SwinTransformer

_REDUCTIONS = (4, 8, 16, 32)


class TimmBackbone(nn.Module):
    """A timm model; returns its maps at 1/4 (where it has one), 1/8, 1/16 and 1/32 of the input.

    Attributes:
        out_channels: channels of the returned maps.

    Raises:
        ConfigError: timm is not installed, has no such model, or the model lacks one of the last three maps.
    """

    def __init__(self, config: TimmConfig) -> None:
        super().__init__()
        timm = _import_timm()
        try:
            reductions = _feature_info(timm.create_model(config.name, features_only=True, pretrained=False)).reduction()
            wanted = [index for index, reduction in enumerate(reductions) if reduction in _REDUCTIONS]
            self.body: nn.Module = timm.create_model(
                config.name, features_only=True, pretrained=False, out_indices=wanted
            )
        except RuntimeError as error:
            raise ConfigError(
                f"timm cannot build the image backbone {config.name!r} as a feature extractor: "
                f"{str(error).splitlines()[0]}; choose another camera.backbone.name (timm.list_models() has them all)"
            ) from error
        found = _feature_info(self.body).reduction()
        if tuple(found[-3:]) != _REDUCTIONS[1:]:
            raise ConfigError(
                f"camera.backbone.name: the necks need maps at 1/8, 1/16 and 1/32 of the image, and {config.name} has "
                f"1/{', 1/'.join(str(reduction) for reduction in found)}; choose another model"
            )
        self.out_channels = tuple(_feature_info(self.body).channels())

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> tuple[Tensor, ...]:
        return tuple(self.body(images))


def build_backbone(config: ResNetConfig | SwinConfig | TimmConfig) -> ResNet | SwinTransformer | TimmBackbone:
    """The configured image backbone with fresh weights."""
    if isinstance(config, ResNetConfig):
        return ResNet(config)
    return SwinTransformer(config) if isinstance(config, SwinConfig) else TimmBackbone(config)


def _import_timm() -> ModuleType:
    if importlib.util.find_spec("timm") is None:
        raise ConfigError(
            "camera.backbone.kind timm needs the optional timm library, which is not installed; "
            "run: pip install crkd[timm]"
        )
    return importlib.import_module("timm")


def _feature_info(model: Any) -> Any:
    return model.feature_info
