"""Image backbones, one file each, behind one protocol."""

from crkd_core.config.models import BackboneConfig, ResNetConfig, SwinConfig, TimmConfig
from crkd_core.models.backbones.protocol import Backbone
from crkd_core.models.backbones.resnet import ResNet
from crkd_core.models.backbones.swin import SwinTransformer
from crkd_core.models.backbones.timm import TimmBackbone

__all__ = ["Backbone", "build_backbone"]


def build_backbone(config: BackboneConfig) -> Backbone:
    """The configured image backbone with fresh weights."""
    match config:
        case ResNetConfig():
            return ResNet(config)
        case SwinConfig():
            return SwinTransformer(config)
        case TimmConfig():
            return TimmBackbone(config)
