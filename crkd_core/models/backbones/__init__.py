"""Image backbones, one file each, behind one protocol."""

from crkd_core.config.models import BackboneConfig, ResNetConfig, SwinConfig
from crkd_core.models.backbones.protocol import Backbone
from crkd_core.models.backbones.resnet import ResNet
from crkd_core.models.backbones.swin import SwinTransformer
from crkd_core.models.backbones.timm import TimmBackbone

__all__ = ["Backbone", "build_backbone"]


def build_backbone(config: BackboneConfig) -> Backbone:
    """The configured image backbone with fresh weights."""
    if isinstance(config, ResNetConfig):
        return ResNet(config)
    return SwinTransformer(config) if isinstance(config, SwinConfig) else TimmBackbone(config)
